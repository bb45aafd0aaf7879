"""Simulated depth-electrode recordings of several people with epilepsy: every seizure's onset and offset is known.

Each person has electrodes of their own (shafts of contacts with coordinates), a tree of directed links between a few
sources, a 1/f background that differs between wake and sleep, seizures of spike-and-wave discharges (some begin with low
fast activity) which start in one source and recruit others along the links, interictal spikes, and artefacts. What is
simulated is meant to be hard in the ways real recordings are: counts of channels, places, frequencies, amplitudes and
spread differ between people, runs of spikes and chewing look like seizures, and the background is suppressed after one.

The covariate stream `ictal_source` is the onset zone's ictal activity without anything else. No model reads it; it is
there for an oracle, which shows how much of what is missed is the detector's fault.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from data_prep.sources.base import Item, Source
from data_prep.sources.ieeg_person import make_person
from data_prep.sources.ieeg_schedule import make_schedule
from data_prep.sources.ieeg_signal import SignalMaker
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Channel, Event, Recording, Stream

MOST_CHANNELS = 128
LOWEST_RATE_HZ = 64.0


class SimulatedIeeg(Source):
    """Long multi-channel recordings with seizures, made when they are read.

    Parameters
    ----------
    n_subjects, n_runs : int
        People, and recordings of each.
    duration_s : float
        Length of a recording; hours cost no memory.
    rate_hz : float
        Sampling rate.
    channels : pair of int
        Fewest and most contacts of a person, at most 128.
    n_nodes : int
        Sources of activity per person; the first is the onset zone, links form a tree from it.
    seizures_per_hour : float
        One seizure at a random place of each slot of so many to the hour.
    seizure_s : pair of float
        Range of people's typical seizure length, seconds.
    frequency_hz : pair of float
        Range of people's discharge frequency at onset.
    amplitude : pair of float
        Range of people's seizure amplitude at the source, in standard deviations of the background.
    recruitment : pair of float
        Range of people's probability that a seizure passes a link.
    spread_s : pair of float
        Range of the time a seizure takes along a link.
    fast_fraction : float
        Share of people whose seizures begin with low fast activity.
    reach_m : float
        Distance at which a contact sees half of a source, metres.
    exponent : pair of float
        Range of people's background exponent.
    spikes_hz : pair of float
        Range of people's rate of interictal spikes.
    spike_amplitude, run_fraction : float
        Size of a spike at its source; share of spikes that come as a run of three to six.
    artefacts_per_hour : float
        Movement, muscle, electrode pops and chewing.
    mains, sensor_noise : float
        Largest amplitude of 50 Hz, and standard deviation of white noise, relative to the background.
    state_s : float
        Typical length of wake and of sleep, which alternate; their events are of kind "state".
    seed : int
        Everything follows from it.
    """

    name = "simulated_ieeg"
    id = "simulated_ieeg"
    licence = "simulated, public domain (CC0)"
    citation = "simulated by neurofm; no person was recorded"
    modalities = ("ieeg",)

    def __init__(
        self,
        *,
        n_subjects: int = 30,
        n_runs: int = 1,
        duration_s: float = 3600.0,
        rate_hz: float = 256.0,
        channels: tuple[int, int] = (8, 64),
        n_nodes: int = 6,
        seizures_per_hour: float = 4.0,
        seizure_s: tuple[float, float] = (20.0, 80.0),
        frequency_hz: tuple[float, float] = (2.5, 6.0),
        amplitude: tuple[float, float] = (0.5, 2.0),
        recruitment: tuple[float, float] = (0.3, 0.9),
        spread_s: tuple[float, float] = (1.0, 10.0),
        fast_fraction: float = 0.3,
        reach_m: float = 0.015,
        exponent: tuple[float, float] = (1.4, 2.2),
        spikes_hz: tuple[float, float] = (0.02, 0.3),
        spike_amplitude: float = 4.0,
        run_fraction: float = 0.25,
        artefacts_per_hour: float = 60.0,
        mains: float = 0.2,
        sensor_noise: float = 0.1,
        state_s: float = 600.0,
        seed: int = 0,
    ) -> None:
        pairs = {
            "channels": channels, "seizure_s": seizure_s, "frequency_hz": frequency_hz, "amplitude": amplitude,
            "recruitment": recruitment, "spread_s": spread_s, "exponent": exponent, "spikes_hz": spikes_hz,
        }  # fmt: skip
        for name, pair in pairs.items():
            if len(pair) != 2 or not 0 <= pair[0] <= pair[1]:
                raise ConfigError(
                    f"source 'simulated_ieeg': {name} is {list(pair)}; expected two numbers, smaller first"
                )
        if not 1 <= channels[0] <= channels[1] <= MOST_CHANNELS:
            raise ConfigError(
                f"source 'simulated_ieeg': channels is {list(channels)}; expected between 1 and {MOST_CHANNELS}"
            )
        for name, count in (("n_subjects", n_subjects), ("n_runs", n_runs), ("n_nodes", n_nodes)):
            if count < 1:
                raise ConfigError(f"source 'simulated_ieeg': {name} is {count}; expected 1 or more")
        if rate_hz < LOWEST_RATE_HZ:
            raise ConfigError(
                f"source 'simulated_ieeg': rate_hz is {rate_hz}; expected {LOWEST_RATE_HZ:g} or more, for the spikes"
            )
        if not (duration_s > 0 and state_s > 0 and frequency_hz[0] > 0 and reach_m > 0):
            raise ConfigError("source 'simulated_ieeg': duration_s, state_s, frequency_hz and reach_m must be above 0")
        # a seizure may be a quarter longer than typical, and must fit into the middle of its slot
        if seizures_per_hour < 0 or seizures_per_hour * 1.25 * seizure_s[1] > 0.8 * 3600:
            raise ConfigError(
                f"source 'simulated_ieeg': seizures_per_hour={seizures_per_hour:g} leaves no room for seizures of up to "
                f"{1.25 * seizure_s[1]:g} s; expected at most {0.8 * 3600 / (1.25 * seizure_s[1]):g}"
            )
        self.choices: dict[str, Any] = {
            "n_subjects": n_subjects, "n_runs": n_runs, "duration_s": float(duration_s), "rate_hz": float(rate_hz),
            "n_nodes": n_nodes, "seizures_per_hour": seizures_per_hour, "fast_fraction": fast_fraction,
            "reach_m": reach_m, "spike_amplitude": spike_amplitude, "run_fraction": run_fraction,
            "artefacts_per_hour": artefacts_per_hour, "mains": mains, "sensor_noise": sensor_noise, "state_s": state_s,
            "seed": seed, **{k: list(v) for k, v in pairs.items()},
        }  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Return name and choices."""
        return {"name": self.name, "version": self.version, **self.choices}

    def list(self) -> list[Item]:
        """Return one item per person and run."""
        # another number of people or runs changes nobody who is there already
        facts = {k: v for k, v in self.describe().items() if k not in ("n_subjects", "n_runs")}
        return [
            Item(
                key=f"sub-{subject:02d}_run-{run}",
                fingerprint=hash_of([facts, subject, run]),
                open=partial(simulate, self.choices, subject, run),
                subject=f"{subject:02d}",
            )
            for subject in range(1, self.choices["n_subjects"] + 1)
            for run in range(1, self.choices["n_runs"] + 1)
        ]


