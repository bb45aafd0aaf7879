"""Any file that mne can read: EDF, BDF, BrainVision, FIF, EEGLAB, GDF, CNT and others, found by a glob."""

from __future__ import annotations

import warnings
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.layout.naming import compile_pattern, entities
from data_prep.readers.from_mne import recording_from_raw
from data_prep.readers.raw_file import open_raw
from data_prep.sources.base import Item, Source, file_marks
from data_prep.sources.bids import data_files
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Recording

MODALITIES = ("eeg", "ieeg", "meg")


class Files(Source):
    """Every file under `root` that fits `glob`, opened by ``mne.io.read_raw``.

    Parameters
    ----------
    root : path
        Folder to look in.
    glob : str
        Which files, e.g. ``**/*.edf``.
    pattern : str, optional
        Where subject, session, task and run stand in the path relative to `root`, e.g.
        ``{subject}/{session}/*_run-{run}.edf``. Files it does not fit are rejected by name. Default: the file's
        name is the subject.
    modality : str
        "eeg", "ieeg" or "meg".
    kinds : dict of str to str, optional
        Channel-name pattern → mne channel type, for formats that do not say (EDF): ``{"EMG*": emg}``; the first
        that fits counts.
    """

    name = "files"
    id = "files"
    modalities = MODALITIES

    def __init__(
        self,
        *,
        root: str | Path,
        glob: str,
        pattern: str | None = None,
        modality: str = "eeg",
        kinds: dict[str, str] | None = None,
    ) -> None:
        if modality not in MODALITIES:
            raise ConfigError(f"source 'files': modality '{modality}' is unknown: {nearest(modality, MODALITIES)}")
        self.root, self.glob, self.modality = Path(root).expanduser(), glob, modality
        self.pattern, self._compiled = pattern, None if pattern is None else compile_pattern(pattern)
        self.kinds = dict(kinds or {})

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {
            "name": self.name,
            "version": self.version,
            "glob": self.glob,
            "pattern": self.pattern or "",
            "modality": self.modality,
            "kinds": self.kinds,
        }

    def list(self) -> list[Item]:
        """Return one item per file."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root")
        items = []
        for path in sorted(p for p in self.root.glob(self.glob) if not p.name.startswith(".")):
            name = path.relative_to(self.root).as_posix()
            who = entities(name, self._compiled)
            files = data_files(path)
            marks = file_marks(files)
            items.append(
                Item(
                    key=name,
                    fingerprint=hash_of([name, marks]),
                    open=partial(load_file, self.root, name, who, self.pattern, self.modality, self.kinds),
                    subject=(who or {}).get("subject", ""),
                    session=(who or {}).get("session", ""),
                    source_file=name,
                    n_bytes=sum(m[1] for m in marks),
                )
            )
        return items


def load_file(
    root: Path, name: str, who: dict[str, str] | None, pattern: str | None, modality: str, kinds: dict[str, str]
) -> Recording:
    """Open one file.

    Raises
    ------
    DataError
        When its path does not fit the pattern or it has no usable channel.
    """
    if who is None:
        raise DataError(f"path '{name}' does not fit source.pattern '{pattern}'")
    raw = open_raw(root / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        types = {c: k for c in raw.ch_names if (k := _kind(c, kinds)) is not None}
        raw.set_channel_types(types, on_unit_change="ignore", verbose="error")
    if modality == "ieeg":
        # Files without channel kinds call everything EEG.
        eeg = [c for c, t in zip(raw.ch_names, raw.get_channel_types(), strict=True) if t == "eeg" and c not in types]
        raw.set_channel_types(dict.fromkeys(eeg, "seeg"), verbose="error")
    return recording_from_raw(
        raw,
        dataset="files",
        modality=modality,
        **who,
        source_file=name,
        source_sha256=sha256_file(data_files(root / name)[-1]),
    )


def _kind(channel: str, kinds: dict[str, str]) -> str | None:
    return next((kind for pattern, kind in kinds.items() if fnmatchcase(channel, pattern)), None)
