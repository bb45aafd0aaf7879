"""Banded ridge against scikit-learn on scaled features, and what it is for."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from neurofm.benchmarks.baselines.banded_ridge import BandedRidge
from neurofm.schema.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(60, 10)) + 2, RNG.normal(size=(60, 80)) * 3 - 1
Y = A[:, :3] @ RNG.normal(size=(3, 4)) + 0.5 * RNG.normal(size=(60, 4))


def test_estimates_are_ridge_on_scaled_features():
    model = BandedRidge().fit({"a": A, "b": B}, Y)
    estimate = model.predict({"b": B[:5], "a": A[:5]})
    for t in range(4):
        x = np.concatenate([np.sqrt(s) * x for s, x in zip(model.share_[t], (A, B), strict=True)], axis=1)
        oracle = Ridge(alpha=model.alpha_[t]).fit(x, Y[:, t])
        np.testing.assert_allclose(estimate[:, t], oracle.predict(x[:5]), rtol=1e-8)


def test_choice_is_the_least_error_of_the_folds():
    model = BandedRidge(alphas=(0.1, 10.0, 1000.0), n_folds=3).fit({"b": B}, Y)
    parts = np.array_split(np.arange(60), 3)
    for t in range(4):
        errors = []
        for alpha in (0.1, 10.0, 1000.0):
            error = 0.0
            for held in parts:
                train = np.setdiff1d(np.arange(60), held)
                fit = Ridge(alpha=alpha).fit(B[train], Y[train, t])
                error += ((fit.predict(B[held]) - Y[held, t]) ** 2).sum()
            errors.append(error)
        assert model.alpha_[t] == (0.1, 10.0, 1000.0)[int(np.argmin(errors))]


def test_a_band_of_noise_is_weighed_down():
    """80 loud columns of noise beside 10 that matter: one penalty for all does worse on new rows."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(300, 10)), 3 * rng.normal(size=(300, 80))
    y = a @ rng.normal(size=(10, 4)) + rng.normal(size=(300, 4))
    train, test = slice(0, 100), slice(100, None)
    banded = BandedRidge().fit({"a": a[train], "b": b[train]}, y[train])
    both = np.concatenate([a, b], axis=1)
    plain = BandedRidge().fit({"both": both[train]}, y[train])
    error = ((banded.predict({"a": a[test], "b": b[test]}) - y[test]) ** 2).mean()
    assert error < 0.8 * ((plain.predict({"both": both[test]}) - y[test]) ** 2).mean()
    assert (banded.share_[:, 0] > 0.5).all()


def test_groups_are_never_cut():
    """Pairs of equal rows with equal noise reward a tiny penalty, unless both fall into one fold."""
    rng = np.random.default_rng(2)
    x, noise = rng.normal(size=(40, 60)), rng.normal(size=(40, 1))
    x2, y2, stimulus = np.concatenate([x, x]), np.concatenate([noise, noise]), [*range(40), *range(40)]
    leaking = BandedRidge(n_folds=2).fit({"x": x2}, y2)
    honest = BandedRidge(n_folds=2).fit({"x": x2}, y2, groups=stimulus)
    assert honest.alpha_[0] > 100 * leaking.alpha_[0]


def test_bad_input_gets_a_sentence():
    with pytest.raises(DataError, match="too few for 5 folds"):
        BandedRidge().fit({"a": A[:3]}, Y[:3])
    with pytest.raises(DataError, match="band 'a' has shape"):
        BandedRidge().fit({"a": A[:30]}, Y)
    with pytest.raises(DataError, match="not finite"):
        BandedRidge().fit({"a": np.where(A > 3, np.nan, A)}, Y)
    with pytest.raises(DataError, match="fitted on the bands a"):
        BandedRidge().fit({"a": A}, Y).predict({"b": B})
    with pytest.raises(ConfigError, match="above 0"):
        BandedRidge(alphas=(0.0,))
