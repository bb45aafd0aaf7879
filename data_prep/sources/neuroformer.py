"""Mouse visual cortex of Neuroformer: cells in V1 and lateral areas while a mouse runs through a virtual track."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.base import Item, Source, file_fingerprint
from data_prep.sources.counts import check_counts, events_between, values_between
from data_prep.sources.neuroformer_clips import TRIALS, load_clips
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Channel, EventStream, Recording, Stream

SPIKES = "spikerates_dt_0.01.npy"
DT_S = 0.01
BEHAVIOUR = {"speed": "behavior_speed_dt_0.05.npy", "phi": "phi_dt_0.05.npy", "th": "th_dt_0.05.npy"}
BEHAVIOUR_DT_S = 0.05
FRAMES = "stimulus.npy"
SETS = {"MedialVRDataset": "medial", "LateralVRDataset": "lateral"}


class Neuroformer(Source):
    """The sets "medial", "lateral" and "v1al", one recording each.

    Beside the first two are running speed and the two angles of view; V1AL has 60 trials, whose events say which of
    three clips was shown. What was published are deconvolved two-photon traces as counts in bins of 10 ms. They become events at the
    beginning of their bin, as many as were counted, so that bins of 10 ms give the counts again. No split is kept: the
    published one draws 50 ms intervals at random, whose neighbours share their past. The set V1AL is a Python pickle,
    of which arrays and plain containers are read and nothing is run; its clips are a torch file, which is not read.

    Parameters
    ----------
    root : path
        Folder with ``VisNav_VR_Expt/…/NF_1.5`` or ``Combo3_V1AL`` somewhere below it.
    signal : str
        "events", or "rates": the values as a signal of 100 Hz, for versions that are no whole numbers.
    selection : str, optional
        Name of a ``<selection>.csv`` beside the folder NF_1.5: cells to keep, counted from 1; the others are bad. V1AL
        has none.
    frames : bool
        Whether the film of 64 × 112 pixels of the sets with a track comes as a stimulus stream of 20 Hz.
    """

    name = "neuroformer"
    id = "neuroformer"
    licence = "not stated; published with the code of the paper"
    citation = (
        "Antoniades et al. 2024, Neuroformer: Multimodal and Multitask Generative Pretraining for Brain Data, ICLR"
    )
    modalities = ("spikes",)

    def __init__(
        self, *, root: str | Path, signal: str = "events", selection: str | None = None, frames: bool = False
    ) -> None:
        if signal not in ("events", "rates"):
            raise ConfigError(f"source 'neuroformer': signal '{signal}': {nearest(str(signal), ('events', 'rates'))}")
        self.root = Path(root).expanduser()
        self.choices = {"signal": signal, "selection": selection, "frames": bool(frames)}

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {"name": self.name, "version": self.version, **self.choices}

    def list(self) -> list[Item]:
        """Return one item per set."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root")
        items = [
            Item(
                key=path.relative_to(self.root).as_posix(),
                fingerprint=file_fingerprint(path, **self.choices),
                open=partial(load_track, self.root, path.parent.relative_to(self.root).as_posix(), self.choices),
                subject=set_name(path),
                source_file=path.relative_to(self.root).as_posix(),
                n_bytes=path.stat().st_size,
            )
            for path in sorted(self.root.glob(f"**/{SPIKES}"))
        ]
        return items + [
            Item(
                key=path.relative_to(self.root).as_posix(),
                fingerprint=file_fingerprint(path, signal=self.choices["signal"]),
                open=partial(load_clips, self.root, path.relative_to(self.root).as_posix(), self.choices),
                subject="v1al",
                source_file=path.relative_to(self.root).as_posix(),
                n_bytes=path.stat().st_size,
            )
            for path in sorted(self.root.glob(f"**/{TRIALS}"))
        ]


def set_name(path: Path) -> str:
    """Return "medial" or "lateral" by the folder above; else the folder's name."""
    folder = path.parent.parent.name
    return SETS.get(folder, folder or "visnav")


