"""Simulated populations: their truth is in what they give, comes back from shards, and repeats to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from data_prep.pipeline import prepare
from data_prep.sources import SOURCES, sim_hub, sim_lorenz, sim_rnn, sim_switching, sim_velocity
from data_prep.sources.sim_base import spikes_of
from data_prep.sources.sim_calcium import kernel
from neurofm.data.dataset import Dataset
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import EventStream, Stream
from neurofm.schema.units import HELD_OUT, is_held_out

CONF = Path(__file__).parents[3] / "conf/dataset"
SMALL = {
    "sim_lorenz": dict(n_conditions=3, n_repeats=5, n_units=6, n_held_out=2),
    "sim_rnn": dict(n_sessions=2, n_cells=12, n_units=5, n_held_out=1, n_conditions=3, n_repeats=5),
    "sim_hub": dict(n_units=12, n_hubs=2, duration_s=4.0),
    "sim_velocity": dict(n_subjects=2, n_days=2, n_units=5, duration_s=10.0, drift=0.3, shared_noise=0.5),
    "sim_switching": dict(n_states=2, n_units=4, n_trials=5, n_bins=60),
    "sim_multimodal": dict(n_trials=5, n_units=4, side=12),
    "sim_latent_labels": dict(n_units=6, n_samples=80),
    "sim_calcium": dict(n_subjects=1, n_units=4, duration_s=10.0),
}


def loaded(name, **more):
    return [item.load() for item in SOURCES.build(name, **{**SMALL[name], **more}).list()]


@pytest.mark.parametrize("name", SMALL)
def test_card_says_simulated_and_carries_the_oracle(name):
    card = SOURCES.build(name).describe()
    assert card["simulated"] is True
    assert card["oracle"]
    assert all(np.isfinite(v) for v in card["oracle"].values())
    # a figure of other choices would be a false one
    assert SOURCES.build(name, seed=123).describe()["oracle"] == "not measured for these choices"
    assert "simulated" in SOURCES.build(name).licence


@pytest.mark.parametrize("name", SMALL)
def test_yaml_has_the_source_as_it_is_measured(name):
    source = yaml.safe_load((CONF / f"{name}.yaml").read_text())["source"]
    assert source.pop("name") == name
    assert source == SOURCES.build(name).choices


@pytest.mark.parametrize("name", SMALL)
def test_repeats_to_the_bit_and_through_shards(name, tmp_path):
    first, again = loaded(name), loaded(name)
    out = tmp_path / name
    prepare(source={"name": name, **SMALL[name]}, out=out, dask="none", progress=False, strict=True, segment_s=None,
            storage_dtype="float32")  # fmt: skip
    dataset = Dataset(out, bin_s=0.01)
    assert dataset.manifest.prep["source"]["simulated"] is True
    assert len(dataset.recordings) == len(first)
    for a, b in zip(first, again, strict=True):
        for x, y in zip(a.streams, b.streams, strict=True):
            if isinstance(x, EventStream):
                for i, d in enumerate(x.duration_s):
                    for p, q in zip(x.read(i, 0, d), y.read(i, 0, d), strict=True):
                        np.testing.assert_array_equal(p, q)
                continue
            for i, n in enumerate(x.n_samples):
                np.testing.assert_array_equal(x.read(i, 0, n), y.read(i, 0, n))
        for x in a.streams[1:]:
            if isinstance(x, Stream):
                start, stop = dataset.valid(a.recording_id)[0]
                read, _ = dataset.read_stream(a.recording_id, start, stop, stream=x.name)
                np.testing.assert_allclose(read, x.read(0, 0, x.n_samples[0]), rtol=1e-6, atol=1e-6)


def test_spikes_fall_into_their_bins():
    counts = np.random.default_rng(0).poisson(1.5, (200, 4))
    time_s, unit = spikes_of(counts, 0.01, np.random.default_rng(1))
    assert (np.diff(time_s) >= 0).all()
    found = np.zeros_like(counts)
    np.add.at(found, ((time_s / 0.01).astype(int), unit), 1)
    np.testing.assert_array_equal(found, counts)


def test_repeats_are_split_and_last_units_held_out():
    train, test = loaded("sim_lorenz")
    assert (train.part, test.part) == ("train", "test")
    assert (len(train.valid), len(test.valid)) == (12, 3)
    assert [HELD_OUT in c.reason for c in train.first.channels] == [False] * 4 + [True] * 2
    assert is_held_out({"reason": HELD_OUT})
    assert not is_held_out({"reason": ""})
    assert {e.label for e in test.events} == {"condition000", "condition001", "condition002"}


def test_lorenz_rates_follow_the_equations():
    choices = SOURCES.build("sim_lorenz").choices
    z = sim_lorenz.latent(choices)
    np.testing.assert_allclose(z.mean((0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose(z.std((0, 1)), 1)
    # log rates are linear in the state, with weights of the stated sizes
    log_rate = np.log(sim_lorenz.rates_hz(choices) / 5.0) / 0.5
    weights = np.linalg.lstsq(z.reshape(-1, 3), log_rate.reshape(-1, 30), rcond=None)[0]
    np.testing.assert_allclose(z @ weights, log_rate, atol=1e-8)
    assert (np.abs(weights) * np.sqrt(3) >= 1 - 1e-9).all()
    assert (np.abs(weights) * np.sqrt(3) <= 2 + 1e-9).all()


def test_rnn_sessions_see_other_cells_of_one_network():
    choices = SOURCES.build("sim_rnn", **SMALL["sim_rnn"]).choices
    rates = sim_rnn.rates_hz(choices)
    assert (rates.min(), rates.max()) == (0, pytest.approx(30))
    found = [r for r in loaded("sim_rnn") if r.part == "train"]
    for r in found:
        cells = sim_rnn.cells_of(choices, r.subject)
        (seen,) = [s for s in r.streams if s.name == "true_rates"]
        np.testing.assert_array_equal(seen.read(0, 0, 100), rates[0][:, cells])
    assert set(sim_rnn.cells_of(choices, "01")) != set(sim_rnn.cells_of(choices, "02"))
    assert not {c.canonical for c in found[0].first.channels} & {c.canonical for c in found[1].first.channels}


def test_hub_conducts_after_twelve_milliseconds(monkeypatch):
    """Two cells: the second fires only when the first made it, and never sooner than conduction takes."""
    choices = SOURCES.build("sim_hub", n_units=2, n_hubs=1, duration_s=60.0, stimulus_gain=0.0).choices
    monkeypatch.setattr(sim_hub, "connectivity", lambda _: np.array([[0.0, 300.0], [0.0, 0.0]]))
    monkeypatch.setattr(sim_hub, "NOISE_MV", 3.0)
    time_s, unit, _ = sim_hub.run(choices)
    sent, got = time_s[unit == 0], time_s[unit == 1]
    assert len(sent) > 20
    after = np.array([np.min(got[got > t] - t, initial=np.inf) for t in sent[:-1]])
    # steps of 1 ms: 12 steps later at the earliest, and strong input acts within a few
    assert np.median(after) == pytest.approx(0.0135, abs=0.002)
    assert np.mean((after > 0.011) & (after < 0.017)) > 0.8


def test_hub_truth_is_directed_and_hubs_excite():
    choices = SOURCES.build("sim_hub").choices
    weights = sim_hub.connectivity(choices)
    assert not np.diag(weights).any()
    out = (weights != 0).sum(1)
    assert out[:6].mean() > 3 * out[6:].mean()
    assert (weights[:6] >= 0).all()
    inhibits = (weights < 0).any(1)
    assert inhibits.sum() == 12
    # Dale's law
    assert (weights[inhibits] <= 0).all()


def test_switching_rates_by_a_plain_loop():
    choices = SOURCES.build("sim_switching", **SMALL["sim_switching"]).choices
    made, truth, phi = sim_switching.run(choices), sim_switching.parameters(choices), sim_switching.basis()
    np.testing.assert_allclose(phi, [0.6364, 0.2341, 0.0861, 0.0317, 0.0117], atol=1e-4)
    counts, state = made["counts"][1], made["state"][1]
    for t in (0, 3, 40):
        drive = truth["bias"].copy()
        for k in range(1, 6):
            if t >= k:
                drive += truth["weights"][state[t]] @ counts[t - k] * phi[k - 1]
        np.testing.assert_allclose(made["rates"][1, t], 1 / (1 + np.exp(-drive)))
    stays = np.mean(np.diff(sim_switching.run(SOURCES.build("sim_switching").choices)["state"], axis=1) == 0)
    assert stays == pytest.approx(0.98, abs=0.003)


def test_velocity_drifts_only_if_asked():
    choices = SOURCES.build("sim_velocity", n_days=2).choices
    for key, value in sim_velocity.tuning(choices, "01", 1).items():
        np.testing.assert_array_equal(value, sim_velocity.tuning(choices, "01", 2)[key])
    moved = (
        sim_velocity.tuning({**choices, "drift": 0.3}, "01", 2)["angle"]
        - sim_velocity.tuning(choices, "01", 1)["angle"]
    )
    assert 0.2 < moved.std() < 0.4
    first, second = (r for r in loaded("sim_velocity") if r.subject == "01")
    assert [c.canonical for c in first.first.channels] == [c.canonical for c in second.first.channels]
    assert not {c.canonical for c in first.first.channels} & {
        c.canonical for c in loaded("sim_velocity")[2].first.channels
    }


def test_velocity_leads_by_eighty_milliseconds():
    choices = SOURCES.build("sim_velocity", n_subjects=1, n_units=40).choices
    r = SOURCES.build("sim_velocity", n_subjects=1, n_units=40).list()[0].load()
    v, rate = (s.read(0, 0, s.n_samples[0]) for s in r.streams[1:])
    own = sim_velocity.tuning(choices, "01", 1)
    drive = v @ np.stack([np.cos(own["angle"]), np.sin(own["angle"])])
    lags = range(0, 20)
    fit = [np.mean([np.corrcoef(np.log(rate[:-20, i]), drive[k : k - 20, i])[0, 1] for i in range(40)]) for k in lags]
    assert np.argmax(fit) == 8


def test_calcium_sees_no_later_spike():
    with_, without = loaded("sim_calcium", snr=1e9, drift=0.0), loaded("sim_calcium", snr=1e9, drift=0.0)
    trace = with_[0].signal.read(0, 0, 300)
    (spikes,) = [s for s in without[0].streams if s.name == "true_spikes"]
    time_s, unit = spikes.read(0, 0, 10.0)
    for cell in range(4):
        first = time_s[unit == cell].min()
        before = trace[: int(first * 30), cell]
        np.testing.assert_allclose(before, 1.0, atol=1e-6)
    assert (kernel("gcamp6s").max(), kernel("gcamp6s")[0]) == (1, 0)


@pytest.mark.parametrize(
    ("name", "choices", "word"),
    [
        ("sim_lorenz", {"n_units": 0}, "n_units is 0"),
        ("sim_lorenz", {"trial_s": -1.0}, "trial_s is -1.0"),
        ("sim_rnn", {"n_units": 60}, "at most n_cells"),
        ("sim_hub", {"n_hubs": 60}, "fewer than n_units"),
        ("sim_velocity", {"drift": -0.1}, "drift is -0.1"),
        ("sim_latent_labels", {"noise": "gaussia"}, "gaussian"),
        ("sim_calcium", {"indicator": "gcamp6"}, "gcamp6s"),
        ("sim_calcium", {"origin": "hub"}, "set 1"),
    ],
)
def test_impossible_choices(name, choices, word):
    with pytest.raises(ConfigError, match=word):
        SOURCES.build(name, **choices)
