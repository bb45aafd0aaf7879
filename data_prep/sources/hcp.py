"""Human Connectome Project, young adults: rest and tasks as CIFTI series, with the events of the tasks."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.readers.cifti import open_cifti, parcel_series, place_series, tr_of
from data_prep.readers.tables import number, read_lines
from data_prep.readers.volumes import import_nibabel
from data_prep.sources.base import Item, Source, file_marks
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Event, Recording, Stream

# tfMRI_WM_LR, rfMRI_REST1_7T_PA; the retinotopy runs of 7 T merged into one (..._AP_RETCW_PA_...) do not fit.
RUN = re.compile(r"[rt]fMRI_([A-Za-z0-9]+?)(_7T)?_(LR|RL|AP|PA)")
# The cleaned series of rest; that of a task where there is no other.
PLAIN, CLEAN = "_Atlas_MSMAll.dtseries.nii", "_Atlas_MSMAll_hp2000_clean.dtseries.nii"
# A table of pulses of the scanner, no condition.
NO_CONDITION = ("Sync",)


class Hcp(Source):
    """One recording per subject and run, as parcels of an atlas or as vertices and voxels.

    The events of a task are those of its ``EVs`` folder, one label per file. Twins and siblings took part: who is
    whose is in the restricted table alone, so a split must be made by families, not by subjects.

    Parameters
    ----------
    root : path
        With one folder per subject in it (``HCP_1200``).
    subjects, tasks : list of str, optional
        Ids, and names such as WM or REST1; default all.
    atlas : str, optional
        Dense label file (.dlabel.nii), on the same mesh with or without the medial wall: one channel per label.
    structures : list of str, optional
        Instead of an atlas, every vertex or voxel of these: cortex_left, thalamus_right …
    tr_s : float, optional
        Repetition time in seconds, against the header.
    """

    name = "hcp"
    id = "hcp"
    licence = (
        "Human Connectome Project open-access data-use terms (https://www.humanconnectome.org/study/hcp-young-adult/"
        "data-use-terms)"
    )
    citation = "Van Essen et al. 2013, The WU-Minn Human Connectome Project: an overview, NeuroImage 80"
    modalities = ("fmri",)

    def __init__(
        self,
        *,
        root: str | Path,
        subjects: list[str | int] | None = None,
        tasks: list[str] | None = None,
        atlas: str | None = None,
        structures: list[str] | None = None,
        tr_s: float | None = None,
    ) -> None:
        if atlas is not None and structures is not None:
            raise ConfigError("source 'hcp': takes atlas or structures, not both")
        if tr_s is not None and not tr_s > 0:
            raise ConfigError(f"source 'hcp': tr_s is {tr_s}; expected seconds above 0, or null")
        self.root, self.tr_s = Path(root).expanduser(), tr_s
        self.subjects = None if subjects is None else [str(s) for s in subjects]
        self.tasks = None if tasks is None else [str(t).upper() for t in tasks]
        self.atlas = None if atlas is None else Path(atlas).expanduser()
        self.structures = None if structures is None else [s.lower() for s in structures]

    def describe(self) -> dict[str, Any]:
        """Return name and choices; folders stay out of the dataset."""
        atlas = None
        if self.atlas is not None:
            atlas = {"file": self.atlas.name, "sha256": sha256_file(self.atlas) if self.atlas.is_file() else ""}
        return {
            "name": self.name, "version": self.version, "subjects": self.subjects, "tasks": self.tasks,
            "atlas": atlas, "structures": self.structures, "tr_s": self.tr_s,
        }  # fmt: skip

    def list(self) -> list[Item]:
        """Return one item per run."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root to the folder of subjects")
        if self.atlas is None and self.structures is None:
            raise ConfigError("source 'hcp' needs atlas (a .dlabel.nii) or structures (e.g. cortex_left)")
        if self.atlas is not None and not self.atlas.is_file():
            raise ConfigError(f"source 'hcp': atlas '{self.atlas.name}' is no file")
        import_nibabel("source 'hcp'")
        there = {p.parents[1].name: p for p in sorted(self.root.glob("*/MNINonLinear/Results"))}
        for s in self.subjects or ():
            if s not in there:
                raise ConfigError(f"source 'hcp': subject {s} is not there: {nearest(s, there)}")
        items = []
        for subject in self.subjects or there:
            for folder in sorted(there[subject].iterdir()):
                who, path = entities_of(folder.name), series_file(folder)
                if who is None or path is None or (self.tasks is not None and who["task"] not in self.tasks):
                    continue
                files = [path, *condition_files(folder), *([self.atlas] if self.atlas else [])]
                marks = file_marks(files)
                name = path.relative_to(self.root).as_posix()
                who = {"subject": subject, **who}
                items.append(
                    Item(
                        key=name,
                        fingerprint=hash_of([name, marks]),
                        open=partial(load_run, self.root, name, who, self.atlas, self.structures, self.tr_s),
                        subject=subject,
                        session=who["session"],
                        source_file=name,
                        n_bytes=path.stat().st_size,
                    )
                )
        return items


