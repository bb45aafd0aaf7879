"""What a prediction of spikes is worth: bits per spike, PSTHs, velocity R², by the published definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.baselines.psth import psth
from neurofm.benchmarks.stats.scores import noise_ceiling
from neurofm.schema.errors import ConfigError, DataError

# rates below this count as this (Neural Latents Benchmark '21)
LOWEST_RATE = 1e-9


def poisson_nll(rates: ArrayLike, counts: ArrayLike) -> float:
    """Negative log-likelihood in nats of counts under Poisson rates, summed, with the log-factorial of the counts.

    Parameters
    ----------
    rates : array_like
        Expected spikes per bin; zeros count as 1e-9.
    counts : array_like, same shape
        Spikes per bin; NaN is not scored (a unit that was not observed).

    Raises
    ------
    DataError
        When a rate is negative or not finite: a score of −∞ would otherwise hide in a mean.
    """
    from scipy.special import gammaln

    r, y = np.asarray(rates, np.float64), np.asarray(counts, np.float64)
    if r.shape != y.shape:
        raise DataError(f"rates have shape {r.shape} and counts {y.shape}; they must be equal")
    seen = ~np.isnan(y)
    r, y = r[seen], y[seen]
    if not np.isfinite(r).all() or (r < 0).any():
        bad = np.count_nonzero(~np.isfinite(r) | (r < 0))
        raise DataError(f"{bad} of {r.size} rates are negative or not finite; expected spikes per bin of 0 or more")
    r = np.maximum(r, LOWEST_RATE)
    return float((r - y * np.log(r) + gammaln(y + 1)).sum())


def bits_per_spike(rates: ArrayLike, counts: ArrayLike, *, null: ArrayLike | None = None) -> float:
    """How much better than a constant rate the rates tell the spikes: (NLL_null − NLL) / (spikes · ln 2).

    Pei et al. 2021 (Neural Latents Benchmark '21), co-bps and fp-bps. As there, the constant rate of each unit is the
    mean of the *scored* counts unless `null` is given; it so knows a little of the test, which costs every model alike.

    Parameters
    ----------
    rates, counts : array_like, shape (..., unit)
        Expected and found spikes per bin; NaN counts are not scored.
    null : array_like, shape (unit,), optional
        Spikes per bin of the constant model.

    Raises
    ------
    DataError
        When nobody fires, or rates are negative or not finite.
    """
    y = np.asarray(counts, np.float64)
    flat = y.reshape(-1, y.shape[-1])
    constant = _mean_count(flat) if null is None else np.asarray(null, np.float64)
    spikes = float(np.nansum(flat))
    if spikes <= 0:
        raise DataError("bits per spike: there is no spike in what is scored; widen it or leave silent units out")
    gain = poisson_nll(np.broadcast_to(constant, flat.shape), flat) - poisson_nll(rates, y)
    return gain / (spikes * np.log(2))


def _mean_count(flat: NDArray[np.float64]) -> NDArray[np.float64]:
    seen = (~np.isnan(flat)).sum(0)
    return np.nansum(flat, axis=0) / np.maximum(seen, 1)


def r2_uniform(true: ArrayLike, predicted: ArrayLike) -> float:
    """R² averaged over dimensions with equal weight (Neural Latents Benchmark '21, velocity)."""
    sse, sst = _sums(true, predicted)
    return float(np.mean(1 - sse / sst))


def r2_weighted(true: ArrayLike, predicted: ArrayLike) -> float:
    """R² averaged over dimensions weighted by their variance: 1 − ΣSSE / ΣSST (FALCON)."""
    sse, sst = _sums(true, predicted)
    return float(1 - sse.sum() / sst.sum())


def _sums(true: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if a.shape != b.shape or a.ndim != 2 or not len(a):
        raise DataError(
            f"R²: true values have shape {a.shape}, predictions {b.shape}; expected equal (time, dimension)"
        )
    seen = np.isfinite(a).all(1)
    a, b = a[seen], b[seen]
    if not len(a) or not np.isfinite(b).all():
        raise DataError("R²: a prediction is not finite, or there is no true value")
    sst = ((a - a.mean(0)) ** 2).sum(0)
    if not (sst > 0).all():
        raise DataError("R²: a dimension does not vary over what is scored")
    return ((a - b) ** 2).sum(0), sst


def psth_r(
    rates: Sequence[ArrayLike], counts: Sequence[ArrayLike], conditions: Sequence[str], *, sd_bins: float = 0.0
) -> tuple[float, float]:
    """Pearson r of the trial-averaged rates with the PSTH, and its noise ceiling: per unit, averaged over units.

    The ceiling is what a perfect model of the repeated part reaches with so many trials (`stats.scores.noise_ceiling`). A model
    that reads other units of the same trials can pass it: it also knows what these trials happened to share.

    Parameters
    ----------
    rates, counts, conditions, sd_bins
        As in `psth_r2`.

    Returns
    -------
    r, ceiling : float
        NaN without two trials of every condition, or where no unit varies.
    """
    if sd_bins:
        from scipy.ndimage import gaussian_filter1d

        counts = [gaussian_filter1d(np.asarray(c, np.float64), sd_bins, axis=0) for c in counts]
    said, found = psth(rates, conditions), psth(counts, conditions)
    names = sorted(found)
    n = min(list(conditions).count(c) for c in names)
    if n < 2:
        return float("nan"), float("nan")
    a, b = (np.concatenate([x[c] for c in names]) for x in (found, said))
    # repeat k is the k-th trial of every condition, one after the other: (repeat, bin, unit)
    of = {c: [np.asarray(v)[: len(found[c])] for v, k in zip(counts, conditions, strict=True) if k == c] for c in names}
    repeats = np.stack([np.concatenate([of[c][k] for c in names]) for k in range(n)])
    moves = np.flatnonzero((a.std(0) > 1e-12) & (b.std(0) > 1e-12) & (repeats.std(1) > 1e-12).all(0))
    if not len(moves):
        return float("nan"), float("nan")
    r = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in moves]
    return float(np.mean(r)), float(np.mean([noise_ceiling(repeats[:, :, i]) for i in moves]))


def psth_r2(
    rates: Sequence[ArrayLike], counts: Sequence[ArrayLike], conditions: Sequence[str], *, sd_bins: float = 0.0
) -> float:
    """R² of the trial-averaged rates against the PSTH, per unit over conditions and bins, averaged over units.

    Parameters
    ----------
    rates, counts : sequence of array_like, shape (bin, unit)
        Expected and found spikes per bin of each trial.
    conditions : sequence of str
        Of each trial.
    sd_bins : float
        Standard deviation of the Gaussian that counts are smoothed with before averaging.

    Notes
    -----
    Units whose PSTH does not vary are left out.
    """
    if sd_bins < 0:
        raise ConfigError(f"psth_r2: sd_bins is {sd_bins}; expected 0 or more")
    if sd_bins:
        from scipy.ndimage import gaussian_filter1d

        counts = [gaussian_filter1d(np.asarray(c, np.float64), sd_bins, axis=0) for c in counts]
    said, found = psth(rates, conditions), psth(counts, conditions)
    a, b = (np.concatenate([x[c] for c in sorted(found)]) for x in (found, said))
    sst = ((a - a.mean(0)) ** 2).sum(0)
    moves = sst > 1e-12
    if not moves.any():
        raise DataError("PSTH R²: no unit's trial average varies over what is scored")
    return float(np.mean(1 - ((a - b) ** 2).sum(0)[moves] / sst[moves]))
