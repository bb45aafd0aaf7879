"""Intervals and exact tests, each over the unit that was sampled: subjects or trials, never time points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from neurofm.schema.errors import ConfigError, DataError

EXACT_SIGN_FLIP_MAX = 16
# units below which the percentile bootstrap of a mean is too narrow
FEW = 10
Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-np.inf, np.inf)


class Interval(NamedTuple):
    """An estimate with its interval."""

    value: float
    low: float
    high: float
    n: int


class Paired(NamedTuple):
    """A mean paired difference, its interval, and the exact sign-flip p of "no difference"."""

    value: float
    low: float
    high: float
    n: int
    p: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


def _sample(values: ArrayLike, what: str) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise DataError(f"{what}: expected one finite number per unit (subject or trial), got shape {x.shape}")
    return x


def bootstrap(
    n: int,
    score: Callable[[NDArray[np.int64]], float],
    *,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    n_draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of any score, over units drawn with replacement (Efron 1979).

    Parameters
    ----------
    n : int
        Number of units (trials or subjects) that were sampled.
    score : callable (index array, shape (n,)) -> float
        The score of the units with these indices; called with ``arange(n)`` for the estimate itself. A draw whose
        score is not finite (a class that was not drawn) is left out.
    strata : array_like, shape (n,), optional
        Units are drawn within their stratum, so each class or person keeps its count.
    level : float
        Coverage aimed at.
    n_draws, seed : int
        Number of resamples and the generator's seed.
    """
    if n < 1:
        raise DataError("bootstrap: there are no units to draw from")
    rng = np.random.default_rng(seed)
    if strata is None:
        groups = [np.arange(n)]
    else:
        stratum = np.asarray(strata)
        if stratum.shape != (n,):
            raise DataError(f"bootstrap: strata have shape {stratum.shape}, expected ({n},)")
        groups = [np.flatnonzero(stratum == value) for value in np.unique(stratum)]
    draws = np.array([score(np.concatenate([rng.choice(g, len(g)) for g in groups])) for _ in range(n_draws)])
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        raise DataError("bootstrap: no draw had a finite score")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(score(np.arange(n))), float(low), float(high), n)


def bootstrap_by_class(n_right: ArrayLike, n_trials: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Bootstrap interval of balanced accuracy, over trials drawn with replacement within their class.

    Of n trials drawn from a class of which a share p was right, the number right is binomial (n, p); so the draws are
    made of counts, and 20,000 of them take milliseconds.

    Parameters
    ----------
    n_right, n_trials : array_like, shape (class,), int
        Trials whose label is right, and all trials, of each class that occurs.
    level : float
        Coverage aimed at.
    seed : int
        Of the draws.
    """
    right, n = np.asarray(n_right, dtype=np.int64), np.asarray(n_trials, dtype=np.int64)
    if (
        right.shape != n.shape
        or right.ndim != 1
        or not len(n)
        or (n < 1).any()
        or (right < 0).any()
        or (right > n).any()
    ):
        raise DataError(f"bootstrap by class: {right.tolist()} right of {n.tolist()} is not possible")
    draws = (np.random.default_rng(seed).binomial(n, right / n, size=(20_000, len(n))) / n).mean(1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float((right / n).mean()), float(low), float(high), int(n.sum()))


def bootstrap_mean(values: ArrayLike, **choices: int | float) -> Interval:
    """Bootstrap interval of a mean over units, one value each; `choices` as in `bootstrap`."""
    x = _sample(values, "bootstrap")
    return bootstrap(len(x), lambda index: float(x[index].mean()), **choices)  # type: ignore[arg-type]


def t_quantile(n: int, *, level: float = 0.95) -> float:
    """Two-sided quantile of Student's t for n units."""
    return float(stats.t.ppf((1 + level) / 2, n - 1))


def cut_at(interval: Interval, bounds: Bounds) -> Interval:
    """Leave out of an interval what the score cannot be, which costs no coverage; infinite ends stay "not known"."""
    low, high = (float(np.clip(x, *bounds)) if np.isfinite(x) else x for x in (interval.low, interval.high))
    return interval._replace(low=low, high=high)


def t_interval(values: ArrayLike, *, level: float = 0.95, bounds: Bounds = UNBOUNDED) -> Interval:
    """Student's t interval of a mean, cut at the score's bounds; infinite when there is one unit only."""
    x = _sample(values, "t interval")
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(mean, -np.inf, np.inf, len(x))
    half = float(t_quantile(len(x), level=level) * x.std(ddof=1) / np.sqrt(len(x)))
    return cut_at(Interval(mean, mean - half, mean + half, len(x)), bounds)


def sign_flip_p(
    differences: ArrayLike,
    *,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
    n_draws: int = 100_000,
    seed: int = 0,
) -> float:
    """P-value of the sign-flip test that paired differences are symmetric around zero (Fisher 1935).

    All 2^n sign patterns are enumerated up to n = 16, so the smallest two-sided p with n subjects is 2^(1−n)
    (.0156 with seven). Beyond that `n_draws` random patterns are taken, the observed one counted among them.
    """
    d = _sample(differences, "sign-flip test")
    n = len(d)
    if n <= EXACT_SIGN_FLIP_MAX:
        signs = 1.0 - 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(n_draws, n))
        signs[0] = 1.0
    null, observed = signs @ d, float(d.sum())
    if alternative == "two-sided":
        null, observed = np.abs(null), abs(observed)
    elif alternative == "less":
        null, observed = -null, -observed
    elif alternative != "greater":
        raise ConfigError(f"alternative '{alternative}': expected two-sided, greater or less")
    # Sums of the same numbers in another order differ in the last bits; such ties count as equal
    return float(np.mean(null >= observed - 1e-12 * np.abs(d).sum()))


