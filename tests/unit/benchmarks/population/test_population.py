"""The population benchmark: sessions are read as they should be, answers scored, arms compared, and leaks refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_prep.pipeline import prepare
from neurofm.benchmarks.population.arms import score_arm
from neurofm.benchmarks.population.bars import answer
from neurofm.benchmarks.population.data import Reading, make_session, sessions_of
from neurofm.benchmarks.population.metrics import bits_per_spike
from neurofm.benchmarks.population.scores import judge, score_population
from neurofm.benchmarks.results import read_results
from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.report.population import claims_of, section_of
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from tests.layouts.trees import falcon, nlb


def made(folder, name, **choices):
    prepare(
        source={"name": name, **choices},
        out=folder,
        dask="none",
        progress=False,
        segment_s=None,
        storage_dtype="float32",
    )
    return folder


@pytest.fixture(scope="module")
def lorenz(tmp_path_factory):
    return made(
        tmp_path_factory.mktemp("data") / "lorenz",
        "sim_lorenz",
        n_conditions=12,
        n_repeats=10,
        n_units=14,
        n_held_out=4,
    )


@pytest.fixture(scope="module")
def velocity(tmp_path_factory):
    return made(tmp_path_factory.mktemp("data") / "velocity", "sim_velocity", n_subjects=3, n_units=20, duration_s=60.0)


def scores(path, tmp_path, **choices):
    *_, (_, found) = score_population(name="b", results=str(tmp_path), run_id="r", path=str(path), **choices)
    return found


def test_co_smoothing_lies_between_nothing_and_the_oracle(lorenz, tmp_path):
    parts = {"train": "train", "test": "test"}
    found = scores(lorenz, tmp_path, bin_s=0.01, parts=parts, baselines=["smoothing", "gpfa", "psth", "oracle"])
    value = {m: s["01/lorenz"][0] for (m, _, _), s in found.sessions.items()}
    oracle = value["oracle, true rates"]["co_bps"]
    for name in ("smoothing, Poisson GLM", "factor analysis, Poisson GLM", "trial average"):
        assert 0.02 < value[name]["co_bps"] < oracle
    assert value["oracle, true rates"]["psth_r2"] > value["smoothing, Poisson GLM"]["psth_r2"]
    rows = read_results(tmp_path)
    assert {r["looks"] for r in rows} == {1}
    assert all(r["baseline"] for r in rows if r["metric"] != "look")
    section = section_of(found, "co_smoothing", "title")
    assert len(section.tables[0].rows) == 4
    assert claims_of(found, "co_smoothing", [], "title") == []


def test_forward_prediction(lorenz, tmp_path):
    found = scores(lorenz, tmp_path, protocol="forward", bin_s=0.01, parts={"train": "train", "test": "test"},
                   baselines=["glm", "psth", "oracle"])  # fmt: skip
    value = {m: s["01/lorenz"][0]["fp_bps"] for (m, _, _), s in found.sessions.items()}
    assert value["oracle, true rates"] > max(value["trial average"], value["Poisson GLM of the past"])
    assert value["trial average"] > 0


def test_forward_sees_nothing_of_the_future(lorenz):
    dataset = Dataset(lorenz, bin_s=0.01)
    (session,) = sessions_of(dataset, reading=Reading(bin_s=0.01), parts={"train": "train", "test": "test"})
    before = answer("forward", "glm", session, horizon_s=0.2)
    for t in session.test:
        t.counts[-20:] += 5
    for a, b in zip(before, answer("forward", "glm", session, horizon_s=0.2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_co_smoothing_sees_nothing_of_held_out_units(lorenz):
    dataset = Dataset(lorenz, bin_s=0.01)
    (session,) = sessions_of(dataset, reading=Reading(bin_s=0.01), parts={"train": "train", "test": "test"})
    assert session.held_out.sum() == 4
    before = [answer("co_smoothing", name, session) for name in ("smoothing", "gpfa")]
    for t in session.test:
        t.counts[:, session.held_out] += 5
    for old, name in zip(before, ("smoothing", "gpfa"), strict=True):
        for a, b in zip(old, answer("co_smoothing", name, session), strict=True):
            np.testing.assert_array_equal(a, b)


def test_velocity_is_decoded_by_session(velocity, tmp_path):
    found = scores(velocity, tmp_path, protocol="decoding", behaviour="velocity", bin_s=0.02)
    ridge = {
        s: v[0]["r2"] for (m, _, _), by in found.sessions.items() if m == "ridge, causal taps" for s, v in by.items()
    }
    assert set(ridge) == {f"{k:02d}/day1/velocity" for k in (1, 2, 3)}
    assert min(ridge.values()) > 0.5
    # the table gives the interval over sessions
    cells = next(row for row in section_of(found, "decoding", "t").tables[0].rows if row[0] == "ridge, causal taps")
    assert cells[2] == 3
    assert cells[3] == pytest.approx(np.mean(list(ridge.values())))


def test_parts_that_meet_are_refused(velocity):
    dataset = Dataset(velocity, bin_s=0.02)
    r = sorted(dataset.recordings)[0]
    with pytest.raises(DataError, match="overlap"):
        make_session(dataset, "s", [Span(r, 0, 30)], [Span(r, 29, 60)], reading=Reading(bin_s=0.02))
    other = sorted(dataset.recordings)[1]
    with pytest.raises(DataError, match="other units"):
        make_session(dataset, "s", [Span(r, 0, 30)], [Span(other, 30, 60)], reading=Reading(bin_s=0.02))


def test_behaviour_belongs_to_its_bin(velocity):
    dataset = Dataset(velocity, bin_s=0.02)
    r = sorted(dataset.recordings)[0]
    whole, _ = dataset.read_stream(r, 0.0, 60.0, stream="velocity")
    for lag in (0.0, 0.1):
        reading = Reading(bin_s=0.02, behaviour="velocity", lag_s=lag)
        session = make_session(dataset, "s", [Span(r, 0, 30)], [Span(r, 30, 60)], reading=reading)
        k = round(lag / 0.01)
        expected = whole[k : k + 3000].reshape(-1, 2, 2).mean(1)
        np.testing.assert_allclose(session.train[0].behaviour, expected, atol=1e-6)
        # what would lie behind the recording's end is not there
        assert np.isnan(session.test[0].behaviour).any(1).sum() == round(lag / 0.02)


def test_nlb_by_its_protocol(tmp_path):
    """Held-out units are those the files mark; windows lie around movement onset, inside their trial."""
    tree, _ = nlb.spikes(tmp_path / "in", variant="large")
    out = made(tmp_path / "out", tree.source, **tree.choices)
    dataset = Dataset(out, bin_s=0.005)
    reading = Reading(bin_s=0.005, align="move_onset", window_s=(-0.1, 0.2), behaviour="hand_vel", lag_s=0.02)
    parts = {"train": "train", "test": "val"}
    (session,) = sessions_of(dataset, reading=reading, parts=parts)
    assert session.held_out.any()
    names = [c["canonical"] for c in dataset.channels(next(r for r in dataset.recordings if "val" in r))]
    assert [("/out" in n) for n in names] == session.held_out.tolist()
    onsets = {
        round(e["onset_s"], 6) for r in dataset.recordings for e in dataset.events(r) if e["kind"] == "move_onset"
    }
    for t in [*session.train, *session.test]:
        assert len(t.counts) == 60
        assert round(t.span.start_s + 0.1, 6) in onsets
        # velocity is that of 20 ms later: the tree's hand moves on a circle of trial time
        assert t.behaviour.shape == (60, 2)
    found = scores(out, tmp_path / "r", bin_s=0.005, parts=parts, align="move_onset", window_s=[-0.1, 0.2],
                   baselines=["smoothing"])  # fmt: skip
    ((by_session,),) = [list(v.values()) for v in found.sessions.values()]
    assert np.isfinite(by_session[0]["co_bps"])


def test_falcon_scores_only_what_its_mask_says(tmp_path):
    out = made(tmp_path / "out", "falcon", **falcon.write_m2(tmp_path / "in").choices)
    dataset = Dataset(out, bin_s=0.02)
    (r,) = dataset.recordings
    names = dataset.streams(r)
    assert "eval_mask" in names
    a, b = dataset.valid(r)[0]
    middle = round((a + b) / 2, 2)
    reading = Reading(bin_s=0.02, behaviour="finger_vel", mask="eval_mask")
    session = make_session(dataset, "s", [Span(r, a, middle)], [Span(r, middle, b)], reading=reading)
    mask, time_s = dataset.read_stream(r, a, b, stream="eval_mask")
    unscored = {round(t, 4) for t, m in zip(time_s, mask[:, 0], strict=True) if m < 0.5}
    assert unscored
    for trial in [*session.train, *session.test]:
        nan = np.isnan(trial.behaviour).any(1)
        found = {round(trial.span.start_s + k * 0.02, 4) for k in np.flatnonzero(nan)}
        assert found == {t for t in unscored if trial.span.start_s - 1e-6 <= t < trial.span.stop_s - 1e-6}


class _Objective:
    """What a decoder of counts offers: expected counts, and what was hidden."""

    def __init__(self, rates, n_hidden):
        self.given, self.n_hidden = rates, n_hidden

    def rates(self, model, batch, *, mode):
        assert mode == "co_smooth"
        hidden = torch.zeros_like(batch.signal, dtype=torch.bool)
        hidden[:, -self.n_hidden :] = True
        return self.given, hidden


def test_arm_is_scored_as_the_bars_are(lorenz):
    """A decoder that says the true rates scores what the oracle scores."""
    dataset = Dataset(lorenz, bin_s=0.01)
    (session,) = sessions_of(dataset, reading=Reading(bin_s=0.01), parts={"train": "train", "test": "test"})
    counts = torch.from_numpy(np.stack([t.counts.T for t in session.test])).float()
    rates = torch.from_numpy(np.stack([t.rates.T for t in session.test]))
    n, c, t = counts.shape
    batch = NeuralBatch(
        signal=counts, channel_mask=torch.ones(n, c, dtype=torch.bool), time_mask=torch.ones(n, t, dtype=torch.bool),
        rate_hz=100.0, recording_id=[x.span.recording_id for x in session.test],
    )  # fmt: skip

    class Loader(list):
        skipped = ()

    def decoder(objective):
        corpus = SimpleNamespace(loader=lambda *a, **k: Loader([batch]))
        loaded = SimpleNamespace(objective=objective, model=None, facts=None, card={"objective": {"name": "own"}})
        return SimpleNamespace(loaded=loaded, corpus=corpus)

    found = score_arm("co_smoothing", decoder(_Objective(rates, 4)), session, stream="")
    oracle = judge("co_smoothing", session, answer("co_smoothing", "oracle", session))
    assert found["co_bps"] == pytest.approx(oracle["co_bps"])
    held = np.concatenate([x.counts[:, -4:] for x in session.test])
    assert found["co_bps"] == pytest.approx(
        bits_per_spike(np.concatenate([x.rates[:, -4:] for x in session.test]), held)
    )
    with pytest.raises(ConfigError, match="hides other units"):
        score_arm("co_smoothing", decoder(_Objective(rates, 3)), session, stream="")
    with pytest.raises(ConfigError, match="lacks predict and wanted"):
        score_arm("decoding", decoder(_Objective(rates, 4)), session, stream="velocity")


def test_arms_are_paired_over_sessions():
    from neurofm.benchmarks.population.scores import PopulationScores

    rng = np.random.default_rng(0)
    base = {f"s{k}": float(v) for k, v in enumerate(rng.uniform(0.3, 0.8, 10))}
    sessions = {
        ("ours", "unit_embedding", 5.0): {s: [{"r2": v + 0.05}, {"r2": v + 0.07}] for s, v in base.items()},
        ("scratch", "scratch", 5.0): {s: [{"r2": v - 0.1}] for s, v in base.items()},
        ("ridge, causal taps", "", 5.0): {s: [{"r2": v}] for s, v in base.items()},
        ("ridge, causal taps", "", 60.0): {s: [{"r2": v + 1}] for s, v in base.items()},
    }
    claims = claims_of(PopulationScores(sessions=sessions), "decoding", ["ours", "scratch"], "New session")
    assert [(c.text, c.held) for c in claims] == [
        ("New session: ours is ahead of ridge, causal taps at 5 s (R², weighted by variance).", True),
        ("New session: ours is ahead of scratch at 5 s (R², weighted by variance).", True),
        ("New session: scratch is ahead of ridge, causal taps at 5 s (R², weighted by variance).", False),
    ]
    assert "+0.060" in claims[0].detail
    assert "over 10 sessions" in claims[0].detail


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"protocol": "cosmoothing"}, "co_smoothing"),
        ({"baselines": ["smothing"]}, "smoothing"),
        ({"protocol": "decoding"}, "needs behaviour"),
        ({"parts": {"train": "train", "test": "tset"}}, "test"),
        ({"arms": {"a": {"runs": "x"}}, "task": "t"}, "runs and strategy"),
        ({"window_s": [1.0]}, "start and stop"),
    ],
)
def test_wrong_choices_are_told(choices, word, lorenz, tmp_path):
    with pytest.raises(ConfigError, match=word):
        scores(lorenz, tmp_path, **{"bin_s": 0.01, **choices})


def test_held_out_units_are_needed_for_co_smoothing(velocity, tmp_path):
    with pytest.raises(ConfigError, match="held_out"):
        scores(velocity, tmp_path, bin_s=0.02)


def test_a_sample_in_two_windows_is_scored_once_where_it_is_central():
    from neurofm.benchmarks.population.arms import once

    # windows of one second from 0 and from 0.5, samples every quarter
    time_s = np.array([0.0, 0.25, 0.5, 0.75, 0.5, 0.75, 1.0, 1.25, 0.5])
    ids = np.array(["a"] * 8 + ["b"])
    off = np.abs(np.array([0.0, 0.25, 0.5, 0.75, 0.0, 0.25, 0.5, 0.75, 0.5]) - 0.5)
    chosen = once(ids, time_s, off)
    assert list(zip(ids[chosen], time_s[chosen], strict=True)) == [
        ("a", 0.0), ("a", 0.25), ("a", 0.5), ("a", 0.75), ("a", 1.0), ("a", 1.25), ("b", 0.5),
    ]  # fmt: skip
    # 0.5 from the first window, where it is in the middle; 0.75 lies equally far from both middles
    assert 2 in chosen
    assert 4 not in chosen


def test_arms_are_paired_by_area_too():
    from neurofm.benchmarks.population.scores import PopulationScores

    base = {f"s{k}": 0.3 + 0.02 * k for k in range(10)}
    gains = np.linspace(0.08, 0.12, 10)
    sessions = {}
    for budget, more in ((5.0, 0.0), (80.0, 0.2)):
        sessions["ours", "unit_embedding", budget] = {
            s: [{"r2": v + more + g}] for (s, v), g in zip(base.items(), gains, strict=True)
        }
        sessions["ridge", "", budget] = {s: [{"r2": v + more}] for s, v in base.items()}
    claims = claims_of(PopulationScores(sessions=sessions), "decoding", ["ours"], "New")
    (area,) = [c for c in claims if "area" in c.text]
    assert area.held
    assert "+0.100" in area.detail
    assert "over 10 sessions" in area.detail
    tables = section_of(PopulationScores(sessions=sessions), "decoding", "t").tables
    assert [row[0] for row in tables[1].rows] == ["ours, unit_embedding", "ridge"]
    assert tables[1].rows[1][2] == pytest.approx(np.mean(list(base.values())) + 0.1)
