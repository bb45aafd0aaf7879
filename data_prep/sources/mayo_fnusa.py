"""Labelled three-second iEEG clips of the Mayo Clinic and of St. Anne's University Hospital Brno (Nejedly et al. 2020).

Every clip is one channel in one MAT file; ``segments.csv`` says whose it is, what it shows and who judged it. Class 0
(power line) is there too, though published comparisons drop it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.trials import trial_starts
from data_prep.readers.mat import read_mat
from data_prep.readers.tables import number_or_nan, stream_rows
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

SITES = {"mayo": "MAYO", "fnusa": "FNUSA"}
MISSING = ("reject", "leave_out")
RATE_HZ, N_SAMPLES = 5000.0, 15000
LABELS = {0: "power line", 1: "noise", 2: "pathological", 3: "physiological"}
COLUMNS = ("segment_id", "patient_id", "category_id")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One row of segments.csv; `reviewer` is -1 where it is not given."""

    segment: str
    patient: str
    category: int
    reviewer: int


class MayoFnusa(Source):
    """One recording per patient with one channel, one valid interval and one event per clip, in the table's order.

    Clips of a recording come from different electrodes. An event's `value` is the class number, its `block` the
    reviewer (the published split leaves one reviewer out).

    Parameters
    ----------
    root : path
        Folder with ``segments.csv``, or the one above it (``MAYO``, ``DATASET_MAYO`` …); clips lie beside the table
        or in ``DATASET_<SITE>``.
    site : str
        "mayo" or "fnusa".
    subjects : list of str, optional
        Patient numbers to take; default all.
    missing : str
        What a row without a file does: "reject" the patient, or "leave_out" the clip.
    """

    name = "mayo_fnusa"
    id = "mayo"
    licence = "CC BY 4.0"
    citation = (
        "Nejedly et al. 2020, Multicenter intracranial EEG dataset for classification of graphoelements and artifactual "
        "signals, Scientific Data 7:179"
    )
    modalities = ("ieeg",)

    def __init__(
        self,
        *,
        root: str | Path,
        site: str = "mayo",
        subjects: list[str] | None = None,
        missing: str = "reject",
    ) -> None:
        if site not in SITES:
            raise ConfigError(f"source 'mayo_fnusa': site '{site}' is unknown: {nearest(str(site), SITES)}")
        if missing not in MISSING:
            raise ConfigError(f"source 'mayo_fnusa': missing '{missing}' is unknown: {nearest(str(missing), MISSING)}")
        self.root, self.site, self.missing = Path(root).expanduser(), site, missing
        self.id = site
        self.subjects = None if subjects is None else [str(s) for s in subjects]

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {**super().describe(), "site": self.site, "subjects": self.subjects, "missing": self.missing}

    def list(self) -> list[Item]:
        """Return one item per patient."""
        table, folder = find_tree(self.root, SITES[self.site])
        patients: dict[str, list[Clip]] = {}
        for clip in read_segments(table):
            patients.setdefault(clip.patient, []).append(clip)
        for s in self.subjects or ():
            if s not in patients:
                raise ConfigError(f"{self.site} has no patient '{s}': {nearest(s, patients)}")
        with os.scandir(folder) as entries:
            files = {e.name: e.stat() for e in entries if e.name.endswith(".mat")}
        items = []
        for patient, clips in sorted(patients.items()):
            if self.subjects is not None and patient not in self.subjects:
                continue
            stats = [files.get(f"{c.segment}.mat") for c in clips]
            marks = [(s.st_size, s.st_mtime_ns) if s is not None else None for s in stats]
            rows = [(c.segment, c.category, c.reviewer) for c in clips]
            items.append(
                Item(
                    key=f"{self.site}_{patient}",
                    fingerprint=hash_of([rows, marks]),
                    open=partial(load_patient, self.root, table, folder, self.site, patient, self.missing),
                    subject=patient,
                    source_file=table.relative_to(self.root).as_posix(),
                    n_bytes=sum(s.st_size for s in stats if s is not None),
                )
            )
        return items


