"""Classical seizure detectors on the simulation, the oracle above them, chance below."""

import numpy as np
import pytest

from data_prep.sources.simulated_ieeg import SimulatedIeeg
from neurofm.benchmarks.baselines.seizure import (
    FeatureDetector,
    against_history,
    best_threshold,
    features_of,
    line_length,
    oracle_scores,
)
from neurofm.benchmarks.detection.windows import window_scores
from neurofm.schema.errors import ConfigError, DataError

WINDOW_S = 4.0


@pytest.fixture(scope="module")
def people():
    """Windows, source and labels of eight simulated people, 10 min each."""
    source = SimulatedIeeg(
        n_subjects=8,
        duration_s=600,
        rate_hz=128,
        channels=(6, 12),
        seizures_per_hour=18,
        seizure_s=(20, 60),
        amplitude=(1.5, 3.0),
        run_fraction=0.1,
        artefacts_per_hour=30,
        seed=3,
    )
    out = []
    for item in source.list():
        rec = item.load()
        size, n = round(WINDOW_S * 128), rec.signal.n_samples[0]
        count = n // size
        windows = rec.signal.read(0, 0, count * size).reshape(count, size, -1)
        truth = rec.streams[1].read(0, 0, count * size).reshape(count, size)
        ictal = np.zeros(n)
        for e in rec.events:
            if e.kind == "seizure":
                ictal[round(e.onset_s * 128) : round((e.onset_s + e.duration_s) * 128)] = 1
        out.append((windows, truth, ictal[: count * size].reshape(count, size).mean(1) > 0.5))
    return out


def test_oracle_is_near_perfect_and_detectors_lie_between_it_and_chance(people):
    labels = [y for *_, y in people]
    oracle = window_scores(
        np.concatenate(labels), np.concatenate([oracle_scores(s, rate_hz=128) > 0.5 for _, s, _ in people])
    )
    assert oracle.f1 > 0.97
    test = np.concatenate(labels[5:])
    for kind in ("line_length", "band_power"):
        features = [features_of(w, kind=kind, rate_hz=128) for w, *_ in people]
        detector = FeatureDetector(kind).fit(np.concatenate(features[:5]), np.concatenate(labels[:5]))
        said = np.concatenate([detector.scores(f) for f in features[5:]]) >= 0.5
        scores = window_scores(test, said)
        assert 0.25 < scores.kappa < oracle.kappa
    guess = np.random.default_rng(0).random(len(test)) < test.mean()
    assert abs(window_scores(test, guess).kappa) < 0.15


def test_line_length_by_hand():
    x = np.array([0.0, 1.0, 0.0, 3.0])[None, :, None]
    assert line_length(x)[0, 0] == pytest.approx(np.log(5 / 3))


def test_history_looks_back_only(people):
    windows = people[0][0]
    short = features_of(windows[:40], kind="line_length", rate_hz=128)
    assert np.array_equal(short, features_of(windows, kind="line_length", rate_hz=128)[:40])
    f = np.array([[1.0], [3.0], [5.0]])
    assert np.array_equal(against_history(f), [[1, 0], [3, 2], [5, 3]])


def test_threshold_is_the_best_by_brute_force():
    rng = np.random.default_rng(1)
    y = rng.random(60) < 0.3
    s = np.round(rng.random(60) + 0.4 * y, 1)
    chosen = best_threshold(s, y)
    assert window_scores(y, s >= chosen).f1 == max(window_scores(y, s >= t).f1 for t in np.unique(s))
    assert best_threshold(s, np.zeros(60, bool)) == 0.5


def test_one_class_and_unknown_names_are_refused():
    with pytest.raises(DataError, match="one class"):
        FeatureDetector("line_length").fit(np.zeros((4, 2)), np.zeros(4))
    with pytest.raises(ConfigError, match="line_length"):
        FeatureDetector("line_lenght")


def test_window_scores_by_hand():
    s = window_scores([1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0])
    assert s.f1 == pytest.approx(0.5)
    # observed 4/6, expected (2·2 + 4·4)/36
    assert s.kappa == pytest.approx((4 / 6 - 20 / 36) / (1 - 20 / 36))
    assert s.n == 6
    empty = window_scores([0, 0], [0, 0])
    assert np.isnan(empty.f1)
    assert np.isnan(empty.kappa)
