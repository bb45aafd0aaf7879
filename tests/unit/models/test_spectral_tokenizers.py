"""LaBraM and NeuroRVQ: published sizes, phases without a jump, planted waveforms, prefixes of levels."""

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score

from neurofm.models import MODELS
from neurofm.models.base import CodebookModel
from neurofm.models.spectral_tokenizer import sincos_loss
from neurofm.nn.spectrum import spectrum_of
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

PUBLISHED = Facts(rate_hz=200.0, window_s=4, max_channels=6, channels=tuple("abcdef"))
RATE_HZ, P, C, T = 100.0, 20, 4, 10
FACTS = Facts(rate_hz=RATE_HZ, window_s=T * P / RATE_HZ, max_channels=C, channels=tuple("abcd"))
SMALL = dict(patch_samples=P, dim=32, n_layers=1, n_decoder_layers=1, n_heads=2, code_dim=8)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def on_paper(name, **choices):
    with torch.device("meta"):
        return MODELS.build(name, PUBLISHED, patch_samples=200, **choices)


@pytest.mark.parametrize(
    ("choices", "millions", "within"),
    [
        (dict(), 5.82, 0.01),
        (dict(dim=400, n_layers=24, n_heads=16), 46, 0.5),
        (dict(dim=800, n_layers=48, n_heads=16), 369, 0.5),
    ],
    ids=["base", "large", "huge"],
)
def test_labram_has_the_published_sizes(choices, millions, within):
    model = on_paper("labram", n_names=128, n_positions=16, **choices)
    assert n_parameters(model) / 1e6 == pytest.approx(millions, abs=within)
    # 8, 16, 32 feature maps of 25 steps are the width: no map in between
    assert isinstance(model.tokenizer.project, torch.nn.Identity)


def test_neurorvq_has_the_published_sizes():
    backbone = on_paper("neurorvq_backbone", n_names=103, n_positions=256)
    assert n_parameters(backbone) / 1e6 == pytest.approx(5.87, abs=0.005)
    tokenizer = on_paper("neurorvq_tokenizer", n_names=103, n_positions=256)
    assert n_parameters(tokenizer.encoder) + n_parameters(tokenizer.tokenizer) == pytest.approx(5.87e6, rel=1e-3)
    assert n_parameters(tokenizer.decoder) + n_parameters(tokenizer.from_code) == pytest.approx(1.62e6, rel=2e-3)
    # ours has heads for 101 frequencies, the published for 200, of which 99 are the mirror image of others
    mirrored = 3 * 99 * (200 + 1)
    assert n_parameters(tokenizer) + mirrored == pytest.approx(8.36e6, rel=1e-3)
    assert sum(level.codes.numel() for q in tokenizer.quantizers for level in q.levels) == 4 * 8 * 8192 * 128
    assert tokenizer.n_codes == (8192,) * 32


def batch_of(signal, **more):
    n, c, s = signal.shape
    return NeuralBatch(
        signal=signal, channel_mask=torch.ones(n, c, dtype=torch.bool), time_mask=torch.ones(n, s, dtype=torch.bool),
        rate_hz=RATE_HZ, channel_ids=torch.arange(1, c + 1).expand(n, -1), **more,
    )  # fmt: skip


def planted(seed, n=16):
    """Windows of eight waveforms, one per patch and channel, of varying size, in noise; and which one is where."""
    t = torch.arange(P) / P
    shapes = [
        (1, 0, 0.5, 0.4), (2, 1, 0.3, 0.3), (3, 0, 0.7, 0.2), (5, 2, 0.5, 0.5),
        (1, 3, 0.2, 0.2), (7, 0, 0.4, 0.4), (2, 4, 0.8, 0.3), (4, 1, 0.1, 0.5),
    ]  # fmt: skip
    waves = torch.stack(
        [torch.sin(2 * torch.pi * f * t + phase) * torch.exp(-(((t - c) / w) ** 2)) for f, phase, c, w in shapes]
    )
    waves = waves / waves.square().mean(1, keepdim=True).sqrt()
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(len(waves), (n, C, T), generator=g)
    size = 0.8 + 0.4 * torch.rand(n, C, T, 1, generator=g)
    signal = waves[label] * size + 0.3 * torch.randn(n, C, T, P, generator=g)
    return batch_of(signal.flatten(2)), label.transpose(1, 2).flatten(1)


