"""A new session: its units get rows of their own, and nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from neurofm.adapt import ADAPT
from neurofm.adapt.finetune import finetune
from neurofm.adapt.known_rows import AmongKnown
from neurofm.hub.load import LoadedModel
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import Events, NeuralBatch, StreamValues
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

OLD = Facts(rate_hz=100.0, window_s=1.0, max_channels=4, channels=("a/0", "a/1", "a/2", "a/3"), sessions=("a",))
NEW = replace(OLD, channels=(*OLD.channels, "b/0", "b/1", "b/2", "b/3", "b/4"), sessions=("a", "b"), max_channels=5)
SIZES = dict(dim=16, depth=1, head_dim=8, dropout=0.0, ffn_dropout=0.0)
READOUT = {"stream": "velocity", "n_outputs": 1, "head_dim": 8}


def windows(session: int, n_units: int, first: int, *, B: int = 24, seed: int = 0) -> NeuralBatch:
    """The velocity of a window is +1 or −1; half of the units fire for one, half for the other."""
    g = torch.Generator().manual_seed(seed)
    sign = torch.randint(2, (B,), generator=g)
    n = 30
    unit = torch.randint(n_units, (B, n), generator=g)
    keep = (unit % 2 == sign[:, None]) | (torch.rand(B, n, generator=g) < 0.2)
    rows = [(unit[b][keep[b]], (torch.rand(n, generator=g)[keep[b]]).sort().values) for b in range(B)]
    velocity = (2.0 * sign - 1)[:, None, None].expand(-1, 5, 1)
    return NeuralBatch(
        signal=torch.zeros(B, n_units, 100),
        channel_mask=torch.ones(B, n_units, dtype=torch.bool),
        time_mask=torch.ones(B, 100, dtype=torch.bool),
        rate_hz=100.0,
        channel_ids=torch.arange(first, first + n_units).expand(B, -1),
        session=torch.full((B,), session),
        events=Events(
            torch.cat([u for u, _ in rows]), torch.cat([t for _, t in rows]),
            torch.tensor([0, *(len(u) for u, _ in rows)]).cumsum(0),
        ),
        streams={"velocity": StreamValues(velocity, torch.arange(5).expand(B, -1) / 5, torch.ones(B, 5).bool())},
        sample_id=torch.arange(B),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pretrained() -> LoadedModel:
    torch.manual_seed(0)
    model = MODELS.build("population_decoder", OLD, **SIZES)
    objective = OBJECTIVES.build("behaviour", model, OLD, **READOUT)
    card = {
        "model": {"name": "population_decoder", "choices": SIZES},
        "objective": {"name": "behaviour", "choices": READOUT},
        "facts": OLD.to_json(),
    }
    untrained = LoadedModel(model, objective, OLD, [], card)
    done = finetune(untrained, windows(1, 4, 1, B=64), steps=150, lr_peak=1e-2, tail="none", seed=0)
    done.loaded.card = card
    return done.loaded


def state(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    parts = (("model", loaded.model), ("objective", loaded.objective))
    return {f"{p}.{n}": t.clone() for p, m in parts for n, t in m.state_dict().items()}


def test_only_rows_of_the_new_session_move(pretrained):
    before = state(pretrained)
    result = finetune(
        pretrained, windows(2, 5, 5), strategy="unit_embedding", facts=NEW, steps=60, lr_peak=2e-2, weight_decay=0.1,
        tail="none",
    )  # fmt: skip
    after = state(result.loaded)
    assert set(after) == set(before)
    assert state(pretrained).keys() == before.keys()
    for name, tensor in after.items():
        if name in ("model.unit.weight", "objective.session.weight"):
            old = len(before[name])
            assert torch.equal(tensor[:old], before[name]), name
            assert len(tensor) > old
        else:
            assert torch.equal(tensor, before[name]), name
    held = windows(2, 5, 5, seed=9)
    loss = result.loaded.objective(result.loaded.model, held).total
    assert loss < 0.5
    # they move although the checkpoint itself does not change
    fresh = ADAPT.build("unit_embedding", pretrained, NEW, None)
    assert not torch.equal(after["model.unit.weight"][5:], fresh.loaded.model.unit.weight[5:])
    assert sorted(fresh.trainable()) == ["model.unit.weight", "objective.session.weight"]


@pytest.mark.parametrize(
    ("strategy", "choices"),
    [(s, {}) for s in ("full", "probe", "scratch", "lora", "bitfit", "norm")] + [("reset", {"layers": ["latent"]})],
)
def test_other_strategies_take_new_units_in_too(pretrained, strategy, choices):
    how = dict(strategy=strategy, strategy_choices=choices, facts=NEW, tail="none")
    result = finetune(pretrained, windows(2, 5, 5), steps=3, **how)
    start = finetune(pretrained, windows(2, 5, 5), steps=0, **how)
    table, began = result.loaded.model.unit.weight, start.loaded.model.unit.weight
    assert table.shape[0] == 10
    assert (table[5:] != began[5:]).any(1).all()
    assert torch.equal(table[:5], began[:5])
    assert not torch.equal(result.loaded.objective.session.weight[2], start.loaded.objective.session.weight[2])
    assert result.loaded.facts.channels == NEW.channels
    assert result.loaded.objective.predict(result.loaded.model, windows(2, 5, 5)).shape == (24, 5, 1)


def test_a_probe_moves_nothing_of_the_network_but_new_rows(pretrained):
    assert [n for n in ADAPT.build("probe", pretrained, NEW, None).trainable() if n.startswith("model.")] == [
        "model.unit.weight"
    ]
    assert not [n for n in ADAPT.build("probe", pretrained, OLD, None).trainable() if n.startswith("model.")]


def test_a_closed_form_refuses_units_it_could_not_learn(pretrained):
    readout = {"name": "behaviour", "stream": "velocity", "n_outputs": 1, "readout": "pool"}
    with pytest.raises(ConfigError, match=r"5 units .*first is 'b/0'.* use adapt=unit_embedding or adapt=full"):
        ADAPT.build("probe", pretrained, NEW, readout, solver="ridge")
    ADAPT.build("probe", pretrained, OLD, readout, solver="ridge")


def test_growing_is_the_same_every_time(pretrained):
    one, two = (ADAPT.build("unit_embedding", pretrained, NEW, None, seed=3).loaded.model.unit.weight for _ in range(2))
    assert torch.equal(one, two)


def test_another_numbering_of_old_units_is_refused(pretrained):
    shuffled = replace(NEW, channels=("b/0", *NEW.channels[:4], *NEW.channels[5:]))
    with pytest.raises(ConfigError, match="number their channels by another vocabulary"):
        ADAPT.build("full", pretrained, shuffled, None)


def test_models_without_units_are_a_sentence():
    facts = Facts(rate_hz=100.0, window_s=0.4, max_channels=3, channels=("x", "y", "z"), classes=("p", "q"))
    choices = dict(patch_samples=8, dim=16, n_layers=1)
    model = MODELS.build("pooled_cnn", facts, **choices)
    card = {
        "model": {"name": "pooled_cnn", "choices": choices}, "objective": {"name": "supervised", "choices": {}},
        "facts": facts.to_json(),
    }  # fmt: skip
    loaded = LoadedModel(model, OBJECTIVES.build("supervised", model, facts), facts, [], card)
    with pytest.raises(ConfigError, match="model 'pooled_cnn' has no embedding per unit"):
        ADAPT.build("unit_embedding", loaded, None, None)


def test_rows_sought_where_the_known_lie(pretrained):
    before = state(pretrained)
    choices = dict(strategy="unit_embedding", strategy_choices={"prior": "known"}, facts=NEW, lr_peak=0.1, tail="none")
    result = finetune(pretrained, windows(2, 5, 5), steps=200, weight_decay=0.1, **choices)
    after = state(result.loaded)
    # saved as plain tables, the old rows to the bit
    assert set(after) == set(before)
    known, new = after["model.unit.weight"][:5], after["model.unit.weight"][5:]
    assert torch.equal(known, before["model.unit.weight"])
    assert result.loaded.objective(result.loaded.model, windows(2, 5, 5, seed=9)).total < 0.75
    # what four units differ by has three directions; the new ones differ by no other
    away, directions = new - known[1:].mean(0), known[1:] - known[1:].mean(0)
    assert torch.linalg.matrix_rank(torch.cat([directions, away]).double(), rtol=1e-5) == 3
    # held by their prior they stay where they start, near the mean
    held = finetune(pretrained, windows(2, 5, 5), steps=60, prior_strength=1e4, **choices).loaded.model.unit.weight[5:]
    start = ADAPT.build("unit_embedding", pretrained, NEW, None, prior="known").loaded.model.unit.weight[5:]
    assert (held - start).abs().max() < 0.05 * directions.abs().max()
    assert (start - known[1:].mean(0)).norm(dim=1).max() < directions.norm(dim=1).max()


def test_coordinates_have_the_covariance_of_the_known():
    weight = torch.randn(41, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    among = AmongKnown(weight, 38)
    assert torch.allclose(among.spread @ among.spread.T, torch.cov(weight[1:38].T))
    assert torch.equal(among(weight)[:38], weight[:38])
    assert torch.allclose(among(weight)[38:] - weight[1:38].mean(0), among.new_table @ among.spread.T)


def test_an_unknown_prior_is_a_sentence(pretrained):
    with pytest.raises(ConfigError, match=r"unknown prior 'knowns': .*'known'"):
        ADAPT.build("unit_embedding", pretrained, NEW, None, prior="knowns")


def test_a_session_that_was_not_met_asks_with_the_mean_of_those_known(pretrained):
    objective = pretrained.objective
    batch = windows(1, 4, 1, B=3)
    encoded = pretrained.model(batch)
    time_s = batch.streams["velocity"].time_s
    unknown = objective.read_at(encoded, time_s, torch.zeros(3, dtype=torch.long))
    # one session is known, so it is the mean
    assert torch.equal(unknown, objective.read_at(encoded, time_s, torch.ones(3, dtype=torch.long)))
    assert torch.equal(unknown, objective.read_at(encoded, time_s, None))


def test_one_query_for_all_sessions():
    model = MODELS.build("population_decoder", OLD, **SIZES)
    shared = OBJECTIVES.build("behaviour", model, OLD, **READOUT, by_session=False)
    assert shared.subject_parameters() == []
    batch = windows(1, 4, 1, B=3)
    one, other = (shared.predict(model.eval(), replace(batch, session=torch.full((3,), k))) for k in (1, 0))
    assert torch.equal(one, other)
