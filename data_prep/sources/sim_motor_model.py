"""The generative model of `sim_motor_imagery`: rhythms of two hands' areas on the scalp, one of them weaker.

A trial of person s is x(t) = Σ_h √g_h · l_h (a_μ μ_h(t) + a_β β_h(t)) + Σ_o √g_o · l_o α_o(t) + b(t) + e(t). The left and the right
hand area h, and two sources o of posterior alpha, are dipoles in a three-shell sphere (l: their field at the electrodes).
μ, β and α are narrow-band Gaussian noise of unit variance; b is the 1/f background of many dipoles, e the sensors' noise.
Imagining a hand lowers the power g of the opposite area (event-related desynchronisation); g also varies from trial to
trial: for both areas together, for each alone, and independently for alpha.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from data_prep.sources.sim_base import rng_of
from data_prep.sources.sphere_head import HEAD_M, directions, lead_field

# two montages that share five electrodes: one dense over the motor cortex, one over the whole head
MONTAGES = {
    "motor": (
        "Fz", "FC3", "FC1", "FCz", "FC2", "FC4", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "CP3", "CP1", "CPz", "CP2",
        "CP4", "P1", "Pz", "P2", "POz",
    ),
    "whole": (
        "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1",
        "O2",
    ),
}  # fmt: skip
ELECTRODES = tuple(dict.fromkeys(name for names in MONTAGES.values() for name in names))
# left and right hand area, then the sources of alpha
ABOVE = ("C3", "C4", "O1", "O2")
# the hand that a class imagines, and the area on the other side
CLASSES = ("left", "right")
OPPOSITE = {"left": 1, "right": 0}
N_BACKGROUND = 100


class Person(NamedTuple):
    """One person.

    electrodes; field [C, 4], µV per unit of source, of the places `ABOVE`; background [C, C], root of the covariance of
    background and sensor noise over channels, two matrices; peaks of mu, beta and alpha in Hz; share of beta in a rhythm;
    factor on the power of the area opposite to the hand, and of the same side.
    """

    electrodes: tuple[str, ...]
    field: np.ndarray
    background: np.ndarray
    peak_hz: tuple[float, float, float]
    beta: float
    opposite: float
    same: float


def montage_of(subject: int) -> str:
    """People take turns with the montages."""
    return tuple(MONTAGES)[(subject - 1) % len(MONTAGES)]


def person_of(choices: dict[str, Any], subject: int) -> Person:
    """Draw one person: places, directions, frequencies, strengths."""
    rng = rng_of(choices, 1, subject)
    spread = choices["subject_spread"]
    up = directions(ELECTRODES)[[ELECTRODES.index(name) for name in ABOVE]]
    place = 0.72 * HEAD_M * up + spread * 0.008 * rng.standard_normal((4, 3))
    place *= np.minimum(1, 0.85 * HEAD_M / np.linalg.norm(place, axis=1, keepdims=True))
    # half along the radius, half forwards as on the wall of a sulcus
    moment = 0.7 * up + 0.7 * np.array([0.0, 1.0, 0.0]) + spread * 0.4 * rng.standard_normal((4, 3))
    moment /= np.linalg.norm(moment, axis=1, keepdims=True)
    others, towards = (_directions(rng, N_BACKGROUND) for _ in range(2))
    depth = rng.uniform(0.3, 0.85, (N_BACKGROUND, 1))
    whole = lead_field(np.concatenate([place, depth * HEAD_M * others]), np.concatenate([moment, towards]), ELECTRODES)
    names = MONTAGES[montage_of(subject)]
    field = whole[[ELECTRODES.index(name) for name in names]]
    field = field - field.mean(axis=0)
    # strengths at the electrode that sees most, and of the background over all electrodes
    own = field[:, :4] / np.abs(whole[:, :4]).max(axis=0)
    strength = np.exp(spread * 0.3 * rng.standard_normal(4)) * np.repeat([choices["mu_uv"], choices["alpha_uv"]], 2)
    noise = field[:, 4:] * (choices["background_uv"] / np.sqrt((field[:, 4:] ** 2).sum(1).mean()))
    mu_hz = 10.5 + spread * 1.0 * rng.standard_normal()
    peaks = (mu_hz, 2 * mu_hz + spread * 1.0 * rng.standard_normal(), 10.2 + spread * 0.8 * rng.standard_normal())
    opposite = float(np.clip(choices["erd"] + spread * 0.1 * rng.standard_normal(), 0.1, 0.9))
    return Person(
        electrodes=names,
        field=own * strength,
        background=_root(noise @ noise.T),
        peak_hz=peaks,
        beta=float(0.5 * np.exp(spread * 0.2 * rng.standard_normal())),
        opposite=1 - opposite,
        same=1 - 0.35 * opposite,
    )


def draw_trials(
    choices: dict[str, Any], person: Person, hands: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw trials.

    Parameters
    ----------
    hands : array, shape (trial,), int
        Index into `CLASSES`.

    Returns
    -------
    signal : array, shape (trial, time, channel)
        µV, average reference.
    sources : array, shape (trial, time, 2)
        Activity of the left and the right hand area, in units of their mean deviation at rest.
    """
    n, n_times, rate = len(hands), round(choices["trial_s"] * choices["rate_hz"]), float(choices["rate_hz"])
    gain = choices["trial_spread"] * rng.standard_normal((n, 4)) @ _together()
    for hand, area in enumerate(OPPOSITE[name] for name in CLASSES):
        mine = hands == hand
        gain[mine, area] += np.log(person.opposite)
        gain[mine, 1 - area] += np.log(person.same)
    mu, beta, alpha = person.peak_hz
    motor = narrow_band(rng, (n, 2), n_times, rate, mu, 1.0) + person.beta * narrow_band(
        rng, (n, 2), n_times, rate, beta, 2.0
    )
    rest = narrow_band(rng, (n, 2), n_times, rate, alpha, 1.0)
    sources = np.exp(gain / 2)[..., None] * np.concatenate([motor, rest], axis=1)
    background = one_over_f(rng, (n, len(person.electrodes)), n_times, rate, choices["slope"])
    white = rng.standard_normal((n, len(person.electrodes), n_times))
    x = (
        person.field @ sources
        + person.background @ background
        + choices["sensor_uv"] * (white - white.mean(1)[:, None])
    )
    return x.swapaxes(1, 2), sources[:, :2].swapaxes(1, 2)


