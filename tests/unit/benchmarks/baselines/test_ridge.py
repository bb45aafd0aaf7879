from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from sklearn.linear_model import Ridge

from neurofm.benchmarks.adapted.bars import FoldBars
from neurofm.benchmarks.adapted.normalise import fit_normaliser, held_out_normaliser, transductive_normaliser
from neurofm.benchmarks.adapted.protocols import masked_region_scores
from neurofm.benchmarks.baselines.lagged_ridge import add_up, gram, lagged, solve_without_target
from neurofm.benchmarks.baselines.masked_ridge import MaskedRegionRidge
from neurofm.benchmarks.baselines.var import VAR, predict_persistence
from neurofm.schema.errors import ConfigError, DataError, NeurofmError

LAGS = (-1, 0, 1)


def shared_people(n: int = 4, time: int = 300, regions: int = 9, noise: float = 0.5) -> dict[str, np.ndarray]:
    """People whose regions mix three common sources, each person in a slightly different way."""
    rng = np.random.default_rng(7)
    mixing = rng.normal(size=(3, regions))
    people = {}
    for k in range(n):
        sources = lfilter([0.6], [1, -0.8], rng.normal(size=(time, 3)), axis=0)
        own = mixing + 0.3 * rng.normal(size=mixing.shape)
        people[f"p{k}"] = 9000 + 50 * (sources @ own + noise * rng.normal(size=(time, regions)))
    return people


def ridge_by_hand(values: np.ndarray, target: int, penalty: float, prior: np.ndarray | None) -> np.ndarray:
    """scikit-learn on an explicit feature matrix; the prior by shifting the target."""
    others = [r for r in range(values.shape[1]) if r != target]
    features = np.column_stack([values[1 + k : len(values) - 1 + k, others] for k in LAGS])
    y = values[1:-1, target]
    shift = np.zeros(features.shape[1]) if prior is None else prior
    return Ridge(alpha=penalty, fit_intercept=False).fit(features, y - features @ shift).coef_ + shift


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.floats(0.1, 1e4), st.booleans())
def test_leave_target_out_equals_scikit_learn(target: int, penalty: float, with_prior: bool) -> None:
    rng = np.random.default_rng(target)
    values = rng.normal(size=(70, 6)) @ rng.normal(size=(6, 6))
    others = np.array([k * 6 + r for k in range(3) for r in range(6) if r != target])
    prior = None
    if with_prior:
        prior = np.zeros((18, 1))
        prior[others, 0] = rng.normal(size=15)
    W = solve_without_target(gram(values, LAGS), penalty, [target], prior)
    expected = ridge_by_hand(values, target, penalty, None if prior is None else prior[others, 0])
    np.testing.assert_allclose(W[others, 0], expected, rtol=1e-7, atol=1e-10)
    assert (np.delete(W[:, 0], others) == 0).all()


def test_grams_of_people_add_up_without_crossing_their_borders() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 4)), rng.normal(size=(30, 4))
    both = add_up([gram(a, LAGS), gram(b, LAGS)])
    assert both.n == 18 + 28
    fa, fb = lagged(a, LAGS)[0], lagged(b, LAGS)[0]
    np.testing.assert_allclose(both.G, fa.T @ fa + fb.T @ fb)
    with pytest.raises(DataError, match="nobody"):
        add_up([])
    with pytest.raises(DataError, match="too few"):
        lagged(a[:2], LAGS)


def test_masked_ridge_never_reads_the_hidden_region() -> None:
    runs = [fit_normaliser(x, source="").apply(x) for x in shared_people().values()]
    model = MaskedRegionRidge(targets=[0, 3]).fit(runs[1:]).adapt(runs[0][:60])
    window = runs[0][100:160][None]
    hidden = window.copy()
    hidden[..., 3] = np.nan
    np.testing.assert_array_equal(model.predict_masked(window, 3), model.predict_masked(hidden, 3))
    assert np.isnan(model.predict_masked(hidden, 3)[0, [0, -1]]).all()
    with pytest.raises(DataError, match="region 5"):
        model.predict_masked(window, 5)
    with pytest.raises(NeurofmError, match="before fit"):
        MaskedRegionRidge(targets=[0]).predict_masked(window, 0)
    with pytest.raises(NeurofmError, match="call fit first"):
        MaskedRegionRidge(targets=[0]).adapt(runs[0][:0])


def test_shrinkage_moves_between_population_and_own() -> None:
    runs = [fit_normaliser(x, source="").apply(x) for x in shared_people().values()]
    population = MaskedRegionRidge(targets=[0]).fit(runs[1:])
    tied = MaskedRegionRidge(targets=[0], penalty_own=1e12).fit(runs[1:]).adapt(runs[0])
    np.testing.assert_allclose(tied.weights, population.weights, atol=1e-6)
    free = MaskedRegionRidge(targets=[0], penalty_own=1e-6).fit(runs[1:]).adapt(runs[0])
    own = MaskedRegionRidge(targets=[0], penalty_own=1e-6).adapt(runs[0])
    np.testing.assert_allclose(free.weights, own.weights, atol=1e-3)


