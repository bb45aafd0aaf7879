"""What a decoder that knows each person's sources reaches on `sim_motor_imagery`.

True spatial filters (the best linear ones for each area and rhythm, from the true field and covariance), power in the true
bands, its logarithm, and linear discriminant analysis taught with many fresh trials. It knows neither the trial's gains
nor the noise, so it is close to the best there is, not a bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from data_prep.sources.sim_base import rng_of
from data_prep.sources.sim_motor_model import Person, draw_trials, person_of

WIDTHS_HZ = (1.0, 2.0)


def filters_of(choices: dict[str, Any], person: Person, rng: np.random.Generator) -> list[np.ndarray]:
    """Spatial filters of the two areas, (channel, 2), for mu and for beta: covariance of the band⁻¹ · field."""
    x, _ = draw_trials(choices, person, rng.integers(0, 2, 400), rng)
    found = []
    for peak, width in zip(person.peak_hz, WIDTHS_HZ, strict=False):
        band = _band(x, float(choices["rate_hz"]), peak, width)
        covariance = np.einsum("ntc,ntd->cd", band, band) / band[..., 0].size
        # average reference: one direction holds nothing
        found.append(np.linalg.pinv(covariance, rcond=1e-9, hermitian=True) @ person.field[:, :2])
    return found


def features(choices: dict[str, Any], person: Person, filters: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Log power of both areas in both bands, shape (trial, 4)."""
    out = []
    for weight, peak, width in zip(filters, person.peak_hz, WIDTHS_HZ, strict=False):
        out.append(np.log((_band(x @ weight, float(choices["rate_hz"]), peak, width) ** 2).mean(axis=1)))
    return np.concatenate(out, axis=1)


def oracle(choices: dict[str, Any], subject: int, *, n_trials: int = 2000) -> float:
    """Accuracy on as many fresh trials of one person as it was taught with."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    person, rng = person_of(choices, subject), rng_of(choices, 9, subject)
    filters = filters_of(choices, person, rng)
    lda, right = LinearDiscriminantAnalysis(), 0.0
    for part in ("train", "test"):
        hands = rng.integers(0, 2, n_trials)
        # a few hundred at a time, for memory
        values = [
            features(choices, person, filters, draw_trials(choices, person, some, rng)[0])
            for some in np.array_split(hands, 10)
        ]
        if part == "train":
            lda.fit(np.concatenate(values), hands)
        else:
            right = float((lda.predict(np.concatenate(values)) == hands).mean())
    return right


def _band(x: np.ndarray, rate_hz: float, peak_hz: float, width_hz: float) -> np.ndarray:
    """Weight frequencies of (trial, time, …) as the rhythm's own spectrum does."""
    f = np.fft.rfftfreq(x.shape[1], 1 / rate_hz)
    weight = np.exp(-0.25 * ((f - peak_hz) / width_hz) ** 2).reshape(-1, *[1] * (x.ndim - 2))
    return np.fft.irfft(np.fft.rfft(x, axis=1) * weight, n=x.shape[1], axis=1)
