"""EEG, iEEG and MEG in BIDS, through mne-bids."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.readers.bids_tables import Place, events_of_table, find_sidecar, levels_of, places, require_sidecars
from data_prep.readers.edf_header import SUFFIXES, read_edf_header, require_whole
from data_prep.readers.from_mne import recording_from_raw
from data_prep.readers.open_mne import heard
from data_prep.sources.base import Item, Source, file_marks, size_of
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Recording

if TYPE_CHECKING:
    from mne_bids import BIDSPath

MODALITY = {"eeg": "eeg", "ieeg": "ieeg", "meg": "meg"}
SIDECARS = ("required", "optional")
RAW_EXTENSIONS = {".vhdr", ".edf", ".bdf", ".set", ".fif", ".ds", ".sqd", ".con", ".mefd", ".nwb", ".pdf", ".cnt"}


class Bids(Source):
    """Every raw recording of a BIDS folder that fits the filters.

    Events come from events.tsv (trial_type is the label, stim_file the stimulus), bad channels from the status column
    of channels.tsv, positions from electrodes.tsv with their coordinate system. Nothing of participants.tsv (age, sex)
    and no date is kept.

    Parameters
    ----------
    root : path
        Folder with dataset_description.json.
    subjects, sessions, tasks, runs : list of str, optional
        Entities to take; default all.
    datatypes : list of str, optional
        Of eeg, ieeg, meg; default all three.
    acquisitions, processings : list of str, optional
        Further entities.
    sidecars : str
        "required": a recording without the sidecars that BIDS requires is rejected; "optional": it is read as mne can.
    """

    name = "bids"
    id = "bids"
    modalities = ("eeg", "ieeg", "meg")
    version = 2

    def __init__(
        self,
        *,
        root: str | Path,
        subjects: list[str] | None = None,
        sessions: list[str] | None = None,
        tasks: list[str] | None = None,
        runs: list[str] | None = None,
        datatypes: list[str] | None = None,
        acquisitions: list[str] | None = None,
        processings: list[str] | None = None,
        sidecars: str = "required",
    ) -> None:
        self.root = Path(root).expanduser()
        for d in datatypes or ():
            if d not in MODALITY:
                raise ConfigError(f"source 'bids': datatype '{d}' is unknown: {nearest(d, MODALITY)}")
        self.datatypes = list(datatypes or MODALITY)
        if sidecars not in SIDECARS:
            raise ConfigError(f"source 'bids': sidecars '{sidecars}' is unknown: {nearest(sidecars, SIDECARS)}")
        self.sidecars = sidecars
        filters = {
            "subjects": (subjects, "sub-"), "sessions": (sessions, "ses-"), "tasks": (tasks, "task-"),
            "runs": (runs, "run-"), "acquisitions": (acquisitions, "acq-"), "processings": (processings, "proc-"),
        }  # fmt: skip
        self.filters = {k: [str(x).removeprefix(p) for x in v] for k, (v, p) in filters.items() if v is not None}

    def describe(self) -> dict[str, Any]:
        """Return name and filters; the folder's path stays out of the dataset."""
        return {
            "name": self.name,
            "version": self.version,
            "datatypes": self.datatypes,
            "sidecars": self.sidecars,
            **self.filters,
        }

    def list(self) -> list[Item]:
        """Return one item per raw file."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root to a BIDS dataset")
        import mne_bids

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            there = mne_bids.find_matching_paths(self.root, datatypes=list(MODALITY), ignore_nosub=True)
            self._require_known([p for p in there if p.suffix in MODALITY and p.extension in RAW_EXTENSIONS])
            paths = mne_bids.find_matching_paths(self.root, datatypes=self.datatypes, ignore_nosub=True, **self.filters)
        items = []
        for path in paths:
            if (
                path.suffix not in MODALITY
                or path.extension not in RAW_EXTENSIONS
                or path.split not in (None, "01", "1")
            ):
                continue
            name = path.fpath.relative_to(self.root).as_posix()
            items.append(
                Item(
                    key=path.fpath.name.removesuffix(path.extension),
                    fingerprint=folder_fingerprint(path.fpath),
                    open=partial(load_bids, self.root, name, self.id, self.sidecars),
                    subject=path.subject or "",
                    session=path.session or "",
                    source_file=name,
                    n_bytes=sum(map(size_of, data_files(path.fpath))),
                )
            )
        return items

    def _require_known(self, paths: Sequence[BIDSPath]) -> None:
        """Check that there are recordings, and that each value asked for occurs in some of them."""
        if not paths:
            raise DataError(
                f"{self.root}: holds no EEG, iEEG or MEG recording named as BIDS wants it, such as "
                "sub-01/eeg/sub-01_task-rest_eeg.edf; for other names use dataset=files"
            )
        kinds = {str(p.datatype) for p in paths}
        if not kinds & set(self.datatypes):
            raise DataError(
                f"{self.root}: holds no {' or '.join(self.datatypes)} recording, only {', '.join(sorted(kinds))}"
            )
        for name, values in self.filters.items():
            entity = name.removesuffix("s")
            known = sorted({str(getattr(p, entity)) for p in paths if getattr(p, entity) is not None})
            for value in values:
                if value not in known:
                    there = nearest(value, known) if known else f"no recording states a {entity}"
                    raise ConfigError(f"{self.root}: source.{name}: there is no {entity} '{value}': {there}")


def data_files(path: Path) -> list[Path]:
    """Return the files that hold a recording's samples."""
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    twins = [path.with_suffix(s) for s in (".eeg", ".fdt")]
    return [path, *(p for p in twins if p.exists())]


