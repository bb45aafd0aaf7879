"""Behaviour at the times of its samples: gaps cost nothing, other times get an answer, units come and go."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurofm.adapt.finetune import finetune
from neurofm.adapt.ridge_head import PENALTIES
from neurofm.hub.load import LoadedModel
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.base import Objective
from neurofm.schema.batch import Events, NeuralBatch, StreamValues
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=100.0, window_s=1.0, max_channels=5, channels=tuple("abcde"), sessions=("one", "two"))


def made(**choices):
    torch.manual_seed(0)
    model = MODELS.build("population_decoder", FACTS, dim=16, depth=1, head_dim=8, dropout=0.0, ffn_dropout=0.0)
    objective = OBJECTIVES.build("behaviour", model, FACTS, **{"stream": "velocity", "head_dim": 8, **choices})
    return model.double(), objective.double()


def batch(B=3, Q=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    return NeuralBatch(
        signal=torch.zeros(B, 5, 100),
        channel_mask=torch.ones(B, 5, dtype=torch.bool),
        time_mask=torch.ones(B, 100, dtype=torch.bool),
        rate_hz=100.0,
        channel_ids=torch.arange(1, 6).expand(B, -1),
        session=torch.ones(B, dtype=torch.long),
        events=Events(
            torch.randint(5, (20 * B,), generator=g), torch.rand(20 * B, generator=g), torch.arange(B + 1) * 20
        ),
        streams={
            "velocity": StreamValues(
                torch.randn(B, Q, 2, generator=g), torch.arange(Q).expand(B, -1) / Q, torch.ones(B, Q, dtype=torch.bool)
            )
        },
        sample_id=torch.arange(B),
    )


def test_the_error_by_hand_in_units_of_scale():
    model, objective = made(scale=[2.0, 4.0], mean=[1.0, -1.0])
    data = batch()
    loss = objective.eval()(model, data).total.detach()
    estimate = objective.predict(model, data).detach()
    truth = data.streams["velocity"].values.double()
    want = ((estimate - truth) / torch.tensor([2.0, 4.0])).square().mean()
    torch.testing.assert_close(loss, want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("readout", ["query", "pool"])
def test_gaps_in_behaviour_cost_nothing(readout):
    model, objective = made(readout=readout)
    data = batch()
    velocity = data.streams["velocity"]
    mask = velocity.mask.clone()
    mask[1, 3:] = False
    mask[2] = False
    wild = torch.where(mask[..., None], velocity.values, 1e6)
    losses = [
        objective(model, replace(data, streams={"velocity": StreamValues(v, velocity.time_s, mask)})).total
        for v in (velocity.values, wild)
    ]
    assert torch.equal(losses[0], losses[1])
    assert losses[0] < 100
    if readout == "pool":
        wanted = objective.wanted(
            replace(data, streams={"velocity": StreamValues(velocity.values, velocity.time_s, mask)})
        )
        # the last sample that is there
        torch.testing.assert_close(
            wanted.values[:2, 0].float(), torch.stack([velocity.values[0, 6], velocity.values[1, 2]])
        )
        assert wanted.mask[:, 0].tolist() == [True, True, False]


def test_output_times_are_free():
    model, objective = made()
    data = batch()
    at_samples = objective.predict(model, data)
    encoded = model(data)
    every = objective.read_at(encoded, torch.linspace(0, 1, 50).double().expand(3, -1), data.session)
    assert every.shape == (3, 50, 2)
    alone = objective.read_at(encoded, data.streams["velocity"].time_s[:, 2:3], data.session)
    torch.testing.assert_close(alone[:, 0], at_samples[:, 2], rtol=1e-10, atol=1e-12)


def test_thinning_keeps_a_number_from_the_triangle_and_stops_after_training():
    model, objective = made(keep_units=[2, 3, 4])
    data = batch(400)
    kept = objective._thinned(data, torch.arange(400)).channel_mask.sum(1)
    assert set(kept.tolist()) == {2, 3, 4}
    assert (kept == 3).float().mean() > 0.4
    small = batch()
    first, second = (objective(model, small, torch.Generator().manual_seed(s)).total for s in (0, 3))
    assert first != second
    objective.eval()
    assert objective(model, small, torch.Generator().manual_seed(0)).total == objective(model, small).total


def test_drawn_output_times_are_of_samples_that_are_there():
    model, objective = made(max_outputs=2)
    data = batch()
    velocity = data.streams["velocity"]
    mask = torch.zeros_like(velocity.mask)
    mask[:, [1, 5]] = True
    wild = torch.where(mask[..., None], velocity.values, 1e6)
    loss = objective(model, replace(data, streams={"velocity": StreamValues(wild, velocity.time_s, mask)}),
                     torch.Generator().manual_seed(0))  # fmt: skip
    everything = objective.eval()(model, replace(data, streams={"velocity": StreamValues(wild, velocity.time_s, mask)}))
    torch.testing.assert_close(loss.total, everything.total)


def test_a_stream_that_is_missing_or_of_another_width_is_a_sentence():
    model, objective = made()
    with pytest.raises(DataError, match=r"'velocity', which is not in the batch: .*hand"):
        objective(model, replace(batch(), streams={"hand": batch().streams["velocity"]}))
    _, wide = made(n_outputs=3)
    with pytest.raises(DataError, match="has 2 columns, objective 'behaviour' was built for 3"):
        wide(model, batch())


def test_what_a_linear_head_is_regressed_on_is_in_its_own_units():
    model, objective = made(readout="pool", scale=[2.0], mean=[0.5, -1.0])
    data = batch()
    data.streams["velocity"].mask[2] = False
    values, there = objective.regression_targets(data)
    truth = data.streams["velocity"].values[:, -1].double()
    torch.testing.assert_close(values[:2], (truth[:2] - torch.tensor([0.5, -1.0])) / 2)
    assert there.tolist() == [True, True, False]
    # its own loss, of a head that says nothing but 0, is their mean square
    torch.nn.init.zeros_(objective.head.weight)
    torch.nn.init.zeros_(objective.head.bias)
    torch.testing.assert_close(objective(model, data).total, values[:2].square().mean())
    with pytest.raises(ConfigError, match="no targets that a linear head could be regressed on"):
        made()[1].regression_targets(data)
    with pytest.raises(ConfigError, match="no targets that a linear head could be regressed on"):
        Objective().regression_targets(data)


def test_a_closed_form_readout_is_ridge_and_chooses_its_penalty_on_stretches_of_time():
    torch.manual_seed(0)
    model = MODELS.build("population_decoder", FACTS, dim=16, depth=1, head_dim=8, dropout=0.0, ffn_dropout=0.0)
    objective = OBJECTIVES.build("behaviour", model, FACTS, stream="velocity", readout="pool")
    card = {
        "model": {"name": "population_decoder", "choices": {}}, "facts": FACTS.to_json(), "transforms": [],
        "objective": {"name": "behaviour", "choices": {"stream": "velocity", "readout": "pool"}}, "provenance": {},
    }  # fmt: skip
    loaded = LoadedModel(model.eval(), objective.eval(), FACTS, [], card)
    wish = {"name": "behaviour", "stream": "velocity", "readout": "pool", "scale": [2.0], "mean": [0.5, -1.0]}
    n = 200
    data = batch(B=n)
    data.start_s = 0.05 * torch.arange(n).double()
    data.recording_id = ["r"] * n
    with torch.no_grad():
        x = model.pool(model(data)).double().numpy()
    g = np.random.default_rng(0)
    values = (x - x.mean(0)) / x.std(0) @ g.normal(size=(16, 2)) * 0.1 + g.normal(size=(n, 2))
    data.streams["velocity"].values[:, -1] = torch.tensor(values).float()
    data.streams["velocity"].mask[3] = False
    found = finetune(loaded, data, strategy="probe", strategy_choices={"solver": "ridge"}, objective=wish).loaded
    with torch.no_grad():
        said = found.objective.predict(found.model, data)[:, 0].double().numpy()
    known = np.flatnonzero(np.arange(n) != 3)

    def fitted(rows, penalty):
        return make_pipeline(StandardScaler(), Ridge(alpha=penalty)).fit(x[rows], values[rows])

    errors = dict.fromkeys(PENALTIES, 0.0)
    for left in np.array_split(known, 5):
        # windows of 1 s every 50 ms: 19 on either side overlap
        rest = known[(known < left[0] - 19) | (known > left[-1] + 19)]
        for penalty in PENALTIES:
            errors[penalty] += np.square(fitted(rest, penalty).predict(x[left]) - values[left]).sum()
    best = min(errors, key=errors.get)
    np.testing.assert_allclose(said, fitted(known, best).predict(x), rtol=1e-4, atol=1e-4)
    # within one window's length nothing can be left out that the rest does not tell of
    data.start_s = 0.004 * torch.arange(n).double()
    with pytest.raises(DataError, match=r"199 calibration windows of 1 s all share time .* solver=steps"):
        finetune(loaded, data, strategy="probe", strategy_choices={"solver": "ridge"}, objective=wish)
