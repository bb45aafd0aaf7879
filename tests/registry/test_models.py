"""Every registered model and every file of conf/model: builds, learns, and does not see padding."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from neurofm.models import MODELS
from neurofm.models.base import CodebookModel, Encoded, Model
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts

CONF = Path(__file__).parents[2] / "conf" / "model"
FILES = sorted(CONF.glob("*.yaml"))
ELSEWHERE = {"braindecode"}
"""Needs a package that tests do without."""
ON_PAPER_ONLY = {
    "mvpformer_s", "mvpformer_m", "labram_large", "labram_huge", "labram_tokenizer", "neurorvq", "brainbert_base",
    "brainbert_large",
}  # fmt: skip
"""Too large to run in a test: built without memory."""

_TOKENIZER = dict(patch_samples=16, dim=16, n_layers=1, n_decoder_layers=1, n_heads=2, n_codes=8, code_dim=4)
SMALL = {
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
    "neurorvq_backbone": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4),
    "neurorvq_tokenizer": {**_TOKENIZER, "n_levels": 2},
    "pooled_cnn": dict(patch_samples=8, dim=16, n_layers=2),
    "token_transformer": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4),
}
"""Choices under which each registered model runs in milliseconds."""

VARIANTS = {
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
    "pooled_cnn": [{}, dict(kernel=3, n_layers=1)],
    "token_transformer": [{}, dict(tokenizer="wavelet"), dict(causal=False, pooling="mean")],
}

CASES = [
    pytest.param(n, {**SMALL[n], **v}, id=f"{n}-{i}")
    for n in MODELS.names()
    if n in SMALL
    for i, v in enumerate(VARIANTS[n])
]


def facts_for(choices: dict) -> Facts:
    """Four patches at 512 Hz; four windows of the transform for models of spectrograms."""
    samples = choices.get("patch_samples") or choices.get("window_samples", 0)
    patch_s = choices.get("patch_s") or samples / 512
    names = tuple("abcdef")
    return Facts(rate_hz=512.0, window_s=4 * patch_s, max_channels=6, channels=names, subjects=("s1", "s2"))


def make_batch(facts: Facts, n_valid: tuple[int, ...], *, pad_to: int | None = None, seed: int = 0) -> NeuralBatch:
    C, n = pad_to or max(n_valid), facts.window_samples
    mask = torch.arange(C) < torch.tensor(n_valid)[:, None]
    rows = [torch.randn(6, n, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(n_valid))]
    signal = torch.zeros(len(n_valid), C, n)
    for i, k in enumerate(n_valid):
        signal[i, :k] = rows[i][:k]
    B = len(n_valid)
    return NeuralBatch(
        signal=signal,
        channel_mask=mask,
        time_mask=torch.ones(B, n, dtype=torch.bool),
        rate_hz=facts.rate_hz,
        positions=torch.arange(3.0 * C).view(C, 3).square().expand(B, -1, -1),
        channel_ids=torch.arange(1, C + 1).expand(B, -1) * mask,
        subject=torch.ones(B, dtype=torch.long),
    )


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
    if getattr(model, "mask_token", None) is None:
        encoded = model(batch)
    else:
        columns = 6 if int(model(batch).channel.max()) >= 0 else 1
        hidden = torch.zeros(2, 4, columns, dtype=torch.bool)
        hidden[:, 1, 0] = True
        encoded = model.encode(batch, hidden)
    weight = torch.randn(encoded.tokens.shape, generator=torch.Generator().manual_seed(1))
    (encoded.tokens * weight)[encoded.mask].sum().backward()
    if isinstance(model, CodebookModel):
        # decoder and heads take part in its own losses only
        sum(model.losses(batch, None)[0].values()).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_padding_changes_neither_outputs_nor_gradients(name, choices):
    model, facts = build(name, choices)
    model.double().eval()

    def run(batch: NeuralBatch) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        encoded = model(replace(batch, signal=batch.signal.double()))
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
