"""What goes beyond the paper: distance from coordinates, and the ablations of the attention's terms."""

from dataclasses import replace

import pytest
import torch

from neurofm.models import MODELS
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=100.0, window_s=0.6, max_channels=6)
SMALL = dict(patch_samples=10, dim=16, n_layers=2, n_heads=4, n_kv_heads=2, dropout=0.0)


def build(**choices):
    torch.manual_seed(0)
    model = MODELS.build("mvpformer", FACTS, **{**SMALL, **choices}).double().eval()
    with torch.no_grad():
        for table in (t for t in model.tables() if t is not None):
            table.mul_(50)  # logits of order one, so that a wrong row shows
    return model


def make_batch(n_valid=(6, 4), seed=0):
    g = torch.Generator().manual_seed(seed)
    C = max(n_valid)
    mask = torch.arange(C) < torch.tensor(n_valid)[:, None]
    positions = torch.randn(len(n_valid), C, 3, generator=g) * 0.05
    return NeuralBatch(
        signal=torch.randn(len(n_valid), C, 60, generator=g).double() * mask[..., None],
        channel_mask=mask,
        time_mask=torch.ones(len(n_valid), 60, dtype=torch.bool),
        rate_hz=100.0,
        positions=positions.masked_fill(~mask[..., None], float("nan")),
    )


def shuffled(batch, order):
    return replace(
        batch,
        signal=batch.signal[:, order],
        channel_mask=batch.channel_mask[:, order],
        positions=batch.positions[:, order],
    )


def grid(model, batch):
    return model(batch).tokens.unflatten(1, (-1, batch.signal.shape[1]))


@pytest.mark.parametrize("backend", ["math", "sdpa"])
def test_with_coordinates_the_order_of_channels_does_not_matter(backend):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    batch = make_batch((6, 6))
    model = build(channel_distance="coordinates", backend=backend)
    assert torch.allclose(grid(model, shuffled(batch, order)), grid(model, batch)[:, :, order], rtol=1e-10, atol=1e-12)
    by_index = build(backend=backend)
    assert not torch.allclose(grid(by_index, shuffled(batch, order)), grid(by_index, batch)[:, :, order], atol=1e-3)


def test_with_coordinates_padding_between_channels_changes_nothing():
    """The valid channels of the second window are spread over the six places."""
    batch = make_batch((6, 4))
    order = torch.tensor([0, 4, 1, 2, 5, 3])
    model = build(channel_distance="coordinates")
    there, here = grid(model, shuffled(batch, order)), grid(model, batch)[:, :, order]
    valid = batch.channel_mask[:, order]
    assert torch.allclose(there[1][:, valid[1]], here[1][:, valid[1]], rtol=1e-10, atol=1e-12)


def test_coordinates_on_a_line_are_the_published_model():
    batch = make_batch((6, 6))
    line = replace(batch, positions=(torch.arange(6.0)[:, None] * torch.tensor([0.01, 0.0, 0.02])).expand(2, -1, -1))
    assert torch.allclose(grid(build(channel_distance="coordinates"), line), grid(build(), line), rtol=1e-12)


def test_missing_positions():
    batch = make_batch()
    model = build(channel_distance="coordinates")
    with pytest.raises(DataError, match="field positions"):
        model(replace(batch, positions=None))
    batch.positions[1, 2] = float("nan")
    with pytest.raises(DataError, match="channel 2 of window 1"):
        model(batch)
    assert build(channel_distance="coordinates", missing_positions="far")(batch).tokens.isfinite().all()
    with pytest.raises(ConfigError, match="did you mean 'far'"):
        build(missing_positions="fat")
    with pytest.raises(ConfigError, match="did you mean 'coordinates'"):
        build(channel_distance="coordinate")


@pytest.mark.parametrize("backend", ["math", "sdpa"])
@pytest.mark.parametrize("left_out", ["time", "channel"])
def test_a_term_left_out_is_one_whose_table_is_zero(left_out, backend):
    """A zero table gives a zero term: the ablated model equals the whole one with that table at zero."""
    batch = make_batch()
    whole, ablated = build(backend=backend), build(backend=backend, **{f"use_{left_out}": False})
    with torch.no_grad():
        getattr(whole, f"{left_out}_table").weight.zero_()
    kept = ablated.state_dict()
    lost = {n for n in whole.state_dict() if n not in kept}
    assert lost == {f"{left_out}_table.weight", *(f"blocks.{i}.attention.{left_out}_key.weight" for i in range(2))}
    ablated.load_state_dict({n: t for n, t in whole.state_dict().items() if n in kept})
    valid = batch.channel_mask[:, None].expand(-1, 6, -1)
    assert torch.allclose(grid(ablated, batch)[valid], grid(whole, batch)[valid], rtol=1e-10, atol=1e-12)


def test_without_the_time_term_segments_in_the_window_have_no_order():
    """Bidirectional and within the content window: shuffling the segments shuffles the tokens."""
    batch = make_batch((6, 6))
    order = torch.tensor([2, 5, 0, 3, 1, 4])
    mixed = replace(batch, signal=batch.signal.unflatten(-1, (6, 10))[:, :, order].flatten(-2))
    for use_time in (False, True):
        model = build(causal=False, use_time=use_time)
        assert torch.allclose(grid(model, mixed), grid(model, batch)[:, order], atol=1e-9) != use_time


def test_without_the_channel_term_channels_have_no_order():
    batch = make_batch((6, 6))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    model = build(use_channel=False)
    assert torch.allclose(grid(model, shuffled(batch, order)), grid(model, batch)[:, :, order], rtol=1e-10, atol=1e-12)