def _load(path: Path) -> np.ndarray:
    try:
        # a memory map: read block by block
        return np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise DataError(
            f"'{path.name}' is not a readable numeric array ({error}); pickled objects are refused"
        ) from error


def load_track(root: Path, folder: str, choices: dict[str, Any]) -> Recording:
    """Read one set.

    Raises
    ------
    DataError
        When its arrays are not what they should be.
    """
    path = root / folder
    x = _load(path / SPIKES)
    if x.ndim != 2 or x.dtype.kind not in "fiu" or not x.size:
        raise DataError(f"'{SPIKES}' has shape {x.shape} of {x.dtype}; expected numbers (cell, bin of 10 ms)")
    who = set_name(path / SPIKES)
    chosen = _selected(path.parent, choices["selection"], len(x))
    channels = tuple(
        Channel(
            name=str(i + 1), canonical=f"{who}/{i + 1}", kind="unit", bad=i not in chosen,
            reason="" if i in chosen else f"not in the selection '{choices['selection']}'",
        )
        for i in range(len(x))
    )  # fmt: skip
    first: Stream | EventStream
    if choices["signal"] == "events":
        check_counts(x, f"'{SPIKES}'")
        first = EventStream(channels=channels, duration_s=(x.shape[1] * DT_S,), read=partial(_events, x))
    else:
        first = Stream(rate_hz=1 / DT_S, channels=channels, n_samples=(x.shape[1],), read=partial(_columns, x))
    streams = [_beside(name, _load(path / file)) for name, file in BEHAVIOUR.items() if (path / file).exists()]
    if choices["frames"]:
        film = _load(path / FRAMES)
        streams.append(_beside("frames", film.reshape(len(film), -1), role="stimulus"))
    name = f"{folder}/{SPIKES}" if folder != "." else SPIKES
    return Recording(
        dataset="neuroformer",
        subject=who,
        task="visnav",
        modality="spikes",
        streams=(first, *streams),
        source_file=name,
        source_sha256=sha256_file(path / SPIKES),
    )


def _selected(folder: Path, selection: str | None, n: int) -> set[int]:
    if selection is None:
        return set(range(n))
    path = folder / f"{selection}.csv"
    if not path.exists():
        known = [p.stem for p in folder.glob("*.csv")]
        raise DataError(f"there is no selection '{selection}': {nearest(selection, known)}")
    try:
        with path.open(encoding="utf-8") as f:
            ids = {int(float(cell)) for row in csv.reader(f) for cell in row if cell.strip()}
    except ValueError as error:
        raise DataError(f"'{path.name}': expected numbers of cells, from 1 ({error})") from error
    if not ids or min(ids) < 1 or max(ids) > n:
        raise DataError(f"'{path.name}': cells {min(ids, default=0)} to {max(ids, default=0)}, expected 1 to {n}")
    return {i - 1 for i in ids}


def _events(x: np.ndarray, interval: int, start_s: float, stop_s: float) -> tuple[np.ndarray, np.ndarray]:
    return events_between(x, DT_S, start_s, stop_s)


def _columns(x: np.ndarray, interval: int, start: int, stop: int) -> np.ndarray:
    return values_between(x, start, stop)


def _rows(x: np.ndarray, interval: int, start: int, stop: int) -> np.ndarray:
    return np.asarray(x[start:stop], np.float64)


def _beside(name: str, values: np.ndarray, role: str = "covariate") -> Stream:
    # a vector may be stored as (1, time)
    x = values.reshape(-1, 1) if values.ndim == 1 or (1 in values.shape[:2] and role == "covariate") else values
    names = [name] if x.shape[1] == 1 else [f"{name}{i}" for i in range(x.shape[1])]
    channels = tuple(Channel(name=n, kind="misc") for n in names)
    return Stream(
        name=name, role=role, rate_hz=1 / BEHAVIOUR_DT_S, channels=channels, n_samples=(len(x),), read=partial(_rows, x)
    )
