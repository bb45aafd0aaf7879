"""EEG, iEEG and MEG in BIDS, through mne-bids."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.readers.from_mne import recording_from_raw
from data_prep.sources.base import Item, Source, file_marks
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Recording

MODALITY = {"eeg": "eeg", "ieeg": "ieeg", "meg": "meg"}
RAW_EXTENSIONS = {".vhdr", ".edf", ".bdf", ".set", ".fif", ".ds", ".sqd", ".con", ".mefd", ".nwb", ".pdf", ".cnt"}


class Bids(Source):
    """Every raw recording of a BIDS folder that fits the filters.

    Events come from events.tsv, bad channels from the status column of channels.tsv, positions from
    electrodes.tsv. Nothing of participants.tsv and no date is kept.

    Parameters
    ----------
    root : path
        Folder with dataset_description.json.
    subjects, sessions, tasks, runs : list of str, optional
        Entities to take, without their prefix; default all.
    datatypes : list of str, optional
        Of eeg, ieeg, meg; default all three.
    """

    name = "bids"
    id = "bids"
    modalities = ("eeg", "ieeg", "meg")

    def __init__(
        self,
        *,
        root: str | Path,
        subjects: list[str] | None = None,
        sessions: list[str] | None = None,
        tasks: list[str] | None = None,
        runs: list[str] | None = None,
        datatypes: list[str] | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        for d in datatypes or ():
            if d not in MODALITY:
                raise ConfigError(f"source 'bids': datatype '{d}' is unknown: {nearest(d, MODALITY)}")
        self.datatypes = list(datatypes or MODALITY)
        filters = {"subjects": subjects, "sessions": sessions, "tasks": tasks, "runs": runs}
        self.filters = {k: [str(x) for x in v] for k, v in filters.items() if v is not None}

    def describe(self) -> dict[str, Any]:
        """Return name and filters; the folder's path stays out of the dataset."""
        return {"name": self.name, "version": self.version, "datatypes": self.datatypes, **self.filters}

    def list(self) -> list[Item]:
        """Return one item per raw file."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root to a BIDS dataset")
        import mne_bids

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
                    open=partial(load_bids, self.root, name, self.id),
                    subject=path.subject or "",
                    session=path.session or "",
                    source_file=name,
                    n_bytes=sum(p.stat().st_size for p in data_files(path.fpath)),
                )
            )
        return items


def data_files(path: Path) -> list[Path]:
    """Return the files that hold a recording's samples."""
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    twins = [path.with_suffix(s) for s in (".eeg", ".fdt")]
    return [path, *(p for p in twins if p.exists())]


def folder_fingerprint(path: Path) -> str:
    """Hash of names, sizes and times of the recording's files and of the sidecars beside it."""
    near = [p for p in sorted(path.parent.iterdir()) if p.is_file()] + data_files(path)
    return hash_of([path.name, file_marks(p for p in near if p.exists())])


def load_bids(root: Path, name: str, dataset: str) -> Recording:
    """Read one raw file with its sidecars.

    Raises
    ------
    DataError
        When it has no usable channel or sample.
    """
    import mne_bids

    file = root / name
    path = mne_bids.get_bids_path_from_fname(file)
    path.update(root=root)
    with warnings.catch_warnings():
        # Readers warn about every absent sidecar; what matters is in the tables or raises.
        warnings.simplefilter("ignore")
        raw = mne_bids.read_raw_bids(path, verbose="error")
    space = {p.name.split("_space-")[1].split("_")[0] for p in file.parent.glob("*_space-*_electrodes.tsv")}
    whole = sha256_file(data_files(file)[-1]) if file.is_file() else ""
    recording = recording_from_raw(
        raw,
        dataset=dataset,
        subject=path.subject,
        session=path.session or "",
        task=path.task or "",
        run=path.run or "",
        modality=MODALITY[path.datatype],
        source_file=name,
        source_sha256=whole,
    )
    # coordsystem.json may say "Other" where the file's name says which space the electrodes are in.
    return named_frame(recording, "mni") if len(space) == 1 and space.pop().lower().startswith("mni") else recording


def named_frame(recording: Recording, frame: str) -> Recording:
    """Return the recording with `frame` on the channels whose coordinate frame is unknown."""
    signal = recording.signal
    channels = tuple(replace(c, frame=frame) if c.frame == "unknown" else c for c in signal.channels)
    return recording.with_signal(replace(signal, channels=channels))
