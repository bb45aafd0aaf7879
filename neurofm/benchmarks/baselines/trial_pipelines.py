"""Classical decoders of labelled trials: what a network has to beat before anybody should care.

Each is fitted on the calibration trials alone, with what it needs to hold together on a few of them: shrunk covariances,
shrunk discriminants, and no choice that would have to be tuned.

Shape legend: N trial, C channel, T sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.baselines.lda import ShrinkageLDA
from neurofm.benchmarks.baselines.seizure import band_power
from neurofm.schema.errors import ConfigError, DataError, nearest

# trials of every class that a covariance within classes needs
FEWEST = 2
CSP_FILTERS = 4


def trial_baseline(name: str, train: ArrayLike, labels: ArrayLike, test: ArrayLike, *, rate_hz: float) -> NDArray:
    """Fit one baseline and return its log-probabilities of the test trials, (N, class), classes sorted.

    Parameters
    ----------
    name : str
        One of `TRIAL_BASELINES`.
    train, test : array_like, shape (N, C, T)
        As stored, in physical units.
    labels : array_like, shape (N,)
        Of the training trials.
    rate_hz : float
        Of the trials.

    Raises
    ------
    DataError
        When a class has fewer than two training trials.
    """
    if name not in TRIAL_BASELINES:
        raise ConfigError(f"baseline '{name}' is unknown: {nearest(name, TRIAL_BASELINES)}")
    x, y, z = np.asarray(train, np.float64), np.asarray(labels), np.asarray(test, np.float64)
    counts = np.unique(y, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < FEWEST:
        raise DataError(
            f"baseline '{name}': a class has {counts.min()} training trials; it needs two classes of {FEWEST}"
        )
    # one scale for all channels: µV and fT differ by what solvers regard as zero
    scale = x.std() or 1.0
    return TRIAL_BASELINES[name](x / scale, y, z / scale, rate_hz)


def _csp_lda(x: NDArray, y: NDArray, z: NDArray, rate_hz: float) -> NDArray:
    """Common spatial patterns, log variance, shrinkage LDA (Blankertz et al. 2008, IEEE Signal Proc. Mag. 25:41)."""
    from pyriemann.estimation import Covariances
    from pyriemann.spatialfilters import CSP

    covariances = Covariances(estimator="oas")
    csp = CSP(nfilter=min(CSP_FILTERS, x.shape[1]), metric="euclid", log=True)
    features = csp.fit_transform(covariances.fit_transform(x), y)
    return _lda().fit(features, y).predict_log_proba(csp.transform(covariances.transform(z)))


def _tangent_space(x: NDArray, y: NDArray, z: NDArray, rate_hz: float) -> NDArray:
    """Covariances in the tangent space at their Riemannian mean, then shrinkage LDA (Barachant et al. 2012, IEEE TBME 59:920)."""
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace

    covariances, tangent = Covariances(estimator="oas"), TangentSpace(metric="riemann")
    features = tangent.fit_transform(covariances.fit_transform(x))
    return _lda().fit(features, y).predict_log_proba(tangent.transform(covariances.transform(z)))


def _band_power(x: NDArray, y: NDArray, z: NDArray, rate_hz: float) -> NDArray:
    """Log power of every channel in the classical bands, shrinkage LDA."""
    features = [band_power(values.transpose(0, 2, 1), rate_hz=rate_hz) for values in (x, z)]
    mean, spread = features[0].mean(0), features[0].std(0)
    a, b = ((f - mean) / np.where(spread > 0, spread, 1.0) for f in features)
    return _lda().fit(a, y).predict_log_proba(b)


def _slow_lda(x: NDArray, y: NDArray, z: NDArray, rate_hz: float) -> NDArray:
    """Shrinkage LDA on the signal below 8 Hz; what evoked responses are decoded by (see `lda`)."""
    return ShrinkageLDA(rate_hz=rate_hz, low_pass_hz=min(8.0, 0.4 * rate_hz)).fit(x, y).logits(z)


def _lda() -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


TRIAL_BASELINES: dict[str, Callable[[NDArray, NDArray, NDArray, float], NDArray]] = {
    "CSP + LDA": _csp_lda,
    "Riemannian tangent space": _tangent_space,
    "band power + LDA": _band_power,
    "slow signal + LDA": _slow_lda,
}
