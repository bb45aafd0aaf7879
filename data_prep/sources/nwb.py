"""Neurodata Without Borders files: spikes, local field potentials or calcium, with trials and behaviour beside them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.layout.naming import compile_pattern, entities, misfit, require_fit
from data_prep.layout.tree import nothing_fits
from data_prep.privacy import undated, without_date
from data_prep.readers.hdf5 import open_hdf5
from data_prep.readers.nwb_behaviour import covariates_of, trial_events
from data_prep.readers.nwb_channels import unit_channels
from data_prep.readers.nwb_signal import SIGNALS, electrical_stream, roi_stream, signal_kind
from data_prep.readers.nwb_units import (
    Spans,
    common_spans,
    observed_each,
    partly_observed,
    spike_stream,
    spike_table,
)
from data_prep.sources.base import Item, Source, file_fingerprint, size_of
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import EventStream, Recording, Stream, slug

if TYPE_CHECKING:
    from pynwb import NWBFile

MODALITY = {"units": "spikes", "electrical": "ieeg", "roi": "calcium"}
ENTITY = re.compile(r"(?:^|_)(sub|ses|desc)-([^_/]+)")


class Nwb(Source):
    """Every NWB file under `root`.

    Units become events, or one ElectricalSeries or RoiResponseSeries the signal; the trials table becomes events;
    series of behaviour become streams beside the signal, on their own clocks. Dates, names and notes are dropped:
    a date in a file's name is replaced by days since the subject's first one.

    Parameters
    ----------
    root : path
        Folder to look in.
    glob : str
        Which files.
    pattern : str, optional
        Where subject, session, task and run stand in the path relative to `root`. Default: the subject that the file
        states, and the session of a name like ``sub-A_ses-1_ecephys.nwb`` or else what the file states.
    signal : str
        "units", "electrical" (LFP, ECoG), "roi" (calcium), or "auto": the first of these that the file has.
    series : str, optional
        Name of the ElectricalSeries or RoiResponseSeries, where a file has several.
    kind : str
        Kind of the channels of an ElectricalSeries: "lfp", "ecog", "seeg" or "eeg".
    covariates : list of str, optional
        Names of the series beside the signal; default all of the file's behaviour, [] for none.
    label : str, optional
        Column of the trials table that says what each trial is.
    quality : list of str, optional
        Quality labels of units that are good; default all but noise.
    """

    name = "nwb"
    id = "nwb"
    modalities = ("spikes", "ieeg", "calcium")

    def __init__(
        self,
        *,
        root: str | Path,
        glob: str = "**/*.nwb",
        pattern: str | None = None,
        signal: str = "auto",
        series: str | None = None,
        kind: str = "lfp",
        covariates: list[str] | None = None,
        label: str | None = None,
        quality: list[str] | None = None,
    ) -> None:
        if signal not in ("auto", *SIGNALS):
            raise ConfigError(f"source 'nwb': signal '{signal}' is unknown: {nearest(signal, ('auto', *SIGNALS))}")
        self.root = Path(root).expanduser()
        self.choices: dict[str, Any] = {
            "signal": signal, "series": series, "kind": kind, "label": label,
            "covariates": None if covariates is None else list(covariates),
            "quality": None if quality is None else list(quality),
        }  # fmt: skip
        self.glob, self.pattern = glob, pattern
        self._compiled = None if pattern is None else compile_pattern(pattern, subject=False)

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        how = {"glob": self.glob, "pattern": self.pattern, **self.choices}
        return {"name": self.name, "version": self.version, **how}

    def list(self) -> list[Item]:
        """Return one item per file; none is opened."""
        return [
            Item(
                key=shown,
                fingerprint=file_fingerprint(path, who=who),
                open=partial(load_nwb, self.root, name, shown, who, self.choices),
                subject=who.get("subject", "") if self._compiled else "",
                session=who.get("session", "") if self._compiled else "",
                source_file=shown,
                n_bytes=size_of(path),
            )
            for path, name, shown, who in listed(self.root, self.glob, self.pattern)
        ]


def listed(root: Path, glob: str, pattern: str | None) -> Iterator[tuple[Path, str, str, dict[str, str]]]:
    """Yield (path, name, name without dates, who) of every file; who is what the name says."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set source.root")
    paths = sorted(p for p in root.glob(glob) if p.is_file())
    if not paths:
        raise nothing_fits(root, glob)
    names = [p.relative_to(root).as_posix() for p in paths]
    shown = undated(names, [_owner(n) for n in names])
    require_fit(root, glob, pattern, shown)
    compiled = None if pattern is None else compile_pattern(pattern, subject=False)
    for path, name, plain in zip(paths, names, shown, strict=True):
        who = named(plain) if compiled is None else entities(plain, compiled)
        yield path, name, plain, {"misfit": misfit(plain, str(pattern))} if who is None else who


