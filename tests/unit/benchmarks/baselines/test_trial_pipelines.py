"""Classical baselines of trials: each finds what it is made for, none finds what is not there."""

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.signal import butter, sosfiltfilt
from sklearn.covariance import oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from neurofm.benchmarks.baselines.trial_pipelines import TRIAL_BASELINES, trial_baseline
from neurofm.schema.errors import ConfigError, DataError


def trials(n, *, power=0.0, slow=0.0, seed=0, scale=1.0):
    """Three mixed sources at 100 Hz; class 1 has more power at 10 Hz in one, or a slow wave in another."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).standard_normal((5, 3))
    y = np.arange(n) % 2
    t = np.arange(100) / 100
    s = rng.standard_normal((n, 3, 100))
    s[:, 0] += (1 + power * y[:, None]) * np.sin(2 * np.pi * 10 * t + rng.uniform(0, 6.28, (n, 1)))
    s[:, 1] += slow * (2 * y[:, None] - 1) * np.sin(2 * np.pi * t)
    return scale * (np.einsum("cs,nst->nct", mixing, s) + 0.2 * rng.standard_normal((n, 5, 100))), y


def accuracy(name, **how):
    scale = how.pop("scale", 1.0)
    x, y = trials(60, seed=1, scale=scale, **how)
    z, truth = trials(200, seed=2, scale=scale, **how)
    said = trial_baseline(name, x, y, z, rate_hz=100.0)
    assert said.shape == (200, 2)
    np.testing.assert_allclose(np.exp(said).sum(1), 1, atol=1e-9)
    return float((said.argmax(1) == truth).mean())


@pytest.mark.parametrize("name", sorted(TRIAL_BASELINES))
def test_finds_what_it_is_made_for_in_any_unit(name):
    how = dict(slow=1.5) if name.startswith("slow") else dict(power=3.0)
    found = accuracy(name, **how)
    assert found > 0.8
    assert abs(accuracy(name, scale=1e-13, **how) - found) <= 0.02


@pytest.mark.parametrize("name", sorted(TRIAL_BASELINES))
def test_chance_without_a_difference(name):
    # 200 trials: 0.5 ± 0.11 holds 99.8 % of what chance gives
    assert abs(accuracy(name) - 0.5) < 0.11


@pytest.mark.parametrize("name", sorted(TRIAL_BASELINES))
def test_four_trials_are_enough_to_answer(name):
    x, y = trials(4, power=3.0)
    assert np.isfinite(trial_baseline(name, x, y, trials(8)[0], rate_hz=100.0)).all()


def test_csp_is_that_of_two_from_each_end():
    """By the generalised eigenproblem itself."""
    (x, y), (z, _) = trials(30, power=2.0), trials(20, power=2.0, seed=5)
    sos = butter(4, [8, 30], "bandpass", fs=100, output="sos")
    a, b = (np.stack([oas(t.T)[0] for t in sosfiltfilt(sos, v, axis=-1)]) for v in (x, z))
    one, other = (a[y == c].mean(0) for c in (0, 1))
    vectors = eigh(one, one + other)[1][:, [0, 1, 3, 4]]
    power = [np.einsum("cf,ncd,df->nf", vectors, m, vectors) for m in (a, b)]
    features = [np.log(p / p.sum(1, keepdims=True)) for p in power]
    expected = (
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features[0], y).predict_proba(features[1])
    )
    found = trial_baseline("CSP + LDA", x, y, z, rate_hz=100.0, band_hz=(8, 30))
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-6)
    assert not np.allclose(found, trial_baseline("CSP + LDA", x, y, z, rate_hz=100.0), atol=1e-2)


@pytest.mark.parametrize("name", sorted(TRIAL_BASELINES))
def test_three_classes_and_one_channel_are_answered(name):
    x, y = trials(30, power=3.0)
    three = trial_baseline(name, x, np.arange(30) % 3, x, rate_hz=100.0)
    assert three.shape == (30, 3)
    assert np.isfinite(trial_baseline(name, x[:, :1], y, x[:, :1], rate_hz=100.0)).all()


def test_refusals():
    x, y = trials(4)
    with pytest.raises(DataError, match="a class has 1 training trials"):
        trial_baseline("CSP + LDA", x[:3], y[:3], x, rate_hz=100.0)
    with pytest.raises(ConfigError, match=r"did you mean 'CSP \+ LDA'"):
        trial_baseline("CSP+LDA", x, y, x, rate_hz=100.0)
    with pytest.raises(ConfigError, match="half the rate, 50 Hz"):
        trial_baseline("CSP + LDA", x, y, x, rate_hz=100.0, band_hz=(8, 60))
