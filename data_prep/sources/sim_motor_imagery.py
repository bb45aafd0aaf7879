"""Simulated EEG of people who imagine moving the left or the right hand: every person's sources and rhythms are known."""

from __future__ import annotations

from typing import Any, ClassVar

from data_prep.sources.base import Item
from data_prep.sources.sim_base import SimSource, people, rng_of, trial_events, trial_starts, values_stream
from data_prep.sources.sim_motor_model import (
    CLASSES,
    ELECTRODES,
    draw_trials,
    hands_of,
    montage_of,
    person_of,
)
from data_prep.sources.sphere_head import electrode_positions
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import Channel, Recording, Stream


class SimMotorImagery(SimSource):
    """Trials of two imagined movements, two montages; the stream ``true_sources`` is what the two hand areas do.

    Any first 2n trials of a person hold n of each hand, so a budget in seconds is a budget in trials per class.

    Parameters
    ----------
    n_subjects, n_trials : int
        People, each with places, directions, frequencies and strengths of their own, and trials of each.
    rate_hz, trial_s : float
        Of a trial.
    mu_uv, alpha_uv : float
        Deviation of a hand area's mu rhythm, and of one source of posterior alpha, where it is strongest.
    background_uv, slope, sensor_uv : float
        Deviation of the 1/f background and its exponent; of the white noise of each electrode.
    erd : float
        Share of the power that the area opposite to the hand loses; the other loses 0.35 of that.
    trial_spread : float
        How much log power varies between trials, for all sources.
    subject_spread : float
        How far people lie from each other; 0: all alike.
    seed : int
        Everything follows from it.
    """

    name = "sim_motor_imagery"
    id = "sim_motor_imagery"
    modalities = ("eeg",)
    # accuracy of a decoder that knows the sources, the ten people that conf/data/sim_motor_imagery.yaml tests
    oracle: ClassVar[dict[str, float]] = {
        "01": 0.944, "04": 0.834, "08": 0.798, "11": 0.981, "18": 0.949, "20": 0.869, "22": 0.785, "23": 0.877, "26": 0.890, "30": 0.964
    }  # fmt: skip

    def __init__(
        self, *, n_subjects: int = 30, n_trials: int = 120, rate_hz: float = 128.0, trial_s: float = 2.0,
        mu_uv: float = 6.0, alpha_uv: float = 6.0, background_uv: float = 10.0, slope: float = 1.2, sensor_uv: float = 1.0,
        erd: float = 0.6, trial_spread: float = 0.4, subject_spread: float = 1.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(**{k: v for k, v in locals().items() if k not in ("self", "__class__")})
        if not 0 < erd < 1:
            raise ConfigError(f"source '{self.name}': erd is {erd}; expected between 0 and 1")

    def list(self) -> list[Item]:
        """Return one item per person."""
        return self.items(simulate, people(self.choices))


def simulate(choices: dict[str, Any], subject: str, session: str, part: str) -> Recording:
    """Make one person."""
    person, rng = person_of(choices, int(subject)), rng_of(choices, 5, int(subject))
    hands = hands_of(choices["n_trials"], rng)
    signal, sources = draw_trials(choices, person, hands, rng)
    starts = trial_starts(len(hands), choices["trial_s"])
    at = dict(zip(ELECTRODES, electrode_positions(ELECTRODES).tolist(), strict=True))
    channels = tuple(
        Channel(name=n, canonical=n, kind="eeg", unit="uV", x=at[n][0], y=at[n][1], z=at[n][2], frame="head", reference="average")
        for n in person.electrodes
    )  # fmt: skip
    rate = float(choices["rate_hz"])
    return Recording(
        dataset="sim_motor_imagery", subject=subject, task="motor_imagery", session=montage_of(int(subject)), modality="eeg",
        streams=(
            Stream.from_arrays(list(signal), rate_hz=rate, channels=channels, unit="uV"),
            values_stream("true_sources", list(sources), rate, names=["left", "right"]),
        ),
        interval_start_s=starts, events=trial_events([CLASSES[h] for h in hands], starts, choices["trial_s"]),
    )  # fmt: skip