def entities_of(folder: str) -> dict[str, str] | None:
    """Return task, field strength (as the session, where it is 7 T) and phase direction of a run's folder."""
    fit = RUN.fullmatch(folder)
    return None if fit is None else {"session": "7T" if fit[2] else "", "task": fit[1].upper(), "run": fit[3]}


def series_file(folder: Path) -> Path | None:
    """Return the series of a run; None where there is none."""
    endings = (CLEAN,) if folder.name.startswith("rfMRI") else (PLAIN, CLEAN)
    return next((p for e in endings if (p := folder / f"{folder.name}{e}").is_file()), None)


def condition_files(folder: Path) -> list[Path]:
    """Return the tables of a run's conditions."""
    return [p for p in sorted((folder / "EVs").glob("*.txt")) if p.stem not in NO_CONDITION]


def load_run(
    root: Path, name: str, who: dict[str, str], atlas: Path | None, structures: list[str] | None, tr_s: float | None
) -> Recording:
    """Read one run.

    Raises
    ------
    DataError
        When series, atlas and events do not fit together.
    """
    path = root / name
    image = open_cifti(path)
    tr_s = tr_s or tr_of(image, path.name)
    events = events_of(condition_files(path.parent), image.shape[0], tr_s)
    if atlas is not None:
        channels, values = parcel_series(image, atlas, path.name)
    else:
        channels, values = place_series(image, structures or [], path.name)
    return Recording(
        dataset="hcp",
        subject=who["subject"],
        session=who["session"],
        task=who["task"],
        run=who["run"],
        modality="fmri",
        streams=(Stream.from_arrays([values], rate_hz=1 / tr_s, channels=channels, unit="au"),),
        events=events,
        source_file=name,
        source_sha256=sha256_file(path),
    )


def events_of(files: list[Path], n_volumes: int, tr_s: float) -> tuple[Event, ...]:
    """Read tables of onset, duration and amplitude without a header; a condition that did not occur has an empty one.

    Raises
    ------
    DataError
        When an onset lies beyond the end of the data.
    """
    stop_s = n_volumes * tr_s
    events = []
    for path in files:
        if not path.read_text(encoding="utf-8").strip():
            continue
        for i, line in enumerate(read_lines(path)):
            onset = number(line[0], path, i, "onset")
            if onset >= stop_s:
                raise DataError(
                    f"EVs/{path.name}: event {i + 1} begins at {onset:g} s, but the data end at {stop_s:g} s "
                    f"({n_volumes} volumes, TR {tr_s:g} s)"
                )
            length = number(line[1], path, i, "duration") if len(line) > 1 else 0.0
            events.append((onset, length, path.stem))
    return tuple(
        Event(onset_s=onset, duration_s=length, label=label, trial=i)
        for i, (onset, length, label) in enumerate(sorted(events))
    )
