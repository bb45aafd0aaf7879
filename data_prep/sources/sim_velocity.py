"""Populations tuned to the velocity of a movement, of new units in every subject, with drift between days on request."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import SimSource, spike_stream, units, values_stream
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import Recording

BIN_S = 0.01
SMOOTH_S = 0.15
LAG_S = 0.08
MOST_HZ = 150.0
# of the factors that units share apart from the movement
FACTORS, FACTOR_S = 2, 0.3


class SimVelocity(SimSource):
    """Cosine tuning: log rate = log base_i + .7 m_i v(t + 80 ms)·pd_i + c_i |v|, at most 150 Hz.

    v is smoothed white noise of two dimensions and unit variance; base_i = base · lognormal(0, .5), m_i ~ Gamma(4, .225),
    c_i ~ N(0, .2), pd_i on the circle. A subject keeps its units over days, which drift if asked to.

    Parameters
    ----------
    n_subjects, n_days : int
        Subjects with units of their own, and recordings of each.
    n_units : int
        Units of a subject.
    duration_s : float
        Length of a recording.
    base_hz : float
        Typical base rate.
    drift : float
        From a day to the next preferred directions turn by N(0, drift) radians, log base rates move by N(0, drift / 2)
        and so do log depths of modulation; 0 = the same every day.
    shared_noise : float
        Standard deviation that two slow factors (smooth over 0.3 s), shared by the units with random loadings and not
        related to the movement, add to log rates; 0 = none.
    seed : int
        Everything follows from it.
    """

    name = "sim_velocity"
    id = "sim_velocity"
    oracle: ClassVar[dict[str, float]] = {"r2_of_true_log_rate": 0.870, "ridge_r2": 0.938}

    def __init__(
        self,
        *,
        n_subjects: int = 4,
        n_days: int = 1,
        n_units: int = 60,
        duration_s: float = 240.0,
        base_hz: float = 8.0,
        drift: float = 0.0,
        shared_noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        if drift < 0 or shared_noise < 0:
            raise ConfigError(
                f"source 'sim_velocity': drift is {drift} and shared_noise {shared_noise}; expected 0 or more"
            )
        super().__init__(
            n_subjects=n_subjects, n_days=n_days, n_units=n_units, duration_s=duration_s, base_hz=base_hz, drift=drift,
            shared_noise=shared_noise, seed=seed,
        )  # fmt: skip

    def list(self) -> list[Item]:
        """Return one item per subject and day."""
        days = [f"day{d}" for d in range(1, self.choices["n_days"] + 1)]
        subjects = [f"{k:02d}" for k in range(1, self.choices["n_subjects"] + 1)]
        return self.items(simulate, [(s, day, "") for s in subjects for day in days])


def smoothed(n: int, width: int, sd_bins: float, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian-smoothed white noise of unit variance, shape (n, width)."""
    from scipy.ndimage import gaussian_filter1d

    pad = int(4 * sd_bins) + 1
    x = gaussian_filter1d(rng.standard_normal((n + 2 * pad, width)), sd_bins, axis=0)[pad : pad + n]
    return x / x.std(0)


def tuning(choices: dict[str, Any], subject: str, day: int) -> dict[str, np.ndarray]:
    """Return each unit's base rate (Hz), preferred direction (radians), depth and speed coefficient on a day from 1."""
    rng = np.random.default_rng([choices["seed"], 0, int(subject)])
    n = choices["n_units"]
    base = choices["base_hz"] * rng.lognormal(0, 0.5, n)
    angle, depth, speed = rng.uniform(0, 2 * np.pi, n), rng.gamma(4, 0.225, n), rng.normal(0, 0.2, n)
    for d in range(2, day + 1):
        step = np.random.default_rng([choices["seed"], 1, int(subject), d]).normal(0, choices["drift"], (3, n))
        angle, base, depth = angle + step[0], base * np.exp(step[1] / 2), depth * np.exp(step[2] / 2)
    return {"base_hz": base, "angle": angle, "depth": depth, "speed": speed}


def rates_of(
    choices: dict[str, Any], subject: str, day: int, ahead: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the true rates, shape (bin, unit), in Hz, of the velocity 80 ms later, shape (bin, 2)."""
    own = tuning(choices, subject, day)
    towards = np.stack([np.cos(own["angle"]), np.sin(own["angle"])])
    log_rate = 0.7 * own["depth"] * (ahead @ towards) + own["speed"] * np.linalg.norm(ahead, axis=1, keepdims=True)
    if choices["shared_noise"]:
        # loadings are the units' own and stay over days
        loads = np.random.default_rng([choices["seed"], 3, int(subject)]).standard_normal((FACTORS, choices["n_units"]))
        factors = smoothed(len(ahead), FACTORS, FACTOR_S / BIN_S, rng)
        log_rate = log_rate + choices["shared_noise"] / np.sqrt(FACTORS) * factors @ loads
    return np.minimum(own["base_hz"] * np.exp(log_rate), MOST_HZ)


def simulate(choices: dict[str, Any], subject: str, session: str, part: str) -> Recording:
    """Make one day of one subject."""
    day = int(session.removeprefix("day"))
    rng = np.random.default_rng([choices["seed"], 2, int(subject), day])
    n, lag = round(choices["duration_s"] / BIN_S), round(LAG_S / BIN_S)
    path = smoothed(n + lag, 2, SMOOTH_S / BIN_S, rng)
    rates = rates_of(choices, subject, day, path[lag:], rng)
    channels = units(choices["n_units"], owner=f"sim_velocity/{subject}")
    return Recording(
        dataset="sim_velocity",
        subject=subject,
        session=session,
        task="velocity",
        modality="spikes",
        streams=(
            spike_stream([rng.poisson(rates * BIN_S)], BIN_S, channels, rng),
            values_stream("velocity", [path[:n]], 1 / BIN_S, names=("x", "y")),
            values_stream("true_rates", [rates], 1 / BIN_S, unit="Hz"),
        ),
    )