def paired_interval(
    first: ArrayLike,
    second: ArrayLike,
    *,
    method: Literal["t", "bootstrap"] = "t",
    level: float = 0.95,
    seed: int = 0,
) -> Paired:
    """Mean of ``first − second`` over the same units, with its interval and the exact two-sided sign-flip p.

    With few subjects the percentile bootstrap is too narrow (seven: about .86 for a stated .95), so the default is t.
    """
    a, b = _sample(first, "paired interval"), _sample(second, "paired interval")
    if a.shape != b.shape:
        raise DataError(f"paired interval: {len(a)} units against {len(b)}; the same subjects must be on both sides")
    if method not in ("t", "bootstrap"):
        raise ConfigError(f"method '{method}': expected t or bootstrap")
    d = a - b
    estimate = t_interval(d, level=level) if method == "t" else bootstrap_mean(d, level=level, seed=seed)
    return Paired(*estimate, p=sign_flip_p(d))


def binomial_p(n_correct: int, n_trials: int, *, chance: float) -> float:
    """One-sided exact binomial p of at least `n_correct` of `n_trials` right when each is right with `chance`."""
    if not 0 <= n_correct <= n_trials or n_trials < 1 or not 0 < chance < 1:
        raise DataError(f"binomial test: {n_correct} of {n_trials} at chance {chance} is not possible")
    return float(stats.binomtest(int(n_correct), int(n_trials), chance, alternative="greater").pvalue)


def binomial_interval(n_correct: int, n_trials: int, *, level: float = 0.95) -> Interval:
    """Clopper–Pearson interval of a share."""
    if not 0 <= n_correct <= n_trials or n_trials < 1:
        raise DataError(f"binomial interval: {n_correct} of {n_trials} is not possible")
    interval = stats.binomtest(int(n_correct), int(n_trials)).proportion_ci(confidence_level=level, method="exact")
    return Interval(n_correct / n_trials, float(interval.low), float(interval.high), n_trials)


class Chance(NamedTuple):
    """What a score is when labels and predictions have nothing to do with each other."""

    mean: float
    low: float
    high: float
    p: float


def permutation_chance(
    true: ArrayLike,
    predicted: ArrayLike,
    metric: Callable[[NDArray, NDArray], float],
    *,
    level: float = 0.95,
    n_draws: int = 1000,
    seed: int = 0,
) -> Chance:
    """Distribution of a score when the true labels are permuted over trials, and the p of the observed score.

    Trials must be exchangeable. p counts the observed order among the permutations: (1 + #{null ≥ observed}) / (1 + n)
    (Phipson & Smyth 2010), so it is never 0.
    """
    a, b = np.asarray(true), np.asarray(predicted)
    rng = np.random.default_rng(seed)
    null = np.array([metric(a[rng.permutation(len(a))], b) for _ in range(n_draws)])
    low, high = np.quantile(null, [(1 - level) / 2, (1 + level) / 2])
    p = (1 + np.count_nonzero(null >= metric(a, b) - 1e-12)) / (1 + n_draws)
    return Chance(float(null.mean()), float(low), float(high), float(p))


def uniform_p(observed: float, null: ArrayLike, *, rng: np.random.Generator) -> float:
    """Permutation p with ties broken at random: exactly uniform on (0, 1] when nothing is there.

    (#{null > observed} + U · (1 + #{null = observed})) / (1 + n), U uniform (Lehmann & Romano 2005, 15.2); the usual p
    counts every tie, so that coarse scores such as accuracies give values that are too large.
    """
    x = np.asarray(null, dtype=np.float64)
    ties = np.abs(x - observed) <= 1e-12
    return float((np.count_nonzero((x > observed) & ~ties) + rng.uniform() * (1 + ties.sum())) / (1 + len(x)))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values corrected for their number by Holm's step-down procedure (Holm 1979), in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def mean_over_units(values: ArrayLike, *, level: float = 0.95, bounds: Bounds = UNBOUNDED) -> Interval:
    """Mean over people or sessions: Student's t below `FEW` of them, where the percentile bootstrap is too narrow."""
    x = _sample(values, "mean over units")
    return t_interval(x, level=level, bounds=bounds) if len(x) < FEW else bootstrap_mean(x, level=level)
