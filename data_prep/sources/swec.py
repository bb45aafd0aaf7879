"""Intracranial EEG of the Sleep-Wake-Epilepsy-Center Bern and ETH Zurich: days around seizures, and seizures cut out.

Three releases share the name (Burrello et al. 2018, 2019; Carzaniga et al. 2025). The long-term ones are one folder
per patient: parts in HDF5 with a virtual total file, or an hour per MAT file with an info file. The short-term one
is a MAT file per seizure, time first where the hours are channel first, and copies of either have been re-saved the
other way round: time is the longer side of a patient's longest file (hours and minutes against 128 channels at most).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.readers.mat import read_mat
from data_prep.sources.base import Item, Source, file_fingerprint, file_marks
from data_prep.sources.swec_long import long_recording
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

VARIANTS = ("long", "short")
MISSING = ("reject", "leave_out")
SHORT_RATE_HZ = 512.0
# Each file of the short-term set: three minutes before the seizure, the seizure, three minutes after it.
MARGIN_S = 180.0


class Swec(Source):
    """Long recordings (one per patient, read across files) or single seizures, with the seizures as events.

    Parameters
    ----------
    root : path
        Folder with ``ID01``, ``ID02`` …
    variant : str
        "long": ``ID01_part_1.h5`` … with ``ID01_total.h5``, or ``ID01_1h.mat`` … with ``ID01_info.mat``.
        "short": ``ID1/Sz1.mat`` …
    subjects : list of str, optional
        Folders to take; default all.
    missing : str
        What a part that is not there does: "reject" the patient, or "leave_out" its time.
    """

    name = "swec"
    id = "swec"
    licence = (
        "68-patient long-term set CDLA-Permissive-2.0; older long-term and short-term sets free for research and "
        "education, see http://ieeg-swez.ethz.ch"
    )
    citation = (
        "Burrello et al. 2019, Laelaps: an energy-efficient seizure detection algorithm from long-term human iEEG "
        "recordings without false alarms, DATE; Burrello et al. 2018, One-shot learning for iEEG seizure detection "
        "using end-to-end binary operations, BioCAS; Carzaniga et al. 2025, arXiv:2506.20354 (68 patients)"
    )
    modalities = ("ieeg",)

    def __init__(
        self,
        *,
        root: str | Path,
        variant: str = "long",
        subjects: list[str] | None = None,
        missing: str = "reject",
    ) -> None:
        for what, value, known in (("variant", variant, VARIANTS), ("missing", missing, MISSING)):
            if value not in known:
                raise ConfigError(f"source 'swec': {what} '{value}' is unknown: {nearest(str(value), known)}")
        self.root, self.variant, self.missing = Path(root).expanduser(), variant, missing
        self.subjects = None if subjects is None else [str(s) for s in subjects]

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {
            **super().describe(),
            "variant": self.variant,
            "subjects": self.subjects,
            "missing": self.missing,
        }

    def list(self) -> list[Item]:
        """Return one item per patient, or per seizure of the short-term set."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root to the folder with ID01, ID02 …")
        folders = {p.name: p for p in sorted(self.root.glob("ID*")) if p.is_dir()}
        for s in self.subjects or ():
            if s not in folders:
                raise ConfigError(f"source 'swec' has no subject '{s}': {nearest(s, folders)}")
        chosen = [p for name, p in folders.items() if self.subjects is None or name in self.subjects]
        if self.variant == "short":
            return [item for p in chosen for item in _short(self.root, p)]
        return [item for p in chosen for item in _long(self.root, p, self.missing == "leave_out")]


def _long(root: Path, folder: Path, leave_out: bool) -> list[Item]:
    files = sorted([*folder.glob(f"{folder.name}_*.h5"), *folder.glob(f"{folder.name}_*.mat")])
    if not files:
        return []
    marks = file_marks(files)
    return [
        Item(
            key=folder.name,
            fingerprint=hash_of(marks),
            open=partial(long_recording, root, folder.name, leave_out),
            subject=folder.name,
            source_file=folder.name,
            n_bytes=sum(m[1] for m in marks),
        )
    ]


def _short(root: Path, folder: Path) -> list[Item]:
    return [
        Item(
            key=f"{folder.name}_{path.stem}",
            fingerprint=file_fingerprint(path),
            open=partial(short_recording, root, path.relative_to(root).as_posix()),
            subject=folder.name,
            source_file=path.relative_to(root).as_posix(),
            n_bytes=path.stat().st_size,
        )
        for path in sorted(folder.glob("Sz*.mat"))
    ]


def short_recording(root: Path, name: str) -> Recording:
    """Read one seizure of the short-term set.

    Raises
    ------
    DataError
        When the file is shorter than the two margins.
    """
    path = root / name
    values = read_mat(path, "EEG")
    if values.ndim == 2 and values.shape[0] < values.shape[1]:
        values = values.T
    margin = round(MARGIN_S * SHORT_RATE_HZ)
    if values.ndim != 2 or len(values) <= 2 * margin:
        raise DataError(
            f"{name}: 'EEG' has shape {values.shape}, expected (time, channel) with more than {2 * margin} samples "
            "(three minutes before the seizure and three after it)"
        )
    found = re.search(r"\d+", path.stem)
    seizure_s = (len(values) - 2 * margin) / SHORT_RATE_HZ
    # The unit is not stated by the release.
    channels = tuple(Channel(name=f"ch{i + 1:03d}", kind="seeg") for i in range(values.shape[1]))
    return Recording(
        dataset="swec",
        subject=path.parent.name,
        task="short",
        run=found.group() if found else path.stem,
        modality="ieeg",
        streams=(Stream.from_arrays([values], rate_hz=SHORT_RATE_HZ, channels=channels),),
        events=(Event(onset_s=MARGIN_S, duration_s=seizure_s, kind="seizure", label="seizure", trial=0),),
        source_file=name,
        source_sha256=sha256_file(path),
    )