def simulate(choices: dict[str, Any], subject: int, run: int) -> Recording:
    """Describe one recording; its samples are made when they are read."""
    person = make_person(choices, subject)
    schedule = make_schedule(choices, person, subject, run)
    maker = SignalMaker(choices, person, schedule, (choices["seed"], 12, subject, run))
    n_samples = max(1, round(choices["duration_s"] * choices["rate_hz"]))
    channels = tuple(
        Channel(name=name, kind="seeg", unit="uV", x=float(x), y=float(y), z=float(z), frame="head")
        for name, (x, y, z) in zip(person.names, person.positions, strict=True)
    )
    rate = choices["rate_hz"]
    events = [
        Event(onset_s=z.onset_s, duration_s=z.duration_s, kind="seizure", label="seizure", trial=i)
        for i, z in enumerate(schedule.seizures)
    ]
    events += [Event(onset_s=a, duration_s=b - a, kind="state", label=label) for a, b, label in schedule.states]
    return Recording(
        dataset="simulated_ieeg",
        subject=f"{subject:02d}",
        task="monitoring",
        run=str(run),
        modality="ieeg",
        streams=(
            Stream(rate_hz=rate, channels=channels, n_samples=(n_samples,), unit="uV", read=maker.read),
            Stream(
                name="ictal_source", role="covariate", unit="au", rate_hz=rate, n_samples=(n_samples,),
                channels=(Channel(name="ictal_source", unit="au"),), read=maker.read_source,
            ),
        ),
        events=tuple(sorted(events, key=lambda e: e.onset_s)),
    )  # fmt: skip
