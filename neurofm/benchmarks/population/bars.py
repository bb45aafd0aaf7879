"""Classical answers to the questions of the population benchmark, each fitted on a session's training part alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from neurofm.benchmarks.baselines.gpfa import Gpfa
from neurofm.benchmarks.baselines.poisson_glm import PoissonGlm
from neurofm.benchmarks.baselines.psth import Psth
from neurofm.benchmarks.baselines.seizure import BANDS_HZ
from neurofm.benchmarks.baselines.smoothing import exponential, gaussian
from neurofm.benchmarks.baselines.wiener import WienerFilter
from neurofm.benchmarks.population.data import Session, Trial
from neurofm.schema.errors import ConfigError, DataError, nearest

Array = NDArray[np.float64]
Answer = list[Array]

# what a rate is worked with where nothing was seen (Neural Latents Benchmark '21)
LOG_FLOOR = 1e-4
SMOOTH_S, CAUSAL_S, HISTORY_S, LATENTS = 0.05, 0.24, 0.3, 8
# taps on both sides reach so far: what a window of half a second has around its middle
SIDE_S = 0.25


def co_smoothing(name: str, session: Session, *, smooth_s: float = SMOOTH_S, alpha: float = 0.01) -> Answer:
    """Expected counts of the held-out units in every test trial, from the others (or, for "psth", the condition)."""
    seen, hidden = ~session.held_out, session.held_out
    if name == "oracle":
        return [_rates(t)[:, hidden] for t in session.test]
    if name == "psth":
        fitted = _psth(session, hidden, smooth_s)
        return [fitted.predict(t.condition, len(t.counts)) for t in session.test]
    if name == "gpfa":
        model = Gpfa(n_latents=min(LATENTS, int(seen.sum()) - 1), bin_s=session.bin_s, sd_s=smooth_s)
        model.fit([t.counts[:, seen] for t in session.train])

        def features(trials: list[Trial]) -> Answer:
            return model.transform([t.counts[:, seen] for t in trials])
    else:

        def features(trials: list[Trial]) -> Answer:
            smooth = (gaussian(t.counts[:, seen], sd_bins=smooth_s / session.bin_s) for t in trials)
            return [np.log(x + LOG_FLOOR) for x in smooth]

    glm = PoissonGlm(alpha=alpha).fit(
        np.concatenate(features(session.train)), np.concatenate([t.counts[:, hidden] for t in session.train])
    )
    return [glm.predict(x) for x in features(session.test)]


def forward(
    name: str, session: Session, *, horizon_s: float, smooth_s: float = SMOOTH_S, alpha: float = 0.01
) -> Answer:
    """Expected counts of all units in the last `horizon_s` of every test trial, from what came before it."""
    n = round(horizon_s / session.bin_s)
    everybody = np.ones(len(session.held_out), bool)
    if name == "oracle":
        return [_rates(t)[-n:] for t in session.test]
    if name == "psth":
        fitted = _psth(session, everybody, smooth_s)
        return [fitted.predict(t.condition, len(t.counts))[-n:] for t in session.test]

    # fast and slow averages where the future begins; one rate for the whole horizon
    def features(trials: list[Trial]) -> Array:
        return np.stack(
            [
                np.concatenate(
                    [exponential(t.counts[:-n], tau_bins=s / session.bin_s)[-1] for s in (smooth_s, CAUSAL_S)]
                )
                for t in trials
            ]
        )

    glm = PoissonGlm(alpha=alpha).fit(features(session.train), np.stack([t.counts[-n:].sum(0) for t in session.train]))
    return [np.repeat(r[None] / n, n, axis=0) for r in glm.predict(features(session.test))]


def decoding(name: str, session: Session, *, history_s: float = HISTORY_S) -> Answer:
    """Behaviour of every test trial from the counts of all units, or from the samples of a matrix."""
    if name == "wiener":
        n_taps, made = max(1, round(history_s / session.bin_s)), [[t.counts for t in p] for p in _parts(session)]
    elif name == "both_sides":
        ahead = round(SIDE_S / session.bin_s)
        n_taps, made = 2 * ahead + 1, [[_early(t.counts, ahead) for t in p] for p in _parts(session)]
    elif name == "band_power":
        n_taps, made = 1, [[_log_power(t.counts, 1 / session.bin_s) for t in p] for p in _parts(session)]
    elif name == "exponential":
        n_taps = 1
        made = [[exponential(t.counts, tau_bins=CAUSAL_S / session.bin_s) for t in p] for p in _parts(session)]
    elif name == "smoothing":
        n_taps = 1
        made = [[gaussian(t.counts, sd_bins=SMOOTH_S / session.bin_s) for t in p] for p in _parts(session)]
    else:
        n_taps, n_units = 1, len(session.held_out)
        model = Gpfa(n_latents=min(LATENTS, n_units - 1), bin_s=session.bin_s, sd_s=SMOOTH_S)
        model.fit([t.counts for t in session.train])
        made = [model.transform([t.counts for t in p]) for p in _parts(session)]
    fitted = WienerFilter(n_taps=n_taps).fit(made[0], [_behaviour(t) for t in session.train])
    return [fitted.predict(x) for x in made[1]]


# protocol → how its bars answer, and their names with what stands in the report
BARS: dict[str, dict[str, str]] = {
    "co_smoothing": {
        "smoothing": "smoothing, Poisson GLM", "gpfa": "factor analysis, Poisson GLM", "psth": "trial average",
        "oracle": "oracle, true rates",
    },
    "forward": {"glm": "Poisson GLM of the past", "psth": "trial average", "oracle": "oracle, true rates"},
    "decoding": {
        "wiener": "ridge, causal taps", "both_sides": "ridge, taps on both sides",
        "exponential": "ridge, causal exponential 240 ms",
        "smoothing": "ridge, smoothed both ways", "gpfa": "ridge of factor analysis",
        "band_power": "ridge, causal band power",
    },
}  # fmt: skip
# asked for by name: a simulation's, what makes sense of matrices alone, what sees as far ahead as a decoder of windows
BY_NAME = ("oracle", "band_power", "both_sides")
ANSWERS: dict[str, Callable[..., Answer]] = {
    "co_smoothing": co_smoothing, "forward": forward, "decoding": decoding,
}  # fmt: skip


def answer(protocol: str, name: str, session: Session, **choices: float) -> Answer:
    """Ask one bar.

    Raises
    ------
    ConfigError
        When the protocol has no bar of that name.
    """
    if name not in BARS[protocol]:
        raise ConfigError(f"protocol '{protocol}' has no baseline '{name}': {nearest(name, BARS[protocol])}")
    return ANSWERS[protocol](name, session, **choices)


def _parts(session: Session) -> tuple[list[Trial], list[Trial]]:
    return session.train, session.test


def _early(counts: Array, ahead: int) -> Array:
    """Counts `ahead` bins before they are, so that causal taps see the future; zeros behind the end."""
    return np.concatenate([counts[ahead:], np.zeros((min(ahead, len(counts)), counts.shape[1]))])


def _log_power(samples: Array, rate_hz: float) -> Array:
    """Log power of every channel in the classical bands, of the past alone, (sample, channel · band)."""
    found = []
    for low, high in BANDS_HZ:
        if high < rate_hz / 2:
            passed = sosfilt(butter(2, (low, high), "bandpass", fs=rate_hz, output="sos"), samples, axis=0)
            found.append(np.log(exponential(passed**2, tau_bins=CAUSAL_S * rate_hz) + 1e-30))
    if not found:
        raise DataError(f"baseline 'band_power': {rate_hz:g} samples a second resolve none of the bands; leave it out")
    return np.concatenate(found, axis=1)


def _rates(trial: Trial) -> Array:
    if trial.rates is None:
        raise DataError(
            f"'{trial.span.recording_id}' has no stream 'true_rates'; leave the baseline 'oracle' out: it is of simulations"
        )
    return trial.rates


def _behaviour(trial: Trial) -> Array:
    if trial.behaviour is None:
        raise ConfigError("protocol 'decoding' needs behaviour, the stream that is decoded")
    return trial.behaviour


def _psth(session: Session, units: NDArray[np.bool_], smooth_s: float) -> Psth:
    trials = session.train
    return Psth(sd_bins=smooth_s / session.bin_s).fit(
        [t.counts[:, units] for t in trials], [t.condition for t in trials]
    )
