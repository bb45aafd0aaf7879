"""Classical baselines of spiking populations: known couplings are found, nothing looks ahead."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from neurofm.benchmarks.baselines.correlogram import connectivity, cross_counts, score_connectivity
from neurofm.benchmarks.baselines.gpfa import Gpfa
from neurofm.benchmarks.baselines.poisson_glm import CoupledGlm, PoissonGlm, past_features
from neurofm.benchmarks.baselines.psth import Psth
from neurofm.benchmarks.baselines.smoothing import exponential, gaussian
from neurofm.benchmarks.baselines.wiener import WienerFilter, causal_taps
from neurofm.benchmarks.population.bars import BY_NAME, answer
from neurofm.benchmarks.population.data import Session, Trial
from neurofm.data.splits.spans import Span
from neurofm.schema.errors import ConfigError, DataError


def driven(n: int, lag: int, seed: int = 0, gain: float = 0.6) -> np.ndarray:
    """Unit 0 makes unit 1 fire `lag` bins later; unit 2 is alone."""
    rng = np.random.default_rng(seed)
    x = (rng.random((n, 3)) < [0.1, 0.05, 0.1]).astype(float)
    x[lag:, 1] += x[:-lag, 0] * (rng.random(n - lag) < gain)
    return x


def test_wiener_is_ridge_on_causal_taps():
    rng = np.random.default_rng(0)
    x, y = rng.poisson(1, (200, 3)).astype(float), rng.standard_normal((200, 2))
    fitted = WienerFilter(n_taps=4, penalties=[10.0]).fit([x], [y])
    # folds are pieces with a beginning of their own only where there are several trials
    taps = causal_taps(x, 4)
    z = (taps - taps.mean(0)) / taps.std(0)
    expected = Ridge(alpha=10.0).fit(z, y).predict(z)
    np.testing.assert_allclose(fitted.predict(x), expected, atol=1e-10)


def test_wiener_sees_no_future():
    rng = np.random.default_rng(0)
    x, y = rng.poisson(1, (300, 3)).astype(float), rng.standard_normal((300, 2))
    fitted = WienerFilter(n_taps=5).fit([x], [y])
    later = x.copy()
    later[150:] += 7
    np.testing.assert_array_equal(fitted.predict(x)[:150], fitted.predict(later)[:150])
    assert np.abs(fitted.predict(x)[150:] - fitted.predict(later)[150:]).max() > 0.01


def test_wiener_leaves_out_what_is_not_scored():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 2))
    y = x @ [[1.0], [2.0]]
    y[::3] = np.nan
    fitted = WienerFilter(n_taps=1).fit([x], [y])
    np.testing.assert_allclose(fitted.predict(x), x @ [[1.0], [2.0]], atol=0.01)


def test_smoothing_keeps_constants_and_the_exponential_looks_back():
    np.testing.assert_allclose(gaussian(np.ones((20, 2)), sd_bins=3), 1.0)
    x = np.zeros((30, 1))
    x[10] = 1
    y = exponential(x, tau_bins=4)
    assert not y[:10].any()
    assert y[:].sum() == pytest.approx(1.0, abs=0.01)
    assert y[14, 0] / y[10, 0] == pytest.approx(np.exp(-1))


def test_poisson_regression_finds_its_weights():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20000, 2)) * [1.0, 3.0]
    rate = np.exp(x @ [[0.5], [-0.2]] - 1.0)
    glm = PoissonGlm(alpha=0.0).fit(x, rng.poisson(rate))
    np.testing.assert_allclose(glm.weights[:, 0], [0.5, -0.2], atol=0.03)
    np.testing.assert_allclose(glm.predict(x), rate, rtol=0.2)
    # a unit that never fires is predicted so, without a warning or an infinity
    silent = PoissonGlm().fit(x, np.zeros((20000, 1)))
    assert silent.predict(x).max() < 1e-6


def test_past_features_never_see_their_own_bin():
    x = np.zeros((10, 1))
    x[5] = 1
    for delay in (1, 3):
        seen = past_features(x, taus_bins=(2.0,), delay_bins=delay)
        assert not seen[: 5 + delay].any()
        assert seen[5 + delay, 0] > 0
    with pytest.raises(DataError, match="must not see itself"):
        past_features(x, taus_bins=(2.0,), delay_bins=0)


@pytest.mark.parametrize("lag", [2, 15])
def test_correlogram_counts_pairs_in_their_order(lag):
    x = driven(3000, lag)
    slow = sum(np.outer(x[t], x[t + k]) for k in range(lag, lag + 2) for t in range(len(x) - k))
    np.testing.assert_array_equal(cross_counts(x, range(lag, lag + 2)), slow)


def test_correlogram_and_coupled_glm_tell_direction():
    x = driven(40000, 15)
    score = connectivity(x, bin_s=0.001)
    assert np.unravel_index(np.argmax(score), score.shape) == (0, 1)
    assert abs(score[1, 0]) < 5 < score[0, 1]
    coupled = CoupledGlm(taus_bins=(1.0,), delay_bins=15).fit([x]).couplings()
    assert np.unravel_index(np.argmax(coupled), coupled.shape) == (0, 1)
    with pytest.raises(ConfigError, match="overlap"):
        connectivity(x, bin_s=0.001, near_s=(0.01, 0.05))


def test_connectivity_scores():
    true = np.array([[0, 2.0, 0], [0, 0, -3.0], [0, 0, 0]])
    said = np.array([[9, 5.0, 0.1], [0.2, 9, -4.0], [0.1, 0, 9]])
    found = score_connectivity(said, true)
    assert found["auroc"] == found["ap"] == found["auroc_excitatory"] == found["auroc_inhibitory"] == 1
    assert found["chance_ap"] == pytest.approx(2 / 6)
    # unsigned evidence for the inhibitory pair counts for it only if it is large
    assert score_connectivity(said, true, signed=False)["auroc"] < 1
    assert score_connectivity(said.T, true)["auroc"] < 0.6
    with pytest.raises(DataError, match="all pairs"):
        score_connectivity(said, np.ones((3, 3)))


def test_psth_is_of_the_training_trials():
    fitted = Psth(sd_bins=0, floor=0.01).fit([np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]])], ["a", "a"])
    np.testing.assert_allclose(fitted.predict("a", 3), [[0.01], [3.0], [3.0]])
    with pytest.raises(DataError, match="condition 'b'"):
        fitted.predict("b", 2)


@pytest.mark.parametrize("engine", ["factor_analysis", "elephant"])
def test_gpfa_finds_a_shared_course(engine, capsys):
    if engine == "elephant":
        pytest.importorskip("elephant")
    rng = np.random.default_rng(0)
    t = np.arange(50) * 0.02
    loads, trials, truth = rng.uniform(0.3, 1, 12) * rng.choice([-1, 1], 12), [], []
    for _ in range(12):
        z = np.sin(2 * np.pi * (1.5 * t + rng.random()))
        truth.append(z)
        trials.append(rng.poisson(np.exp(0.5 + z[:, None] * loads)).astype(float))
    trials = [np.concatenate([x, np.zeros((50, 1))], axis=1) for x in trials]
    model = Gpfa(n_latents=1, bin_s=0.02, engine=engine, max_iter=10).fit(trials)
    found = np.concatenate(model.transform(trials))
    assert found.shape == (600, 1)
    assert abs(np.corrcoef(found[:, 0], np.concatenate(truth))[0, 1]) > 0.8
    assert "GPFA" not in capsys.readouterr().out


def test_force_in_the_strength_of_a_rhythm_is_found_by_band_power_alone():
    """A matrix whose 20 Hz rhythm grows and shrinks with the behaviour: linear in the signal there is nothing to find."""
    rng, rate = np.random.default_rng(0), 250.0
    t = np.arange(round(60 * rate)) / rate
    force = 1 + np.sin(2 * np.pi * 0.2 * t)
    x = np.stack([force * np.sin(2 * np.pi * 20 * t + p) for p in (0.0, 1.0)], 1) + 0.3 * rng.standard_normal(
        (len(t), 2)
    )
    cut = round(45 * rate)
    trials = [
        Trial(span=Span("r", a / rate, b / rate), counts=x[a:b], behaviour=force[a:b, None]) for a, b in ((0, cut), (cut, len(t)))
    ]  # fmt: skip
    session = Session(
        name="s", subject="a", bin_s=1 / rate, held_out=np.zeros(2, bool), train=trials[:1], test=trials[1:]
    )
    scores = {}
    for bar in ("wiener", "band_power"):
        (said,) = answer("decoding", bar, session)
        rest = slice(250, None)  # the first second has no past to average
        true = trials[1].behaviour[rest]
        scores[bar] = 1 - ((said[rest] - true) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    assert scores["band_power"] > 0.6
    assert scores["wiener"] < 0.1
    assert "band_power" in BY_NAME, "of spike counts it makes no sense, so it has to be asked for"


def test_taps_on_both_sides_see_what_comes():
    """A behaviour that is the count 100 ms later: the past says nothing of it, 250 ms ahead all."""
    counts = np.random.default_rng(0).poisson(1.0, (3000, 2)).astype(float)
    moved = np.r_[counts[5:, :1], np.zeros((5, 1))]
    trials = [
        Trial(span=Span("r", a * 0.02, b * 0.02), counts=counts[a:b], behaviour=moved[a:b])
        for a, b in ((0, 2000), (2000, 3000))
    ]
    session = Session(name="s", subject="a", bin_s=0.02, held_out=np.zeros(2, bool), train=trials[:1], test=trials[1:])
    within = slice(50, -50)
    (blind,), (seen,) = (answer("decoding", bar, session) for bar in ("wiener", "both_sides"))
    assert np.corrcoef(seen[within, 0], trials[1].behaviour[within, 0])[0, 1] > 0.99
    assert abs(np.corrcoef(blind[within, 0], trials[1].behaviour[within, 0])[0, 1]) < 0.15