def find_tree(root: Path, site: str) -> tuple[Path, Path]:
    """Return the table of a site and the folder of its clips.

    Raises
    ------
    DataError
        When there is none.
    """
    for base in (root, root / site, root / f"DATASET_{site}", root / site / f"DATASET_{site}"):
        if (base / "segments.csv").exists():
            inner = base / f"DATASET_{site}"
            return base / "segments.csv", inner if inner.is_dir() else base
    raise DataError(f"{root}: holds no segments.csv, nor does {site} or DATASET_{site} in it; set source.root")


def read_segments(table: Path) -> list[Clip]:
    """Read segments.csv.

    Raises
    ------
    DataError
        When a column is missing or a class is unknown.
    """
    clips = []
    for i, row in enumerate(stream_rows(table, *COLUMNS)):
        category, patient = number_or_nan(row["category_id"]), number_or_nan(row["patient_id"])
        reviewer = number_or_nan(row.get("reviewer_id"))
        if category not in LABELS:
            raise DataError(f"{table.name}: row {i + 1} has category_id '{row['category_id']}', expected 0 to 3")
        clips.append(
            Clip(
                # Written with and without the suffix; a name must not lead out of the folder.
                segment=Path(row["segment_id"].strip()).name.removesuffix(".mat"),
                patient=row["patient_id"].strip() if math.isnan(patient) else f"{patient:.0f}",
                category=int(category),
                reviewer=-1 if math.isnan(reviewer) else int(reviewer),
            )
        )
    return clips


def load_patient(root: Path, table: Path, folder: Path, site: str, patient: str, missing: str) -> Recording:
    """Open one patient's clips.

    Raises
    ------
    DataError
        When a clip has no file (unless those are left out), or none has one.
    """
    rows = [c for c in read_segments(table) if c.patient == patient]
    there = [(i, c) for i, c in enumerate(rows) if (folder / f"{c.segment}.mat").exists()]
    if len(there) < len(rows) and missing == "reject":
        gone = next(c.segment for c in rows if not (folder / f"{c.segment}.mat").exists())
        raise DataError(
            f"clip '{gone}' of segments.csv has no file ({len(rows) - len(there)} of {len(rows)} clips); fetch it, or "
            "pass missing=leave_out"
        )
    if not there:
        raise DataError("none of the clips in segments.csv has a file")
    length_s = N_SAMPLES / RATE_HZ
    starts = trial_starts((N_SAMPLES,) * len(there), RATE_HZ)
    paths = [folder / f"{c.segment}.mat" for _, c in there]
    return Recording(
        dataset=site,
        subject=patient,
        task="clips",
        modality="ieeg",
        streams=(
            Stream(
                rate_hz=RATE_HZ,
                # The unit is not stated; one loader takes a tenth of a millivolt.
                channels=(Channel(name="clip", kind="seeg"),),
                n_samples=(N_SAMPLES,) * len(there),
                read=lambda interval, start, stop: read_clip(paths[interval])[start:stop],
            ),
        ),
        interval_start_s=starts,
        events=tuple(
            Event(
                onset_s=start,
                duration_s=length_s,
                kind="clip",
                label=LABELS[c.category],
                value=float(c.category),
                trial=i,
                block=c.reviewer,
            )
            for start, (i, c) in zip(starts, there, strict=True)
        ),
        source_file=table.relative_to(root).as_posix(),
        source_sha256=sha256_file(table),
    )


def read_clip(path: Path) -> np.ndarray:
    """Return one clip, shape (15000, 1).

    Raises
    ------
    DataError
        When it has another length.
    """
    values = read_mat(path, "data")
    if values.size != N_SAMPLES:
        raise DataError(f"{path.name}: 'data' has shape {values.shape}, expected {N_SAMPLES} samples of one channel")
    return values.reshape(N_SAMPLES, 1)