def named(name: str) -> dict[str, str]:
    """Return what a file's name says in the manner of DANDI: sub-, ses- and desc- of the file itself."""
    found = dict(ENTITY.findall(Path(name).stem))
    return {k: found[e] for k, e in (("dandi_subject", "sub"), ("session", "ses"), ("run", "desc")) if e in found}


def _owner(name: str) -> str:
    """Whose file it is, as far as its name says: sessions of one subject are counted from that subject's first."""
    found = dict(ENTITY.findall(Path(name).stem)).get("sub", "")
    return re.sub(r"-held-(in|out).*$", "", found)


@contextmanager
def opened(path: Path) -> Iterator[NWBFile]:
    """Open a file with pynwb, extensions included as far as the file carries them."""
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings():
        # pynwb warns of every departure from the newest schema; what matters raises
        warnings.simplefilter("ignore")
        with open_hdf5(path):
            pass  # says what is wrong with a file that is none
        with NWBHDF5IO(str(path), "r") as io:
            yield io.read()


def load_nwb(root: Path, name: str, shown: str, who: dict[str, str], choices: dict[str, Any]) -> Recording:
    """Read one file's tables; its series are read when asked for.

    Raises
    ------
    DataError
        When its name does not fit, or it has not the signal that was asked for.
    """
    if "misfit" in who:
        raise DataError(who["misfit"])
    path = root / name
    with opened(path) as nwb:
        person = identity(nwb, who, shown)
        owner = "/".join(slug(person[k]) for k in ("subject", "session", "run") if person[k])
        kind = signal_kind(nwb) if choices["signal"] == "auto" else choices["signal"]
        events = trial_events(nwb, label=choices["label"])
        holes = invalid_spans(nwb)
        first: Stream | EventStream
        used: tuple[str, ...] = ()
        if kind == "units":
            table = spike_table(nwb.units)
            each = observed_each(nwb.units)
            whole = ((0.0, end_of(table.last_s, [e.onset_s + e.duration_s for e in events])),)
            spans = without(whole if each is None else common_spans(each), holes)
            partly = partly_observed(each, spans)
            channels = unit_channels(nwb.units, owner=owner, partly=partly, quality=choices["quality"])
            first = spike_stream(table, channels, spans)
        elif kind == "electrical":
            first, spans, used = electrical_stream(nwb, series=choices["series"], kind=choices["kind"], holes=holes)
        else:
            first, spans, used = roi_stream(nwb, series=choices["series"], owner=owner, holes=holes)
        beside = covariates_of(nwb, spans, names=choices["covariates"], taken={first.name}, used=used)
    return Recording(
        dataset="nwb",
        **person,
        modality=MODALITY[kind],
        streams=(first, *beside),
        interval_start_s=tuple(a for a, _ in spans),
        events=events,
        source_file=shown,
        source_sha256=sha256_file(path),
    )


def identity(nwb: NWBFile, who: dict[str, str], shown: str) -> dict[str, str]:
    """Subject, session, task and run: from the path's pattern, else as the file states them, without dates."""
    stated = nwb.subject.subject_id if nwb.subject is not None else None
    subject = who.get("subject") or without_date(str(stated or "")) or who.get("dandi_subject") or Path(shown).stem
    session = who.get("session") or without_date(str(nwb.session_id or ""))
    return {"subject": subject, "session": session, "task": who.get("task", ""), "run": who.get("run", "")}


def end_of(last_s: float, others: Sequence[float]) -> float:
    """End of a recording that does not state it: the next millisecond after the last spike, or the last trial's end."""
    return max([(np.floor(last_s * 1000) + 1) / 1000, *others])


def invalid_spans(nwb: NWBFile) -> Spans:
    """Return the table of times that the lab found unfit."""
    table = nwb.invalid_times
    if table is None:
        return ()
    return tuple((float(a), float(b)) for a, b in zip(table["start_time"][:], table["stop_time"][:], strict=True))


def without(spans: Spans, holes: Spans) -> Spans:
    """Return spans less holes.

    Raises
    ------
    DataError
        When nothing is left.
    """
    left = []
    for start, stop in spans:
        at = start
        for a, b in sorted(holes):
            if b <= at or a >= stop:
                continue
            if a > at:
                left.append((at, a))
            at = max(at, b)
        if stop > at:
            left.append((at, stop))
    if not left:
        raise DataError("no valid time is left: its invalid_times cover everything")
    return tuple(left)
