"""Every registered model and every file of conf/model: builds, learns, and does not see padding."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from neurofm.models import MODELS
from neurofm.models.base import CodebookModel, Encoded, Model
from neurofm.schema.batch import Events, NeuralBatch, StreamValues
from neurofm.schema.facts import Facts

CONF = Path(__file__).parents[2] / "conf" / "model"
FILES = sorted(CONF.glob("*.yaml"))
ELSEWHERE = {"braindecode"}
"""Needs a package that tests do without."""
ON_PAPER_ONLY = {
    "mvpformer_s", "mvpformer_m", "labram_large", "labram_huge", "labram_tokenizer", "neurorvq", "brainbert_base",
    "brainbert_large", "mindbridge", "loongx", "braincorl", "neuroformer_visnav",
}  # fmt: skip
"""Too large to run in a test: built without memory."""

_TOKENIZER = dict(patch_samples=16, dim=16, n_layers=1, n_decoder_layers=1, n_heads=2, n_codes=8, code_dim=4)
SMALL = {
    "band_power": dict(patch_samples=8),
    "brainbert": dict(
        window_samples=32, n_bins=9, hop_samples=8, trim_frames=2, dim=16, n_layers=2, n_heads=4, ffn_dim=24
    ),
    "cbramod": dict(
        patch_samples=8, dim=16, n_layers=2, n_heads=4, ffn_dim=24, n_maps=5, position_kernel=(5, 3), dropout=0.0
    ),
    "du_in": dict(
        patch_samples=8, stride=4, n_shared=8, conv_dim=6, n_layers=2, n_heads=2, head_dim=4, ffn_dim=8, dropout=0.0
    ),
    "du_in_tokenizer": dict(
        patch_samples=8,
        stride=4,
        n_shared=8,
        conv_dim=6,
        n_layers=2,
        n_decoder_layers=1,
        n_heads=2,
        head_dim=4,
        ffn_dim=8,
        dropout=0.0,
        n_codes=5,
        code_dim=4,
    ),
    "parcel_tokenizer": dict(patch_samples=8, dim=16, n_codes=5, code_dim=4, n_levels=2),
    "lipcot": dict(patch_samples=8, order=3, n_codes=5, dim=16, n_layers=2, n_heads=2, ffn_dim=24, dropout=0.0),
    "labram": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4),
    "labram_tokenizer": _TOKENIZER,
    "mvpformer": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4, n_kv_heads=2),
    "nice": dict(n_filters=4, kernel=5, pool=11, spatial_dropout=0.0),
    "atm": dict(n_filters=4, kernel=5, pool=11, ffn_dim=8),
    "speech_decoder": dict(n_virtual=5, n_frequencies=3, dim=8, n_layers=3, sensor_dropout=0.1),
    "meg_image": dict(n_virtual=5, n_frequencies=2, hidden=8, dim=6, n_layers=2, sensor_dropout=0.1),
    "mindbridge": dict(n_pooled=9, dim=8, n_blocks=2, bottleneck=4),
    "mindeye": dict(dim=8, n_blocks=2),
    "mtam": dict(dim=8, head_dim=4, ffn_dim=8),
    "loongx": dict(
        eeg_samples=64, eeg_pyramid=[4, 8], eeg_pooled=4, state_dim=6, hidden=8, tokens=4, width=4, dim=8, gate_hidden=8
    ),
    "braincorl": dict(dim=16, n_layers=2, n_heads=2, ffn_dim=16),
    "ndt": dict(dim=16, n_layers=2, n_heads=2, ffn_dim=32),
    "neuroformer": dict(dim=16, n_heads=2, current_s=8 / 512, history_s=8 / 512, step_s=2 / 512),
    "neurorvq_backbone": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4),
    "neurorvq_tokenizer": {**_TOKENIZER, "n_levels": 2},
    "eegnet": dict(patch_samples=8, kernel=5, separable_kernel=3, dropout=0.0),
    "pooled_cnn": dict(patch_samples=8, dim=16, n_layers=2),
    "population_decoder": dict(dim=16, depth=2, head_dim=8, latent_step_s=1 / 64),
    "token_transformer": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4),
}
"""Choices under which each registered model runs in milliseconds."""

LOONGX_STREAMS = {
    "fnirs": dict(channels=3, samples=20, pyramid=[4], pooled=4),
    "ppg": dict(channels=2, samples=20, pyramid=[4], pooled=4),
    "motion": dict(channels=2, samples=12, pyramid=[4], pooled=4),
}

VARIANTS = {
    "band_power": [{}, dict(dim=3, n_bands=2)],
    "brainbert": [{}, dict(spectrogram="superlet", superlet_hz=(20.0, 200.0, 5), pooling="mean", norm_bias=1.0)],
    "cbramod": [{}, dict(scale=0.1, position_kernel=(1, 1))],
    "du_in": [{}, dict(n_channels=9, n_positions=7)],
    "du_in_tokenizer": [{}],
    "parcel_tokenizer": [{}, dict(quantizer="vector", n_layers=0), dict(quantizer="finite", space="coordinates")],
    "lipcot": [{}, dict(order=4, warp=0.0)],
    "labram": [
        {},
        dict(space="coordinates", layer_scale=None, n_positions=9),
        dict(space="none", patch_samples=200, dim=200, n_heads=10),
    ],
    "labram_tokenizer": [{}, dict(phase="sincos", scaling="window")],
    "neurorvq_backbone": [{}, dict(space="coordinates", first_taps=(9, 5), second_taps=(5, 3))],
    "neurorvq_tokenizer": [{}, dict(phase="angle", scaling="none", level_dropout=True, patch_samples=7)],
    "mvpformer": [
        {},
        dict(tokenizer="wavelet"),
        dict(causal=False, mask_token=True),
        dict(channel_embedding=True, scale_by_layer=True),
        dict(content_window=1, backend="sdpa"),
        dict(channel_distance="coordinates", use_time=False),
        dict(use_channel=False),
    ],
    "nice": [{}, dict(spatial="attention"), dict(spatial="graph")],
    "atm": [{}, dict(subject_token=True)],
    "speech_decoder": [{}, dict(n_axes=3, n_frequencies=2, lag_s=0.1), dict(subject_dropout=0.5, glu_every=0)],
    "meg_image": [{}, dict(n_axes=2, subject_layer=False)],
    "mindbridge": [{}, dict(pooling="average")],
    "mindeye": [{}, dict(subject_dropout=0.5)],
    "mtam": [{}, dict(bands_hz=[[4, 8], [8, 30]], n_heads=2)],
    "loongx": [{}, dict(streams=LOONGX_STREAMS), dict(streams={"motion": LOONGX_STREAMS["motion"]})],
    "braincorl": [{}],
    "ndt": [{}, dict(back_bins=3, forward_bins=0)],
    "neuroformer": [
        {},
        dict(stimulus={"stream": "frames", "columns": 12, "size": [4, 3], "kernel": [2, 2, 3]}),
        dict(stimulus={"stream": "frames", "columns": 12}, behaviours={"speed": 1}),
    ],
    "eegnet": [{}, dict(n_temporal=3, n_spatial=1)],
    "pooled_cnn": [{}, dict(kernel=3, n_layers=1)],
    "population_decoder": [{}, dict(delimiters=False, latents_per_step=2)],
    "token_transformer": [{}, dict(tokenizer="wavelet"), dict(causal=False, pooling="mean")],
}

BEFORE_A_NORM = ("tsconv.temporal.bias", "tsconv.spatial.bias")
"""Offsets that the norm after them removes: published, but their gradient is zero."""

CASES = [
    pytest.param(n, {**SMALL[n], **v}, id=f"{n}-{i}")
    for n in MODELS.names()
    if n in SMALL
    for i, v in enumerate(VARIANTS[n])
]


def facts_for(choices: dict) -> Facts:
    """Four patches at 512 Hz; four windows of the transform for models of spectrograms; a second at 256 Hz for models without."""
    names = tuple("abcdef")
    common = dict(max_channels=6, channels=names, subjects=tuple("ABCDEF"), sessions=("d1", "d2"), embedding_shape=(8,))
    if "current_s" in choices:
        return Facts(rate_hz=512.0, window_s=max(8 / 128, choices["current_s"] + choices["history_s"]), **common)
    samples = choices.get("patch_samples") or choices.get("window_samples", 0)
    patch_s = choices.get("patch_s") or samples / 512
    if not patch_s:
        return Facts(rate_hz=256.0, window_s=1.0, **common)
    return Facts(rate_hz=512.0, window_s=4 * patch_s, **common)


def make_batch(facts: Facts, n_valid: tuple[int, ...], *, pad_to: int | None = None, seed: int = 0) -> NeuralBatch:
    C, n = pad_to or max(n_valid), facts.window_samples
    mask = torch.arange(C) < torch.tensor(n_valid)[:, None]
    rows = [torch.randn(6, n, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(n_valid))]
    signal = torch.zeros(len(n_valid), C, n)
    for i, k in enumerate(n_valid):
        signal[i, :k] = rows[i][:k]
    B = len(n_valid)

    def drawn(*shape: int) -> torch.Tensor:
        """Row by row, so that a window's numbers do not depend on how many there are."""
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(B)])

    def stream(n_samples: int, n_channels: int) -> StreamValues:
        time_s = (torch.arange(n_samples) + 0.5).expand(B, -1) * (facts.window_s / n_samples)
        return StreamValues(drawn(n_samples, n_channels), time_s, torch.ones(B, n_samples, dtype=torch.bool))

    events = [spikes_of(i, k, facts.window_s, seed) for i, k in enumerate(n_valid)]
    return NeuralBatch(
        signal=signal,
        channel_mask=mask,
        time_mask=torch.ones(B, n, dtype=torch.bool),
        rate_hz=facts.rate_hz,
        positions=torch.arange(3.0 * C).view(C, 3).square().expand(B, -1, -1),
        channel_ids=torch.arange(1, C + 1).expand(B, -1) * mask,
        # each window another person's: where people are each other's context, neighbours must not be
        subject=torch.arange(1, B + 1),
        session=torch.ones(B, dtype=torch.long),
        events=Events(
            torch.cat([u for u, _ in events]), torch.cat([t for _, t in events]),
            torch.tensor([0, *(len(u) for u, _ in events)]).cumsum(0),
        ),
        streams={
            "fnirs": stream(18, 3), "ppg": stream(20, 2), "motion": stream(30, 2),
            "frames": stream(6, 12), "speed": stream(6, 1), "velocity": stream(6, 2),
        },
        stimulus_embedding={"image": drawn(8)},
    )  # fmt: skip


