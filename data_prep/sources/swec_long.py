"""One patient of the SWEC-ETHZ long-term sets as one recording across its files."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.readers.hdf5 import open_hdf5
from data_prep.readers.mat import mat_shape, read_mat
from data_prep.readers.pieces import Piece, contiguous, hdf5_reader, mat_reader, read_group
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

if TYPE_CHECKING:
    import h5py

HOUR_S = 3600
Seizures = list[tuple[float, float]]


def long_recording(root: Path, subject: str, leave_out: bool) -> Recording:
    """Open one patient's folder.

    Parameters
    ----------
    root : Path
        Folder of the dataset.
    subject : str
        The patient's folder in it.
    leave_out : bool
        Whether the time of a missing part is left out; otherwise the patient is rejected.

    Raises
    ------
    DataError
        When parts, rate or seizures do not fit together.
    """
    folder = root / subject
    total, info = folder / f"{subject}_total.h5", folder / f"{subject}_info.mat"
    hours = {int(m.group(1)): p for p in folder.iterdir() if (m := re.fullmatch(rf"{subject}_(\d+)h\.mat", p.name))}
    if not hours and not total.exists():
        raise DataError(f"{subject}: file '{total.name}' is missing; it holds the sampling rate and the seizures")
    if hours and not info.exists():
        raise DataError(f"{subject}: file '{info.name}' is missing; it holds the sampling rate and the seizures")
    read = partial(_from_hours, info, hours) if hours else partial(_from_total, total)
    rate_hz, n_channels, pieces, seizures = read(leave_out=leave_out)
    if not pieces:
        raise DataError(f"{subject}: none of its parts is there")
    groups = contiguous(pieces)
    end_s = (pieces[-1].start + pieces[-1].n_samples) / rate_hz
    for begin, end in seizures:
        if not 0 <= begin <= end or (begin >= end_s and not leave_out):
            raise DataError(f"{subject}: a seizure from {begin:g} to {end:g} s does not fit {end_s:g} s of recording")
    # The unit is not stated by the releases; numbers are handed on as stored.
    channels = tuple(Channel(name=f"ch{i + 1:03d}", kind="seeg") for i in range(n_channels))
    named = info if hours else total
    return Recording(
        dataset="swec",
        subject=subject,
        task="long",
        modality="ieeg",
        streams=(
            Stream(
                rate_hz=rate_hz,
                channels=channels,
                n_samples=tuple(sum(p.n_samples for p in g) for g in groups),
                read=lambda interval, start, stop: read_group(groups[interval], start, stop),
            ),
        ),
        interval_start_s=tuple(g[0].start / rate_hz for g in groups),
        events=tuple(
            Event(onset_s=begin, duration_s=end - begin, kind="seizure", label="seizure", trial=i)
            for i, (begin, end) in enumerate(sorted(seizures))
        ),
        source_file=named.relative_to(root).as_posix(),
        source_sha256=sha256_file(named),
    )


def _from_total(total: Path, *, leave_out: bool) -> tuple[float, int, list[Piece], Seizures]:
    """Read the map of the virtual file; a virtual dataset would show a missing part as zeros."""
    with open_hdf5(total) as f:
        if "sampling_rate" not in f.attrs:
            raise DataError(f"{total.name}: attribute 'sampling_rate' is missing")
        rate_hz = float(np.asarray(f.attrs["sampling_rate"]).ravel()[0])
        if "data/ieeg" not in f:
            raise DataError(f"{total.name}: dataset 'data/ieeg' is missing")
        data = f["data/ieeg"]
        n_channels, n_samples = data.shape
        if data.is_virtual:
            pieces = [_virtual_piece(total, entry, n_channels, leave_out) for entry in data.virtual_sources()]
            kept = sorted((p for p in pieces if p is not None), key=lambda p: p.start)
        else:
            kept = [Piece(start=0, n_samples=n_samples, read=hdf5_reader(total, "data/ieeg"))]
        there = sum(p.n_samples for p in kept)
        if there < n_samples and not leave_out:
            raise DataError(f"{total.name}: its parts hold {there} of {n_samples} samples")
        seizures = _table(total, f["data/seizures"]) if "data/seizures" in f else []
    return rate_hz, n_channels, kept, seizures


def _virtual_piece(total: Path, entry: Any, n_channels: int, leave_out: bool) -> Piece | None:
    # The parts stand beside the total file, whatever path was written on the machine that made it.
    path = total if entry.file_name == "." else total.parent / Path(entry.file_name).name
    if not path.exists():
        if leave_out:
            return None
        raise DataError(
            f"{total.name}: its part '{path.name}' is missing; fetch it, or pass missing=leave_out for the rest"
        )
    (c0, t0), (c1, t1) = entry.vspace.get_select_bounds()
    if (c0, c1) != (0, n_channels - 1):
        raise DataError(f"{total.name}: part '{path.name}' holds channels {c0} to {c1}, expected all {n_channels}")
    try:
        offset = entry.src_space.get_select_bounds()[0][1]
    except ValueError:  # the whole part is meant
        offset = 0
    with open_hdf5(path) as f:
        shape: tuple[int, ...] = f[entry.dset_name].shape if entry.dset_name in f else ()
    if len(shape) != 2 or shape[0] != n_channels or shape[1] < offset + t1 - t0 + 1:
        raise DataError(
            f"{path.name}: '{entry.dset_name}' has shape {shape}, expected {n_channels} × {t1 - t0 + 1} samples"
        )
    return Piece(start=t0, n_samples=t1 - t0 + 1, read=hdf5_reader(path, entry.dset_name, offset))


def _table(total: Path, table: h5py.Dataset) -> Seizures:
    names = table.dtype.names or ()
    if not {"onsets", "offsets"} <= set(names):
        raise DataError(f"{total.name}: 'data/seizures' has fields {list(names)}, expected 'onsets' and 'offsets'")
    rows = np.atleast_1d(table[()])
    begin, end = (np.ravel(rows[n]).astype(np.float64).tolist() for n in ("onsets", "offsets"))
    return list(zip(begin, end, strict=True))


def _from_hours(info: Path, hours: dict[int, Path], *, leave_out: bool) -> tuple[float, int, list[Piece], Seizures]:
    rate_hz = float(read_mat(info, "fs").ravel()[0])
    gone = sorted(set(range(1, max(hours) + 1)) - set(hours))
    if gone and not leave_out:
        raise DataError(
            f"{info.parent.name}: hour {gone[0]} is missing ({len(gone)} of {max(hours)}); fetch it, or pass "
            "missing=leave_out for the rest"
        )
    pieces = []
    n_channels = 0
    per_hour = round(HOUR_S * rate_hz)
    shapes = {number: mat_shape(path, "EEG") for number, path in hours.items()}
    # A copy may have been turned over by whoever re-saved it. The last hour may hold few samples, so the file with
    # most of them decides for the patient: time is its longer side.
    longest = max(shapes.values(), key=lambda s: max(s, default=0))
    time_first = len(longest) == 2 and longest[0] > longest[1]
    for number, path in sorted(hours.items()):
        shape = shapes[number][::-1] if time_first else shapes[number]
        n_channels = n_channels or shape[0]
        if len(shape) != 2 or shape[0] != n_channels or shape[1] > per_hour:
            raise DataError(
                f"{path.name}: 'EEG' has shape {shape}, expected ({n_channels} channels, at most {per_hour} samples)"
            )
        pieces.append(
            Piece(
                start=(number - 1) * per_hour, n_samples=shape[1], read=mat_reader(path, "EEG", time_first=time_first)
            )
        )
    begin, end = (read_mat(info, n).ravel().astype(np.float64).tolist() for n in ("seizure_begin", "seizure_end"))
    if len(begin) != len(end):
        raise DataError(f"{info.name}: {len(begin)} seizures begin and {len(end)} end")
    return rate_hz, n_channels, pieces, list(zip(begin, end, strict=True))
