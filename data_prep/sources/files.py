"""Any file that mne can read: EDF, BDF, BrainVision, FIF, EEGLAB, GDF, CNT and others, found by a glob."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.layout.naming import compile_pattern, entities, misfit, require_fit
from data_prep.layout.tree import nothing_fits
from data_prep.readers.from_epochs import recording_from_epochs
from data_prep.readers.from_mne import COVARIATE, SIGNAL, recording_from_raw, stream_of
from data_prep.readers.open_mne import open_epochs, open_raw, rates_in_words, set_kinds
from data_prep.sources.base import Item, Source, file_marks
from data_prep.sources.bids import data_files
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Recording, slug

if TYPE_CHECKING:
    from mne.io import BaseRaw

MODALITIES = ("eeg", "ieeg", "meg")
KINDS = (*SIGNAL, *COVARIATE, "stim")
# formats that are a single file; others, such as .ds and .mff, are folders
FILES_ONLY = (".edf", ".bdf", ".fif", ".set", ".vhdr", ".gdf", ".cnt")
DUPLICATES = ("reject", "number")


class Files(Source):
    """Every file under `root` that fits `glob`, opened by ``mne.io.read_raw``; epochs files too.

    Annotations that look like codes become events. Epochs (``-epo.fif``, EEGLAB .set with trials) are one valid
    interval each, with their event. EDF channels at another sampling rate than the signal are covariates on their
    own clock.

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
        Channel-name pattern → mne channel type, for formats that do not say (EDF): ``{"Chin*": emg}``; the first
        that fits counts. Without one, names that begin with EOG, ECG, EKG, EMG, Resp, Temp, SaO2 or SpO2 say it themselves.
    rate_hz : float, optional
        The true sampling rate, where headers state a wrong one.
    duplicates : str
        "reject" a file in which two channels share a name, or "number" them name-0, name-1 …
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
        rate_hz: float | None = None,
        duplicates: str = "reject",
    ) -> None:
        if modality not in MODALITIES:
            raise ConfigError(f"source 'files': modality '{modality}' is unknown: {nearest(modality, MODALITIES)}")
        self.root, self.glob, self.modality = Path(root).expanduser(), glob, modality
        self.pattern, self._compiled = pattern, None if pattern is None else compile_pattern(pattern)
        self.kinds = dict(kinds or {})
        for name, kind in self.kinds.items():
            if kind not in KINDS:
                raise ConfigError(f"source 'files': kinds says '{name}' is '{kind}', no kind: {nearest(kind, KINDS)}")
        if rate_hz is not None and not rate_hz > 0:
            raise ConfigError(f"source 'files': rate_hz is {rate_hz}; expected samples per second above 0")
        if duplicates not in DUPLICATES:
            raise ConfigError(
                f"source 'files': duplicates '{duplicates}' is unknown: {nearest(duplicates, DUPLICATES)}"
            )
        self.rate_hz, self.duplicates = None if rate_hz is None else float(rate_hz), duplicates

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {
            "name": self.name,
            "version": self.version,
            "glob": self.glob,
            "pattern": self.pattern or "",
            "modality": self.modality,
            "kinds": self.kinds,
            "rate_hz": self.rate_hz,
            "duplicates": self.duplicates,
        }

    def list(self) -> list[Item]:
        """Return one item per file."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root")
        found = files_of(self.root, self.glob)
        if not found:
            raise nothing_fits(self.root, self.glob)
        require_fit(self.root, self.glob, self.pattern, (p.relative_to(self.root).as_posix() for p in found))
        if self._compiled is None:
            self._require_names(found)
        items = []
        for path in found:
            name = path.relative_to(self.root).as_posix()
            who = entities(name, self._compiled)
            files = data_files(path)
            marks = file_marks(files)
            items.append(
                Item(
                    key=name,
                    fingerprint=hash_of([name, marks]),
                    open=partial(
                        load_file,
                        self.root,
                        name,
                        who,
                        self.pattern,
                        self.modality,
                        self.kinds,
                        self.rate_hz,
                        self.duplicates,
                    ),
                    subject=(who or {}).get("subject", ""),
                    session=(who or {}).get("session", ""),
                    source_file=name,
                    n_bytes=sum(m[1] for m in marks),
                )
            )
        return items

    def remarks(self, channels: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """Say which patterns of `kinds` fit no channel of any recording; those of kind stim leave no channel behind."""
        names = {c["name"] for c in channels}
        # a bipolar channel is called after its two
        names |= {part for n in names for part in n.split("-")}
        found = sorted({c["name"] for c in channels})
        return [
            f"source.kinds: '{pattern}' ({kind}) fits no channel of any recording; there are {', '.join(found[:8])}"
            + (" …" if len(found) > 8 else "")
            for pattern, kind in self.kinds.items()
            if kind != "stim" and not any(fnmatchcase(n, pattern) for n in names)
        ]

    def _require_names(self, paths: Sequence[Path]) -> None:
        """Check that the name of a file, which is its subject where no pattern is given, tells files apart."""
        first: dict[str, str] = {}
        for path in paths:
            name = path.relative_to(self.root).as_posix()
            other = first.setdefault(path.name, name)
            if other != name:
                raise ConfigError(
                    f"source 'files': '{other}' and '{name}' have the same name, which would be their subject; say where "
                    "the subject stands in the path, e.g. 'dataset.source.pattern=\"{subject}/**\"'"
                )


def files_of(root: Path, glob: str) -> list[Path]:
    """Return what fits a glob, whether its suffix is written in small letters or capitals; hidden files do not."""
    suffix = Path(glob).suffix
    globs = {glob, *(glob.removesuffix(suffix) + s for s in (suffix.lower(), suffix.upper()))}
    return sorted({p for g in globs for p in root.glob(g) if not p.name.startswith(".")})


def load_file(
    root: Path,
    name: str,
    who: dict[str, str] | None,
    pattern: str | None,
    modality: str,
    kinds: dict[str, str],
    rate_hz: float | None = None,
    duplicates: str = "reject",
) -> Recording:
    """Open one file, continuous or of epochs.

    Raises
    ------
    DataError
        When its path does not fit the pattern, it contradicts itself or it has no usable channel.
    """
    if who is None:
        raise DataError(misfit(name, str(pattern)))
    path = root / name
    if path.is_dir() and path.suffix.lower() in FILES_ONLY:
        raise DataError(f"is a folder, expected a {path.suffix} file; choose a glob that leaves it out")
    facts: dict[str, Any] = {
        "dataset": "files",
        "modality": modality,
        **who,
        "source_file": name,
        "source_sha256": sha256_file(data_files(path)[-1]),
    }
    epochs = open_epochs(path)
    if epochs is not None:
        if rate_hz is not None:
            raise ConfigError(f"source.rate_hz cannot be given for epochs ({name})")
        set_kinds(epochs, kinds, modality=modality)
        return recording_from_epochs(epochs, **facts)
    raws, notes = open_raw(path, rate_hz=rate_hz, duplicates=duplicates)
    for raw in raws:
        set_kinds(raw, kinds, modality=modality)
    main = [raw for raw in raws if set(raw.get_channel_types()) & set(SIGNAL)]
    if len(main) > 1:
        raise DataError(
            f"its signal channels have different sampling rates: {rates_in_words(main)}; say with source.kinds which of "
            "them are something else, e.g. {'EMG*': emg, 'Temp*': misc}"
        )
    recording = recording_from_raw(*(main or raws[:1]), **facts, rate_hz=rate_hz, notes=notes)
    for raw in raws:
        if raw is not main[0]:
            recording = with_slower(recording, raw)
    return recording


def with_slower(recording: Recording, raw: BaseRaw) -> Recording:
    """Return the recording with the channels of `raw`, on another clock, as a covariate of their own.

    Parameters
    ----------
    recording : Recording
        With the valid intervals.
    raw : mne Raw
        Channels of the same file at another sampling rate.
    """
    rate_hz = float(raw.info["sfreq"])
    spans = [(min(round(a * rate_hz), raw.n_times), min(round(b * rate_hz), raw.n_times)) for a, b in recording.valid]
    stream = stream_of(raw, f"covariate-{slug(f'{rate_hz:g}')}hz", "covariate", COVARIATE, spans, rate_hz)
    return recording if stream is None else replace(recording, streams=(*recording.streams, stream))
