"""Classical decoders of labelled trials: what a network has to beat before anybody should care.

Each is fitted on the calibration trials alone, with what it needs to hold together on a few of them: shrunk covariances,
shrunk discriminants, and no choice that would have to be tuned.

Shape legend: N trial, C channel, T sample, F filter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import butter, sosfiltfilt

from neurofm.benchmarks.baselines.lda import ShrinkageLDA
from neurofm.benchmarks.baselines.seizure import band_power
from neurofm.schema.errors import ConfigError, DataError, nearest

# trials of every class that a covariance within classes needs
FEWEST = 2
CSP_FILTERS = 4
FILTER_ORDER = 4


def trial_baseline(
    name: str, train: ArrayLike, labels: ArrayLike, test: ArrayLike, *, rate_hz: float,
    band_hz: Sequence[float] | None = None,
) -> NDArray:  # fmt: skip
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
    band_hz : pair of float, optional
        What covariances are of: a Butterworth filter of order 4, run forth and back over each trial. None: as stored.

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
    x, z = x / scale, z / scale
    if band_hz is not None and name in OF_COVARIANCES:
        x, z = (_passed(values, rate_hz, band_hz) for values in (x, z))
    return TRIAL_BASELINES[name](x, y, z, rate_hz)


def _csp_lda(x: NDArray, y: NDArray, z: NDArray, rate_hz: float) -> NDArray:
    """Common spatial patterns, log of each one's share of the power, shrinkage LDA (Blankertz et al. 2008, IEEE SPM 25:41)."""
    from pyriemann.estimation import Covariances
    from pyriemann.spatialfilters import CSP

    covariances = Covariances(estimator="oas")
    train, test = covariances.fit_transform(x), covariances.transform(z)
    csp = CSP(nfilter=x.shape[1], metric="euclid", log=False).fit(train, y)
    power = [np.diagonal(csp.transform(m), axis1=1, axis2=2) for m in (train, test)]
    kept = _both_ends(power[0], y)
    a, b = (np.log(p[:, kept] / p[:, kept].sum(1, keepdims=True)) if len(kept) > 1 else np.log(p) for p in power)
    return _lda().fit(a, y).predict_log_proba(b)


def _both_ends(power: NDArray, y: NDArray) -> NDArray[np.int64]:
    """Filters to keep: of two classes as many that favour each; of more, those pyriemann puts first.

    pyriemann sorts by the distance of the eigenvalue from one half, which can leave a class without any.
    """
    classes = np.unique(y)
    if len(classes) > 2:
        return np.arange(min(CSP_FILTERS, power.shape[1]))
    # of an arithmetic mean of covariances, the eigenvalue is the second class's share of the mean power
    one, other = (power[y == c].mean(0) for c in classes)
    order = np.argsort(other / (one + other))
    k = max(1, min(CSP_FILTERS, len(order)) // 2)
    return np.unique(np.concatenate([order[:k], order[len(order) - k :]]))


def _tangent_space(x: NDArray, y: NDArray, z: NDArray, rate_hz: float) -> NDArray:
    """Covariances in the tangent space at their Riemannian mean, logistic regression (Barachant et al. 2012, IEEE TBME 59:920)."""
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(
        Covariances(estimator="oas"), TangentSpace(metric="riemann"), LogisticRegression(max_iter=1000)
    )
    return pipeline.fit(x, y).predict_log_proba(z)


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


def _passed(trials: NDArray, rate_hz: float, band_hz: Sequence[float]) -> NDArray:
    if len(band_hz) != 2 or not 0 < band_hz[0] < band_hz[1] < rate_hz / 2:
        raise ConfigError(
            f"band_hz={list(band_hz)} must be two numbers between 0 and half the rate, {rate_hz / 2:g} Hz"
        )
    return sosfiltfilt(butter(FILTER_ORDER, band_hz, "bandpass", fs=rate_hz, output="sos"), trials, axis=-1)


TRIAL_BASELINES: dict[str, Callable[[NDArray, NDArray, NDArray, float], NDArray]] = {
    "CSP + LDA": _csp_lda,
    "Riemannian tangent space": _tangent_space,
    "band power + LDA": _band_power,
    "slow signal + LDA": _slow_lda,
}
OF_COVARIANCES = ("CSP + LDA", "Riemannian tangent space")
