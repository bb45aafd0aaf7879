"""Every registered model and every file of conf/model: builds, learns, and does not see padding."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from neurofm.models import MODELS
from neurofm.models.base import Encoded, Model
from neurofm.schema.batch import Events, NeuralBatch, StreamValues
from neurofm.schema.facts import Facts

CONF = Path(__file__).parents[2] / "conf" / "model"
FILES = sorted(CONF.glob("*.yaml"))
ON_PAPER_ONLY = {"mvpformer_s", "mvpformer_m", "neuroformer_visnav"}
"""Too large to run in a test: built without memory."""

SMALL = {
    "mvpformer": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4, n_kv_heads=2),
    "ndt": dict(dim=16, n_layers=2, n_heads=2, ffn_dim=32),
    "neuroformer": dict(dim=16, n_heads=2, current_s=8 / 512, history_s=8 / 512, step_s=2 / 512),
    "pooled_cnn": dict(patch_samples=8, dim=16, n_layers=2),
    "population_decoder": dict(dim=16, depth=2, head_dim=8, latent_step_s=1 / 64),
    "token_transformer": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4),
}
"""Choices under which each registered model runs in milliseconds."""

VARIANTS = {
    "mvpformer": [
        {},
        dict(tokenizer="wavelet"),
        dict(causal=False, mask_token=True),
        dict(channel_embedding=True, scale_by_layer=True),
        dict(content_window=1, backend="sdpa"),
        dict(channel_distance="coordinates", use_time=False),
        dict(use_channel=False),
    ],
    "ndt": [{}, dict(back_bins=3, forward_bins=0)],
    "neuroformer": [
        {},
        dict(stimulus={"stream": "frames", "columns": 12, "size": [4, 3], "kernel": [2, 2, 3]}),
        dict(stimulus={"stream": "frames", "columns": 12}, behaviours={"speed": 1}),
    ],
    "pooled_cnn": [{}, dict(kernel=3, n_layers=1)],
    "population_decoder": [{}, dict(delimiters=False, latents_per_step=2)],
    "token_transformer": [{}, dict(tokenizer="wavelet"), dict(causal=False, pooling="mean")],
}

CASES = [pytest.param(n, {**SMALL[n], **v}, id=f"{n}-{i}") for n in MODELS.names() for i, v in enumerate(VARIANTS[n])]


def facts_for(choices: dict) -> Facts:
    """Four patches at 512 Hz."""
    patch_s = choices.get("patch_s") or choices.get("patch_samples", 8) / 512
    if "current_s" in choices:
        patch_s = max(patch_s, (choices["current_s"] + choices["history_s"]) / 4)
    names = tuple("abcdef")
    return Facts(
        rate_hz=512.0,
        window_s=4 * patch_s,
        max_channels=6,
        channels=names,
        subjects=("s1", "s2"),
        sessions=("d1", "d2"),
    )


def make_batch(facts: Facts, n_valid: tuple[int, ...], *, pad_to: int | None = None, seed: int = 0) -> NeuralBatch:
    C, n = pad_to or max(n_valid), facts.window_samples
    mask = torch.arange(C) < torch.tensor(n_valid)[:, None]
    rows = [torch.randn(6, n, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(n_valid))]
    signal = torch.zeros(len(n_valid), C, n)
    for i, k in enumerate(n_valid):
        signal[i, :k] = rows[i][:k]
    B = len(n_valid)
    events = [spikes_of(i, k, facts.window_s, seed) for i, k in enumerate(n_valid)]
    return NeuralBatch(
        signal=signal,
        channel_mask=mask,
        time_mask=torch.ones(B, n, dtype=torch.bool),
        rate_hz=facts.rate_hz,
        positions=torch.arange(3.0 * C).view(C, 3).square().expand(B, -1, -1),
        channel_ids=torch.arange(1, C + 1).expand(B, -1) * mask,
        subject=torch.ones(B, dtype=torch.long),
        session=torch.ones(B, dtype=torch.long),
        events=Events(
            torch.cat([u for u, _ in events]), torch.cat([t for _, t in events]),
            torch.tensor([0, *(len(u) for u, _ in events)]).cumsum(0),
        ),
        streams={"frames": further(B, 12, facts.window_s), "speed": further(B, 1, facts.window_s)},
    )  # fmt: skip


def spikes_of(number: int, n_units: int, window_s: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spikes of one window, ten per unit; the same whatever it is batched with."""
    g = torch.Generator().manual_seed(1000 + seed + number)
    time_s = (torch.rand(10 * n_units, generator=g) * window_s).sort().values
    return torch.randint(n_units, (10 * n_units,), generator=g), time_s


def further(n: int, width: int, window_s: float) -> StreamValues:
    """A stream of six samples, the same in every window but for their number."""
    values = torch.randn(6, width, generator=torch.Generator().manual_seed(9)) * (1 + torch.arange(n))[:, None, None]
    time_s = (torch.arange(6) + 0.5).expand(n, -1) * (window_s / 6)
    return StreamValues(values, time_s, torch.ones(n, 6, dtype=torch.bool))


def build(name: str, choices: dict) -> tuple[torch.nn.Module, Facts]:
    torch.manual_seed(0)
    facts = facts_for(choices)
    return MODELS.build(name, facts, **choices), facts


def valid_tokens(encoded: Encoded, sample: int) -> torch.Tensor:
    return encoded.tokens[sample][encoded.mask[sample]]


def test_every_model_is_covered():
    assert set(SMALL) == set(VARIANTS) == set(MODELS.names())
    assert FILES
    assert {path.stem for path in FILES} >= ON_PAPER_ONLY


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_file_builds_and_states_its_source(path):
    assert path.read_text().startswith("# "), "the first line says where the sizes come from"
    choices = yaml.safe_load(path.read_text())
    name = choices.pop("name")
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
        hidden = torch.zeros(2, 4, 6, dtype=torch.bool)
        hidden[:, 1, 0] = True
        encoded = model.encode(batch, hidden)
    weight = torch.randn(encoded.tokens.shape, generator=torch.Generator().manual_seed(1))
    (encoded.tokens * weight)[encoded.mask].sum().backward()
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


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_the_same_input_gives_the_same_output(name, choices):
    model, facts = build(name, choices)
    batch = make_batch(facts, (6, 3))
    model.eval()
    assert torch.equal(model(batch).tokens, model(batch).tokens)
    again, _ = build(name, choices)
    assert torch.equal(model(batch).tokens, again.eval()(batch).tokens)