def train(model, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        terms, metrics = model.losses(planted(step)[0], None)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    return metrics


def test_planted_waveforms_are_recovered():
    torch.manual_seed(0)
    model = MODELS.build("labram_tokenizer", FACTS, phase="sincos", n_codes=12, decay=0.9, restart_below=0.1, **SMALL)
    train(model, 100)
    batch, label = planted(9999, n=64)
    code = model.codes(batch).code
    assert code.shape == (64, T * C, 1)
    assert adjusted_mutual_info_score(label.flatten().numpy(), code.flatten().numpy()) > 0.8


def test_each_level_of_neurorvq_adds_to_the_reconstruction():
    torch.manual_seed(0)
    model = MODELS.build(
        "neurorvq_tokenizer", FACTS, n_codes=3, n_levels=3, level_dropout=True, decay=0.9, scaling="none", **SMALL
    )
    assert isinstance(model, CodebookModel)
    train(model, 40)
    batch, _ = planted(9999)
    codes, truth = model.codes(batch), model.normalised(batch)
    errors = []
    for n in (1, 2, 3):
        code = codes.code.unflatten(-1, (4, 3))[..., :n].flatten(-2)
        errors.append(
            float((model.decode(codes._replace(code=code), batch) - truth).square().mean() / truth.square().mean())
        )
    assert errors[2] < errors[1] < errors[0] < 0.9, errors
    with pytest.raises(ConfigError, match="4 branches of 3 levels"):
        model.decode(codes._replace(code=codes.code[..., :5]), batch)


def test_the_phase_loss_knows_no_jump():
    """Phases on either side of ±π are near in sine and cosine; the published angle of LaBraM is 2π apart."""
    angle = torch.tensor([torch.pi - 0.01, 3.0, 1.0])
    truth = spectrum_of(torch.randn(1, 4))._replace(sin=angle.sin(), cos=angle.cos())
    near = -torch.pi + 0.01
    assert float(sincos_loss(torch.tensor(near).sin(), torch.tensor(near).cos(), truth)[0]) < 1e-3
    assert float(sincos_loss(angle.sin(), angle.cos(), truth).abs().max()) < 1e-6
    # opposite phases cost most, and a short vector costs its shortness
    assert float(sincos_loss(-angle.sin(), -angle.cos(), truth)[1]) == pytest.approx(2, abs=1e-5)
    assert float(sincos_loss(angle.sin() / 2, angle.cos() / 2, truth)[1]) == pytest.approx(0.1 * 0.75**2, abs=1e-5)


def test_codes_learn_nothing_and_have_no_chance_in_them():
    torch.manual_seed(0)
    model = MODELS.build("neurorvq_tokenizer", FACTS, n_codes=8, n_levels=2, dropout=0.5, **SMALL)
    batch, _ = planted(0)
    model.losses(batch, None)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first, second = model.codes(batch), model.codes(batch)
    assert model.training
    assert torch.equal(first.code, second.code)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_normalised_windows():
    torch.manual_seed(0)
    batch, _ = planted(0, n=3)
    batch.channel_mask[1, 2:] = False
    batch = batch.with_signal(50 + 7 * batch.signal + 1e6 * ~batch.channel_mask[..., None])
    model = MODELS.build("neurorvq_tokenizer", FACTS, n_codes=8, n_levels=2, **SMALL)
    x = model.normalised(batch)
    assert not x[1, 2:].any()
    for i, k in enumerate((4, 2, 4)):
        assert float(x[i, :k].mean()) == pytest.approx(0, abs=1e-5)
        assert float(x[i, :k].std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_right_aligned_windows_use_the_last_times():
    torch.manual_seed(0)
    model = MODELS.build(
        "neurorvq_backbone", FACTS, patch_samples=P, dim=16, n_layers=1, n_heads=2, n_positions=T
    ).eval()
    batch, _ = planted(0)
    place = model.encoder.embed(batch, T)
    assert torch.equal(model.encoder.embed(batch, 3), place[:, -3:])
    with pytest.raises(ConfigError, match="raise n_positions"):
        model.encoder.embed(batch, T + 1)


def test_coordinates_place_what_has_no_name():
    torch.manual_seed(0)
    model = MODELS.build("labram", FACTS, patch_samples=P, dim=16, n_layers=1, n_heads=2, space="coordinates").eval()
    batch, _ = planted(0, n=2)
    positions = torch.randn(2, C, 3) * 0.08
    positions[0, 1] = torch.nan
    batch = replace(batch, positions=positions, channel_ids=None)
    tokens = model(batch).tokens
    assert tokens.isfinite().all()
    order = torch.tensor([2, 0, 3, 1])
    moved = replace(batch.with_signal(batch.signal[:, order]), positions=positions[:, order])
    again = model(moved).tokens.unflatten(1, (T, C))
    assert torch.allclose(again, tokens.unflatten(1, (T, C))[:, :, order], atol=1e-5)
    other = replace(batch, positions=positions + 0.02)
    assert not torch.allclose(model(other).tokens, tokens, atol=1e-4)


def test_a_name_beyond_the_table_is_unknown():
    torch.manual_seed(0)
    model = MODELS.build("labram", FACTS, patch_samples=P, dim=16, n_layers=1, n_heads=2).eval()
    batch, _ = planted(0, n=2)
    far, none = (replace(batch, channel_ids=torch.full((2, C), i)) for i in (99, 0))
    assert torch.equal(model(far).tokens, model(none).tokens)
    with pytest.raises(ConfigError, match="n_names=2"):
        MODELS.build("labram", FACTS, patch_samples=P, n_names=2)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (dict(phase="angel"), "did you mean 'angle'"),
        (dict(scaling="windows"), "did you mean 'window'"),
        (dict(space="names"), "did you mean 'name'"),
        (dict(n_heads=3), "must be a multiple of n_heads"),
        (dict(n_codes=1), "two codes"),
    ],
)
def test_wrong_choices_get_a_sentence(choices, sentence):
    with pytest.raises(ConfigError, match=sentence):
        MODELS.build("labram_tokenizer", FACTS, **{**SMALL, "n_codes": 8, **choices})