def hands_of(n_trials: int, rng: np.random.Generator) -> np.ndarray:
    """Classes of trials, each pair of neighbours one of each hand: any first 2n trials hold n of each."""
    return np.stack([rng.permutation(2) for _ in range((n_trials + 1) // 2)]).ravel()[:n_trials]


def narrow_band(
    rng: np.random.Generator, shape: tuple[int, ...], n_times: int, rate_hz: float, peak_hz: float, width_hz: float
) -> np.ndarray:
    """Gaussian noise of unit variance whose power over frequency is a bell of deviation `width_hz`, shape (…, time)."""
    # drawn twice as long, so that a trial's end does not run into its start
    f = np.fft.rfftfreq(2 * n_times, 1 / rate_hz)
    return _coloured(rng, shape, n_times, np.exp(-0.25 * ((f - peak_hz) / width_hz) ** 2))


def one_over_f(
    rng: np.random.Generator, shape: tuple[int, ...], n_times: int, rate_hz: float, slope: float
) -> np.ndarray:
    """Gaussian noise of unit variance with power 1 / (f² + 1 Hz²)^(slope / 2), shape (…, time)."""
    f = np.fft.rfftfreq(2 * n_times, 1 / rate_hz)
    return _coloured(rng, shape, n_times, (f**2 + 1.0) ** (-slope / 4))


def _coloured(rng: np.random.Generator, shape: tuple[int, ...], n_times: int, amplitude: np.ndarray) -> np.ndarray:
    weight = amplitude / np.sqrt((amplitude[1:-1] ** 2).sum() * 2 + amplitude[0] ** 2 + amplitude[-1] ** 2)
    white = np.fft.rfft(rng.standard_normal((*shape, 2 * n_times)), axis=-1)
    return np.fft.irfft(white * (weight * np.sqrt(2 * n_times)), axis=-1)[..., :n_times]


def _together() -> np.ndarray:
    """Mix independent numbers into the log power of the sources: shared and own of the hand areas, shared of alpha."""
    return np.array([[1.0, 1.0, 0.0, 0.0], [0.4, -0.4, 0.0, 0.0], [0.0, 0.0, 1.5, 1.5], [0.0, 0.0, 0.4, -0.4]])


def _directions(rng: np.random.Generator, n: int) -> np.ndarray:
    v = rng.standard_normal((n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root, as average reference leaves one direction empty."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
