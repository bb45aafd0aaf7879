"""Opens one file through mne, and turns what mne only warns about into sentences."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.readers.edf_header import SUFFIXES, EdfHeader, read_edf_header, require_rate, require_whole
from data_prep.readers.from_mne import Note, notes_of
from neurofm.schema.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mne import BaseEpochs
    from mne.io import BaseRaw

# mne's words → ours; what is not listed is of no consequence for the signal
SENTENCES = {
    r"Channel names are not unique, found duplicates for: \{?(?P<what>[^}]*)\}?": (
        "two channels share a name ({what}); rename them, or set source.duplicates=number to call them name-0, name-1 …"
    ),
    r"possibly corrupted file|file corrupted": "is truncated or damaged; copy it again",
    r"Inconsistent file information": "has another length than its header says; copy it again",
}

KIND_OF = {
    "eog": "eog", "heog": "eog", "veog": "eog", "ecg": "ecg", "ekg": "ecg", "emg": "emg", "resp": "resp",
    "sao2": "misc", "spo2": "misc", "temp": "temperature",
}  # fmt: skip
STATED = re.compile(rf"(?:pol )?({'|'.join(KIND_OF)})(?![a-z])", re.IGNORECASE)


@contextmanager
def heard(*, duplicates: str) -> Iterator[list[str]]:
    """Run mne and collect its warnings; those that mean wrong data raise a DataError at the end of the block."""
    said: list[str] = []
    log = logging.getLogger("mne")
    log.addFilter(_nothing)  # mne logs its warnings as well
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
    finally:
        log.removeFilter(_nothing)
    for warning in caught:
        text = " ".join(str(warning.message).split())
        said.append(text)
        for pattern, sentence in SENTENCES.items():
            found = re.search(pattern, text)
            if found and not (duplicates == "number" and "unique" in pattern):
                raise DataError(sentence.format(**found.groupdict()))


def _nothing(record: logging.LogRecord) -> bool:
    return False


def open_raw(
    path: Path, *, rate_hz: float | None = None, duplicates: str = "reject"
) -> tuple[list[BaseRaw], list[Note] | None]:
    """Open a continuous file without reading its samples.

    Returns
    -------
    raws : list of mne Raw
        More than one when channels have different sampling rates (EDF, BDF): one for each rate, highest first.
    notes : list of Note or None
        Annotations where mne's own cannot be trusted, since they were cut at a length that is wrong.

    Raises
    ------
    DataError
        When the file contradicts itself.
    """
    import mne

    is_edf = path.suffix.lower() in SUFFIXES and path.is_file()
    header = read_edf_header(path) if is_edf else None
    groups: list[dict[str, Any]] = [{}]
    if header is not None:
        require_whole(header, path)
        if rate_hz is None:
            require_rate(header)
        groups = _groups(header, duplicates)
        if len(groups) > 1 and rate_hz is not None:
            raise ConfigError("source.rate_hz cannot be given for a file whose channels have different sampling rates")
    raws = []
    with heard(duplicates=duplicates) as said:
        for group in groups:
            raws.append(mne.io.read_raw(path, preload=False, verbose="warning", **group))  # noqa: PERF401
    outside = any("outside data range" in text for text in said)
    if not outside and rate_hz is None:
        return raws, None
    found = _uncut_notes(path) if outside else notes_of(raws[0])
    # EDF notes seconds; the other formats count samples, which mne divides by the rate of the header
    factor = 1.0 if rate_hz is None or is_edf else float(raws[0].info["sfreq"]) / rate_hz
    return raws, [(onset * factor, duration * factor, text) for onset, duration, text in found]


def open_epochs(path: Path) -> BaseEpochs | None:
    """Open a file of epochs; None when it holds a continuous recording.

    FIF files of epochs are told by mne's rule of naming (``-epo.fif``), EEGLAB files by their number of trials.
    """
    import mne

    name = path.name.lower()
    if name.endswith((".fif", ".fif.gz")):
        if not name.removesuffix(".gz").removesuffix(".fif").endswith(("-epo", "_epo")):
            return None
        with heard(duplicates="reject"):
            return mne.read_epochs(path, preload=False, verbose="warning")
    if not name.endswith(".set"):
        return None
    try:
        with heard(duplicates="number"):
            mne.io.read_raw_eeglab(path, preload=False, verbose="warning")
    except TypeError as error:
        if "trials" not in str(error):
            raise
        with heard(duplicates="reject"):
            return mne.read_epochs_eeglab(path, verbose="warning")
    return None


def set_kinds(raw: BaseRaw, kinds: dict[str, str], *, modality: str) -> None:
    """Set channel types by name pattern; a file that knows no kinds calls everything EEG, EOG L and ECG too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = zip(raw.ch_names, raw.get_channel_types(), strict=True)
        types = {c: k for c, t in given if (k := _kind(c, kinds) or (_said(c) if t == "eeg" else None)) is not None}
        raw.set_channel_types(types, on_unit_change="ignore", verbose="error")
        if modality == "ieeg":
            given = zip(raw.ch_names, raw.get_channel_types(), strict=True)
            eeg = [c for c, t in given if t == "eeg" and c not in types]
            raw.set_channel_types(dict.fromkeys(eeg, "seeg"), on_unit_change="ignore", verbose="error")


def _kind(channel: str, kinds: dict[str, str]) -> str | None:
    return next((kind for pattern, kind in kinds.items() if fnmatchcase(channel, pattern)), None)


def _said(channel: str) -> str | None:
    """Return the kind that a name states, after the standard texts of EDF+ (Kemp and Olivan 2003, "EOG left")."""
    found = STATED.match(channel)
    return None if found is None else KIND_OF[found[1].lower()]


def _groups(header: EdfHeader, duplicates: str) -> list[dict[str, Any]]:
    """Return mne's arguments for each sampling rate; read together, mne would stretch the slow channels in pieces."""
    if len(set(header.samples)) <= 1:
        return [{}]
    names = list(header.labels)
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice and duplicates == "number":
        raise DataError(f"two channels share a name ('{twice[0]}') and channels have different rates; rename them")
    rates = sorted(set(header.samples), reverse=True)
    return [{"include": [n for n, s in zip(names, header.samples, strict=True) if s == rate]} for rate in rates]


def _uncut_notes(path: Path) -> list[Note]:
    """Return the annotations as they stand in the file, with those that mne leaves out since they lie outside."""
    import mne

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = mne.read_annotations(path)
        except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
            raise DataError(
                "has annotations past its end, and their times cannot be read; is the sampling rate right?"
            ) from error
    return [
        (float(o), float(d), str(t)) for o, d, t in zip(found.onset, found.duration, found.description, strict=True)
    ]


def rates_in_words(raws: Sequence[BaseRaw]) -> str:
    """Say which channels are sampled how, for a message."""
    return " and ".join(
        f"{raw.info['sfreq']:g} Hz ({', '.join(raw.ch_names[:3])}{' …' if len(raw.ch_names) > 3 else ''})"
        for raw in raws
    )
