"""A file opened by mne for a dataset's own reader: errors in words, channels renamed and dropped by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurofm.schema.errors import DataError
from neurofm.schema.recording import Event

if TYPE_CHECKING:
    from mne.io import BaseRaw

# What mne's readers raise on files that are not what they claim to be.
MNE_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


def open_raw(path: Path, *, channel: Callable[[str], tuple[str, str] | None] | None = None, **options: Any) -> BaseRaw:
    """Open a file lazily.

    Parameters
    ----------
    path : Path
        Anything ``mne.io.read_raw`` opens.
    channel : callable, optional
        Name in the file → (name, mne channel type), or None = left out. Of several channels that come out with
        one name, as when the file has a name twice, the first is kept.
    **options
        Passed to mne's reader.

    Raises
    ------
    DataError
        When mne cannot open it, or no channel is left.
    """
    raw = _opened(path, **options)
    if channel is None:
        return raw
    wanted: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    plain = dict(zip(raw.ch_names, plain_names(raw.ch_names), strict=True))
    for name in raw.ch_names:
        named = channel(plain[name])
        if named is not None and named[0] not in taken:
            wanted[name] = named
            taken.add(named[0])
    if not wanted:
        raise DataError(f"{path.name}: has none of the channels of this dataset; it has {', '.join(raw.ch_names[:10])}")
    if path.suffix.lower() in (".edf", ".bdf") and len(wanted) < len(raw.ch_names):
        # One rate is given to all channels that are read: what is left out must not decide it.
        out = [c for c in raw.ch_names if c not in wanted]
        raw = _opened(path, exclude=out, exclude_after_unique=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw.drop_channels([c for c in raw.ch_names if c not in wanted])
        types = {c: kind for c, (_, kind) in wanted.items()}
        raw.set_channel_types(types, on_unit_change="ignore", verbose="error")
        raw.rename_channels({c: n for c, (n, _) in wanted.items()}, verbose="error")
    return raw


def _opened(path: Path, **options: Any) -> BaseRaw:
    import mne

    try:
        with warnings.catch_warnings():
            # Readers warn about every oddity of a header; what matters is checked here or raises.
            warnings.simplefilter("ignore")
            return mne.io.read_raw(path, preload=False, verbose="error", **options)
    except MNE_ERRORS as error:
        raise DataError(f"{path.name}: mne cannot open it ({' '.join(str(error).split())[:200]})") from error


def plain_names(names: list[str]) -> list[str]:
    """Return channel names without the running numbers that mne gives to one that occurs again: ``T8-P8-0``."""
    numbered = {n[:-2] for n in names if n.endswith("-0") and f"{n[:-2]}-1" in names}
    return [base if (base := n.rpartition("-")[0]) in numbered and n[len(base) + 1 :].isdigit() else n for n in names]


def inside(events: list[Event], length_s: float, path: Path) -> tuple[Event, ...]:
    """Return events numbered by onset.

    Raises
    ------
    DataError
        When one begins outside of the recording: its times belong to another file.
    """
    for e in events:
        if not 0 <= e.onset_s < length_s:
            raise DataError(f"{path.name}: event '{e.label}' at {e.onset_s:g} s lies outside of its {length_s:g} s")
    ordered = sorted(events, key=lambda e: (e.onset_s, e.label))
    return tuple(replace(e, trial=i) for i, e in enumerate(ordered))
