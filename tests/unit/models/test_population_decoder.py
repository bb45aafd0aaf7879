"""Events as tokens: equal to dense attention on bins, whatever their order, and honest about what is not there."""

from dataclasses import replace

import pytest
import torch
import yaml
from spike_batches import batch_of, facts, random_rows

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import Events
from neurofm.schema.errors import ConfigError, DataError

SMALL = dict(dim=16, depth=2, head_dim=8, dropout=0.0, ffn_dropout=0.0)


def made(**choices):
    torch.manual_seed(0)
    model = MODELS.build("population_decoder", facts(), **{**SMALL, **choices}).double().eval()
    with torch.no_grad():
        # tokens that matter: from an initial 0.02 attention is all but uniform
        model.unit.weight *= 50
    return model


def tokens(model, batch, **rest):
    return model(batch, **rest).tokens.detach()


def test_events_equal_dense_attention_on_bins():
    """A token per (unit, bin) whose logit gets ln(count), −inf without a spike, is the same as a token per spike."""
    bin_s, rows = 0.05, random_rows(3, n=80, grid_s=0.05)
    model, batch = made(delimiters=False), batch_of(rows)
    from_events = tokens(model, replace(batch, events=batch.events._replace(time_s=batch.events.time_s.double())))
    n_bins = 20
    counts = torch.zeros(3, 6, n_bins, dtype=torch.float64)
    for b, row in enumerate(rows):
        for t, u in row:
            counts[b, u, round(t / bin_s)] += 1
    assert counts.max() > 1
    dense = (model.unit(batch.channel_ids) + model.kind.weight[0])[:, :, None].expand(-1, -1, n_bins, -1).flatten(1, 2)
    # the events' times as they are in float32, so that only the way of computing differs
    time_s = (torch.arange(n_bins, dtype=torch.float64) * bin_s).float().double().repeat(6).expand(3, -1)
    mask = torch.ones(3, 6 * n_bins, dtype=torch.bool)
    on_bins = model.encode_tokens(batch, dense, time_s, mask, bias=counts.flatten(1).log()).tokens.detach()
    assert (from_events - on_bins).abs().max() / on_bins.abs().max() < 1e-6


def test_the_order_of_events_does_not_matter():
    model, batch = made(), batch_of(random_rows(1, n=40))
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    events = Events(batch.events.unit[shuffled], batch.events.time_s[shuffled], batch.events.offsets)
    torch.testing.assert_close(
        tokens(model, batch), tokens(model, replace(batch, events=events)), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("delimiters", [True, False])
def test_a_window_without_spikes_is_finite_and_changes_no_other(delimiters):
    model = made(delimiters=delimiters)
    row = random_rows(1)[0]
    alone, beside = tokens(model, batch_of([row])), tokens(model, batch_of([row, []]))
    assert beside.isfinite().all()
    torch.testing.assert_close(alone[0], beside[0], rtol=1e-10, atol=1e-12)


def test_silent_units_are_seen_by_their_delimiters():
    row = [(t, u) for t, u in random_rows(1)[0] if u < 5]
    five = batch_of([row])
    five.channel_mask = torch.tensor([[True] * 5 + [False]])
    six = batch_of([row])
    assert not torch.allclose(tokens(made(), five), tokens(made(), six))
    model = made(delimiters=False)
    assert torch.allclose(tokens(model, five), tokens(model, six))


def test_a_masked_unit_is_as_if_it_were_not_there():
    rows = random_rows(2)
    batch = batch_of(rows)
    batch.channel_mask = torch.tensor([[True] * 5 + [False]] * 2)
    without = batch_of([[(t, u) for t, u in r if u < 5] for r in rows])
    without.channel_mask = batch.channel_mask
    torch.testing.assert_close(tokens(made(), batch), tokens(made(), without), rtol=1e-10, atol=1e-12)


def test_an_unknown_unit_is_a_sentence_not_row_zero():
    ids = torch.arange(1, 7).repeat(1, 1)
    ids[0, 2] = 0
    batch = replace(batch_of(random_rows(1), ids=ids), recording_id=["day_2"])
    with pytest.raises(
        DataError, match=r"1 units of 'day_2' are not in the model's vocabulary; adapt .*unit_embedding"
    ):
        made()(batch)


def test_growing_keeps_old_rows_to_the_bit():
    model = made()
    before = model.unit.weight.detach().clone()
    model.grow(facts(9))
    assert torch.equal(model.unit.weight[:7], before)
    assert model.unit.weight.shape == (10, 16)
    assert model.unit.weight[7:].abs().sum() > 0


@pytest.mark.parametrize(("name", "published_m"), [("poyo_1m", 1.3), ("poyo_12m", 11.8)])
def test_sizes_of_the_paper(name, published_m, request):
    """Encoder and readout without vocabularies, to a twentieth of what the paper rounds (with its vocabularies)."""
    choices = yaml.safe_load((request.config.rootpath / "conf" / "model" / f"{name}.yaml").read_text())
    heads, head_dim = choices["cross_heads"], choices["head_dim"]
    with torch.device("meta"):
        model = MODELS.build(choices.pop("name"), facts(0), **choices)
        objective = OBJECTIVES.build("behaviour", model, facts(0), stream="v", n_heads=heads, head_dim=head_dim)
    n = sum(p.numel() for part in (model, objective) for p in part.parameters())
    assert abs(n / 1e6 - published_m) < 0.05 * published_m


def test_wrong_choices_and_missing_events():
    with pytest.raises(ConfigError, match="latents_per_step=0"):
        made(latents_per_step=0)
    with pytest.raises(DataError, match=r"batch\.events is missing"):
        made()(replace(batch_of(random_rows(1)), events=None))


def test_new_rows_start_where_those_there_are():
    from neurofm.models.unit_table import GrowingTable

    table = GrowingTable(50, 8, std=0.02)
    with torch.no_grad():
        table.weight[1:] += 3.0
    before = table.weight.detach().clone()
    table.grow(60)
    assert torch.equal(table.weight[:51], before)
    assert (table.weight[51:] - 3.0).abs().max() < 0.2
    empty = GrowingTable(0, 8)
    empty.grow(3)
    assert empty.weight.isfinite().all()