def test_var_recovers_planted_dynamics_and_features_match_lags() -> None:
    rng = np.random.default_rng(1)
    A1, A2 = 0.4 * np.eye(5) + 0.05 * rng.normal(size=(5, 5)), -0.3 * np.eye(5)
    x = np.zeros((6000, 5))
    for t in range(2, len(x)):
        x[t] = x[t - 1] @ A1 + x[t - 2] @ A2 + rng.normal(size=5)
    model = VAR(order=2, penalty=1e-6).fit([x])
    np.testing.assert_allclose(model.weights, np.vstack([A2, A1]), atol=0.06)
    history = x[100:103][None]
    np.testing.assert_allclose(model.predict_next(history)[0], history[0, -1] @ A1 + history[0, -2] @ A2, atol=0.3)
    with pytest.raises(DataError, match="fewer than the order"):
        model.predict_next(history[:, -1:])
    np.testing.assert_array_equal(predict_persistence(history), history[:, -1])


def test_normaliser_of_a_new_person_uses_calibration_only() -> None:
    people = shared_people()
    run = people["p0"].copy()
    before = held_out_normaliser(run[:50])
    run[50:] *= 100
    after = held_out_normaliser(run[:50])
    np.testing.assert_array_equal(before.mean, after.mean)
    assert "50" in after.source
    assert not after.transductive
    assert transductive_normaliser(run).transductive
    cold = held_out_normaliser(run[:0], unlabelled=run[:50])
    np.testing.assert_array_equal(cold.sd, after.sd)
    assert "only" in cold.source
    population = held_out_normaliser(run[:0], population=[people["p1"], people["p2"]])
    np.testing.assert_allclose(population.mean, (people["p1"].mean(0) + people["p2"].mean(0)) / 2)
    with pytest.raises(DataError, match="no calibration"):
        held_out_normaliser(run[:0])


@pytest.mark.parametrize(("fault", "message"), [(np.nan, "not finite"), (9000.0, "does not vary")])
def test_flat_or_nan_region_is_named(fault: float, message: str) -> None:
    run = shared_people()["p0"]
    run[:, 4] = fault
    with pytest.raises(DataError, match=f"region 4 .*{message}"):
        fit_normaliser(run, source="test")


def test_bars_ignore_the_test_half_and_order_sensibly() -> None:
    people = shared_people()
    bars = FoldBars(people, test=(150, 300))
    masked = {b.model: b for b in bars.masked("p0", 40)}
    assert masked["ridge"].scores.mean_r2 > masked["ridge_own"].scores.mean_r2 > 0
    calibration, test, normaliser = bars.spans("p0", 40)
    # Corrupting the test span must leave calibration, weights and normalisation as they were
    changed = {**people, "p0": people["p0"].copy()}
    changed["p0"][150:] += 500
    again = FoldBars(changed, test=(150, 300)).spans("p0", 40)
    np.testing.assert_array_equal(again[0], calibration)
    np.testing.assert_array_equal(again[2].sd, normaliser.sd)
    assert not np.array_equal(again[1], test)
    following = {b.model: b.scores.mean_r2 for b in bars.next_volume("p0", 40)}
    assert set(following) == {"persistence", "var1", "var2", "var1_own"}
    assert next(iter(bars.masked("p0", 40, transductive=True))).transductive
    assert {b.model for b in bars.masked("p0", 0)} == {"ridge"}


def test_bars_refuse_calibration_in_the_test_span_and_unknown_people() -> None:
    bars = FoldBars(shared_people(), test=(150, 300))
    with pytest.raises(ConfigError, match="reach into the test"):
        bars.normaliser("p0", 151)
    with pytest.raises(ConfigError, match="did you mean 'p0'"):
        bars.normaliser("p00", 50)


def test_ridge_matches_a_slow_float64_reference_through_the_protocol() -> None:
    people = shared_people()
    bars = FoldBars(people, test=(150, 300), targets=[0, 4])
    score = next(iter(bars.masked("p0", 60))).scores
    normalised = [fit_normaliser(x, source="").apply(x) for n, x in people.items() if n != "p0"]
    calibration, test, _ = bars.spans("p0", 60)
    for column, target in enumerate([0, 4]):
        others = [r for r in range(9) if r != target]
        make = lambda v, o=others: np.column_stack([v[1 + k : len(v) - 1 + k, o] for k in LAGS])  # noqa: E731
        F = np.vstack([make(v) for v in normalised])
        y = np.concatenate([v[1:-1, target] for v in normalised])
        w = np.linalg.solve(F.T @ F + 1000 * np.eye(24), F.T @ y)
        Fo, yo = make(calibration), calibration[1:-1, target]
        v = np.linalg.solve(Fo.T @ Fo + 1000 * np.eye(24), Fo.T @ yo + 1000 * w)
        np.testing.assert_allclose(score.predicted[:, column], make(test) @ v, rtol=1e-9, atol=1e-10)
    again = masked_region_scores(MaskedRegionRidge(targets=[0, 4]).fit(normalised).adapt(calibration).predict_masked,
                                 test, targets=[0, 4], window=30, margin=1)  # fmt: skip
    np.testing.assert_allclose(again.r2, score.r2, rtol=1e-10)
