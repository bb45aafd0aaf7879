"""Binned counts of sessions with different units."""

from dataclasses import replace

import pytest
import torch
from spike_batches import batch_of, facts, random_rows

from neurofm.models import MODELS
from neurofm.schema.errors import ConfigError

SMALL = dict(dim=16, n_layers=2, n_heads=2, ffn_dim=32, dropout=0.0, embed_dropout=0.0)


def made(n_units=6, **choices):
    torch.manual_seed(0)
    return MODELS.build("ndt", facts(n_units), **{**SMALL, **choices}).double().eval()


def test_the_first_layer_is_a_linear_map_of_the_counts():
    """One column per unit: the same as a session's own matrix."""
    model, batch = made(), batch_of(random_rows(2))
    counts = batch.signal.double()
    want = torch.einsum("bct,cd->btd", counts, model.unit.weight[1:])
    got = torch.einsum("bct,bcd->btd", counts, model.unit(batch.channel_ids))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_the_order_of_channels_does_not_matter():
    model, batch = made(), batch_of(random_rows(2))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    other = replace(batch, signal=batch.signal[:, order], channel_ids=batch.channel_ids[:, order])
    torch.testing.assert_close(model(batch).tokens, model(other).tokens, rtol=1e-10, atol=1e-12)


def test_causal_bins_do_not_see_the_future():
    model, batch = made(forward_bins=0), batch_of(random_rows(1))
    later = batch.signal.clone()
    later[..., 60:] += 3
    a, b = model(batch).tokens, model(batch.with_signal(later)).tokens
    assert torch.equal(a[:, :60], b[:, :60])
    assert not torch.allclose(a[:, 60:], b[:, 60:])
    both = made()
    assert not torch.allclose(both(batch).tokens[:, :60], both(batch.with_signal(later)).tokens[:, :60])


def test_prompt_and_session_are_heard():
    model, batch = made(), batch_of(random_rows(1))
    plain = model(batch).tokens
    assert not torch.allclose(plain, model.encode(batch, torch.tensor([2])).tokens)
    with torch.no_grad():
        model.session.weight[1] = torch.randn(16, generator=torch.Generator().manual_seed(4)).double()
    assert not torch.allclose(plain, model(batch).tokens)


def test_too_many_bins_are_a_sentence():
    with pytest.raises(ConfigError, match=r"takes 50 bins, got 100; raise model\.n_positions"):
        made(n_positions=50)(batch_of(random_rows(1)))