def spikes_of(number: int, n_units: int, window_s: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spikes of one window, ten per unit; the same whatever it is batched with."""
    g = torch.Generator().manual_seed(1000 + seed + number)
    time_s = (torch.rand(10 * n_units, generator=g) * window_s).sort().values
    return torch.randint(n_units, (10 * n_units,), generator=g), time_s


def build(name: str, choices: dict) -> tuple[torch.nn.Module, Facts]:
    torch.manual_seed(0)
    facts = facts_for(choices)
    return MODELS.build(name, facts, **choices), facts


def valid_tokens(encoded: Encoded, sample: int) -> torch.Tensor:
    return encoded.tokens[sample][encoded.mask[sample]]


def test_every_model_is_covered():
    # the adapter of another package has tests of its own, with a stand-in
    assert set(SMALL) == set(VARIANTS) == set(MODELS.names()) - {"braindecode"}
    assert FILES
    assert {path.stem for path in FILES} >= ON_PAPER_ONLY


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_file_builds_and_states_its_source(path):
    assert path.read_text().startswith("# "), "the first line says where the sizes come from"
    choices = yaml.safe_load(path.read_text())
    name = choices.pop("name")
    if path.stem in ELSEWHERE:
        return
    if path.stem in ON_PAPER_ONLY:
        with torch.device("meta"):
            build(name, choices)
        return
    model, facts = build(name, choices)
    encoded = model(make_batch(facts, (6, 2)))
    model.pool(encoded).square().sum().backward()
    assert encoded.tokens.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_contract(name, choices):
    model, facts = build(name, choices)
    batch = make_batch(facts, (6, 3, 1))
    encoded = model(batch)
    assert isinstance(model, Model)
    B, N, D = encoded.tokens.shape
    assert (B, model.dim) == (3, D)
    for field in (encoded.mask, encoded.channel, encoded.time_s):
        assert field.shape == (B, N)
    assert encoded.mask.dtype == torch.bool
    assert encoded.tokens.isfinite().all()
    assert ((encoded.time_s > 0) & (encoded.time_s < facts.window_s)).all()
    assert model.pool(encoded).shape == (B, D)
    assert set(model.subject_parameters()) <= set(dict(model.named_parameters()))


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_every_parameter_gets_a_finite_gradient(name, choices):
    model, facts = build(name, choices)
    batch = make_batch(facts, (6, 3))
    for p in model.parameters():
        if not p.any():
            # what starts from zero lets no gradient through at the first step; any other value does
            torch.nn.init.normal_(p, std=0.1)
    own_terms: dict[str, torch.Tensor] = {}
    if hasattr(model, "encode_with_terms"):
        encoded, own_terms = model.encode_with_terms(batch, torch.Generator().manual_seed(0))
    elif getattr(model, "mask_token", None) is None:
        encoded = model(batch)
    else:
        columns = 6 if int(model(batch).channel.max()) >= 0 else 1
        hidden = torch.zeros(2, 4, columns, dtype=torch.bool)
        hidden[:, 1, 0] = True
        encoded = model.encode(batch, hidden)
    weight = torch.randn(encoded.tokens.shape, generator=torch.Generator().manual_seed(1))
    if isinstance(model, CodebookModel):
        # decoder and heads take part in its own losses only
        own_terms = model.losses(batch, None)[0]
    sum(own_terms.values(), (encoded.tokens * weight)[encoded.mask].sum()).backward()
    silent = [
        n for n, p in model.named_parameters()
        if (p.grad is None or not p.grad.abs().max() > 0) and not n.endswith(BEFORE_A_NORM)
    ]  # fmt: skip
    assert silent == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_padding_changes_neither_outputs_nor_gradients(name, choices):
    model, facts = build(name, choices)
    model.double().eval()

    def run(batch: NeuralBatch) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        embedding = {k: v.double() for k, v in batch.stimulus_embedding.items()}
        encoded = model(replace(batch, signal=batch.signal.double(), stimulus_embedding=embedding))
        tokens = valid_tokens(encoded, 0)
        pooled = model.pool(encoded)[0]
        (tokens.square().sum() + pooled.sum()).backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
        return tokens.detach(), pooled.detach(), grads

    alone, padded = run(make_batch(facts, (3,))), run(make_batch(facts, (3, 6), pad_to=6))
    assert torch.allclose(alone[0], padded[0], rtol=1e-10, atol=1e-12)
    assert torch.allclose(alone[1], padded[1], rtol=1e-10, atol=1e-12)
    for a, b in zip(alone[2], padded[2], strict=True):
        assert (a - b).abs().max() <= 1e-10 * max(float(a.abs().max()), 1e-3)


TOKENIZERS = [c for c in CASES if isinstance(build(*c.values)[0], CodebookModel)]


@pytest.mark.parametrize(("name", "choices"), TOKENIZERS)
def test_padding_changes_no_code_and_no_loss(name, choices):
    model, facts = build(name, choices)
    model.double()
    state = {k: v.clone() for k, v in model.state_dict().items()}

    def run(batch: NeuralBatch) -> tuple:
        model.load_state_dict(state)
        batch = replace(batch, signal=batch.signal.double() + 1e3 * ~batch.channel_mask[..., None])
        torch.manual_seed(0)
        terms, metrics = model.losses(batch, None)
        # twice: the second pass meets the codebook that the first one left
        again, _ = model.losses(batch, None)
        codes = model.codes(batch)
        signal = model.decode(codes, batch)
        assert codes.code.shape[-1] == len(model.n_codes)
        assert signal.shape == batch.signal.shape
        assert not signal[~batch.channel_mask].any()
        return [*terms.values(), *metrics.values(), *again.values()], codes.code[codes.mask], signal[batch.channel_mask]

    one, padded = run(make_batch(facts, (3, 2))), run(make_batch(facts, (3, 2), pad_to=6))
    assert torch.allclose(torch.stack(one[0]), torch.stack(padded[0]), rtol=1e-9, atol=1e-12)
    assert torch.equal(one[1], padded[1])
    assert torch.allclose(one[2], padded[2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_the_same_input_gives_the_same_output(name, choices):
    model, facts = build(name, choices)
    batch = make_batch(facts, (6, 3))
    model.eval()
    assert torch.equal(model(batch).tokens, model(batch).tokens)
    again, _ = build(name, choices)
    assert torch.equal(model(batch).tokens, again.eval()(batch).tokens)
