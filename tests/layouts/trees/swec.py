"""SWEC long-term iEEG, the 68-subject set: ``IDxx/IDxx_part_k.h5`` and ``IDxx/IDxx_total.h5``, a virtual dataset over them.

Arrays are (channel, sample); seizures are seconds from the start of the first part. The published files are packed
with LZ4, here with gzip; chunks span all channels, as published.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from ..expected import Expected, Tree

SEIZURE = np.dtype([("onsets", "<f8"), ("offsets", "<f8")])


def _parts(*, folder: Path, lengths: list[int], n_channels: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(scale=50.0, size=(n_channels, n)).astype("f4") for n in lengths]
    folder.mkdir(parents=True)
    for k, array in enumerate(arrays, 1):
        with h5py.File(folder / f"{folder.name}_part_{k}.h5", "w") as file:
            chunks = (n_channels, min(array.shape[1], 256))
            file.create_dataset("data/ieeg", data=array, chunks=chunks, compression="gzip")
    return np.concatenate(arrays, axis=1)


def _total(
    *, folder: Path, lengths: list[int], n_channels: int, rate_hz: float | None, seizures: list[tuple[float, float]]
) -> None:
    layout = h5py.VirtualLayout(shape=(n_channels, sum(lengths)), dtype="f4")
    start = 0
    for k, n in enumerate(lengths, 1):
        name = f"{folder.name}_part_{k}.h5"  # relative: the folder may be moved
        layout[:, start : start + n] = h5py.VirtualSource(name, "data/ieeg", shape=(n_channels, n))
        start += n
    with h5py.File(folder / f"{folder.name}_total.h5", "w") as file:
        file.create_virtual_dataset("data/ieeg", layout, fillvalue=0)
        file.create_dataset("data/seizures", data=np.array(seizures, dtype=SEIZURE))
        if rate_hz is not None:
            file.attrs["sampling_rate"] = rate_hz


def _subject(
    root: Path,
    subject: str,
    *,
    lengths: list[int],
    n_channels: int,
    rate_hz: float | None,
    seizures: list[tuple[float, float]],
    seed: int,
) -> np.ndarray:
    folder = root / subject
    values = _parts(folder=folder, lengths=lengths, n_channels=n_channels, seed=seed)
    _total(folder=folder, lengths=lengths, n_channels=n_channels, rate_hz=rate_hz, seizures=seizures)
    return values.T


def write(root: Path) -> Tree:
    """Two rates, a seizure that crosses two parts, a subject without seizures; the optional power tables are there."""
    seizures = [(1.25, 1.5), (1.9, 2.6)]
    first = _subject(root, "ID04", lengths=[1024, 700, 300], n_channels=6, rate_hz=512.0, seizures=seizures, seed=4)
    with h5py.File(root / "ID04/ID04_total.h5", "a") as file:
        file["data/delta_power"] = np.ones((6, 3), "f4")
        file["data/delta_windows"] = np.arange(3)
    second = _subject(root, "ID12", lengths=[2048], n_channels=3, rate_hz=1024, seizures=[], seed=12)
    return Tree(
        source="swec",
        choices={"root": root},
        recordings=[
            Expected(
                subject="ID04",
                session=None,
                modality="ieeg",
                rate_hz=512.0,
                n_samples=[2024],
                values={0: first},
                events=[(on, "seizure") for on, _ in seizures],
            ),
            Expected(
                subject="ID12",
                session=None,
                modality="ieeg",
                rate_hz=1024.0,
                n_samples=[2048],
                values={0: second},
                events=[],
            ),
        ],
    )


def make_people(root: Path) -> Tree:
    """Five people of four contacts at 512 Hz, seizures of each; the second part follows the first without a gap."""
    for i, subject in enumerate(["ID01", "ID04", "ID12", "ID30", "ID61"]):
        times = [(6.0 + i, 14.0 + i), (28.0, 37.5)]
        lengths = [512 * 20, 512 * 40]
        _subject(root, subject, lengths=lengths, n_channels=4, rate_hz=512.0, seizures=times, seed=40 + i)
    return Tree(source="swec", choices={"root": root}, recordings=[])


def write_fewer_samples_than_channels(root: Path) -> Tree:
    """Axes are told by the kind of file, never by which of them is longer."""
    values = _subject(root, "ID07", lengths=[9, 8], n_channels=24, rate_hz=512.0, seizures=[], seed=7)
    expected = Expected(subject="ID07", session=None, rate_hz=512.0, n_samples=[17], values={0: values})
    return Tree(source="swec", choices={"root": root}, recordings=[expected])


def write_missing_part(root: Path) -> Tree:
    """A virtual dataset silently reads as fill values where a part was not downloaded: that is no recording."""
    values = _subject(root, "ID04", lengths=[600, 600], n_channels=4, rate_hz=512.0, seizures=[], seed=1)
    _subject(root, "ID05", lengths=[600, 600, 600], n_channels=4, rate_hz=512.0, seizures=[(0.5, 0.9)], seed=2)
    (root / "ID05/ID05_part_2.h5").unlink()
    return Tree(
        source="swec",
        choices={"root": root},
        recordings=[Expected(subject="ID04", session=None, n_samples=[1200], values={0: values})],
        rejected=["ID05_part_2.h5"],
    )


def write_without_rate(root: Path) -> Tree:
    """512 and 1024 Hz both occur, so a missing rate cannot be assumed."""
    _subject(root, "ID08", lengths=[600], n_channels=4, rate_hz=None, seizures=[], seed=3)
    return Tree(source="swec", choices={"root": root}, recordings=[], rejected=["sampling_rate"])