def folder_fingerprint(path: Path) -> str:
    """Hash of names, sizes and times of the recording's files and of the sidecars beside it."""
    near = [p for p in sorted(path.parent.iterdir()) if p.is_file()] + data_files(path)
    return hash_of([path.name, file_marks(near)])


def load_bids(root: Path, name: str, dataset: str, sidecars: str = "required") -> Recording:
    """Read one raw file with its sidecars.

    Raises
    ------
    DataError
        When it has no usable channel or sample, or a sidecar is missing or contradicts it.
    """
    import mne_bids

    file = root / name
    path = mne_bids.get_bids_path_from_fname(file)
    path.update(root=root)
    if sidecars == "required":
        require_sidecars(root, file, path.datatype)
    if file.suffix.lower() in SUFFIXES and file.is_file():
        require_whole(read_edf_header(file), file)
    events, notes = None, None
    table = find_sidecar(root, file, "events.tsv")
    if table is not None:
        events, notes = events_of_table(table, levels=levels_of(find_sidecar(root, file, "events.json")))
    with heard(duplicates="reject"):
        # Readers warn about every absent sidecar; what matters is in the tables or raises.
        raw = mne_bids.read_raw_bids(path, verbose="warning")
    where = places(root, file)
    recording = recording_from_raw(
        raw,
        dataset=dataset,
        subject=path.subject,
        session=path.session or "",
        task=path.task or "",
        run="-".join(part for part in (path.run, path.acquisition, path.processing, path.recording) if part),
        modality=MODALITY[path.datatype],
        source_file=name,
        source_sha256=sha256_file(data_files(file)[-1]) if file.is_file() else "",
        events=events,
        notes=notes,
    )
    return with_places(recording, where) if path.datatype == "ieeg" else recording


def with_places(recording: Recording, where: Mapping[str, Place]) -> Recording:
    """Return the recording with its electrodes at these positions, those without one at none.

    mne turns positions into the frame of the head, which needs landmarks that intracranial data seldom have.
    """
    signal = recording.signal
    none = Place(math.nan, math.nan, math.nan, "")
    channels = tuple(replace(c, **where.get(c.name, none)._asdict()) for c in signal.channels)
    return recording.with_signal(replace(signal, channels=channels))
