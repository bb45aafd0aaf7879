"""Neural Latents Benchmark '21: spikes of monkeys in seven sets, with the benchmark's own parts."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.privacy import code_of
from data_prep.readers.nwb_behaviour import covariates_of, trial_events
from data_prep.readers.nwb_channels import unit_channels
from data_prep.readers.nwb_units import (
    Spans,
    common_spans,
    observed_each,
    partly_observed,
    spike_stream,
    spike_table,
)
from data_prep.sources.base import Item, Source, file_fingerprint
from data_prep.sources.nwb import opened
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Channel, Recording
from neurofm.schema.units import HELD_OUT

if TYPE_CHECKING:
    from pynwb import NWBFile

# number at DANDI → set
SETS = {
    "000128": "mc_maze", "000129": "mc_rtt", "000127": "area2_bump", "000130": "dmfc_rsg",
    "000138": "mc_maze_large", "000139": "mc_maze_medium", "000140": "mc_maze_small",
}  # fmt: skip
SUBJECTS = {"Jenkins": "mc_maze", "Indy": "mc_rtt", "Han": "area2_bump", "Haydn": "dmfc_rsg"}
# columns that together say a trial's condition
CONDITION = {
    "mc_maze": ("trial_type", "trial_version"), "mc_maze_large": ("trial_type", "trial_version"),
    "mc_maze_medium": ("trial_type", "trial_version"), "mc_maze_small": ("trial_type", "trial_version"),
    "area2_bump": ("cond_dir", "ctr_hold_bump"), "dmfc_rsg": ("is_eye", "theta", "is_short", "ts"), "mc_rtt": (),
}  # fmt: skip
FILE = re.compile(r"sub-([^_/]+)(?:_ses-([^_/]+))?(?:_desc-([^_/]+))?_")


class Nlb(Source):
    """One recording per file and part: trials of split "train" and "val" of a training file, those of a test file.

    Each trial is one valid interval, cut at the start of the next one. Units that the benchmark holds out are marked
    so (good, with the reason); they are absent from test files. Their names count within held-in and held-out units,
    so that a unit has one name in the training and the test file.

    Parameters
    ----------
    root : path
        Folder with the sets as DANDI names them (``000128/sub-Jenkins/…``).
    sets : list of str, optional
        Such as mc_maze_small; default all.
    """

    name = "nlb"
    id = "nlb"
    licence = "as stated at DANDI 000127 to 000130 and 000138 to 000140 (the archive admits CC0 1.0 and CC BY 4.0)"
    citation = (
        "Pei et al. 2021, Neural Latents Benchmark '21, NeurIPS Datasets and Benchmarks; cite each set's authors too"
    )
    modalities = ("spikes",)

    def __init__(self, *, root: str | Path, sets: list[str] | None = None) -> None:
        for s in sets or ():
            if s not in SETS.values():
                raise ConfigError(f"source 'nlb' has no set '{s}': {nearest(str(s), SETS.values())}")
        self.root, self.sets = Path(root).expanduser(), None if sets is None else list(sets)

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {"name": self.name, "version": self.version, "sets": self.sets}

    def list(self) -> list[Item]:
        """Return one item per file and part; of training files the trials' parts are read and nothing else."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root")
        items = []
        for path in sorted(self.root.glob("**/*.nwb")):
            name = path.relative_to(self.root).as_posix()
            found = FILE.match(path.name)
            subject, session, which = found.groups() if found else (path.stem, None, None)
            task = set_of(name, subject, session or "")
            if self.sets is not None and task not in self.sets:
                continue
            parts = ["test"] if which == "test" else parts_of(path)
            items += [
                Item(
                    key=f"{name}#{part}",
                    fingerprint=file_fingerprint(path, part=part),
                    open=partial(load_part, self.root, name, part, subject, session or "", task),
                    subject=subject,
                    session=session or "",
                    source_file=name,
                    n_bytes=path.stat().st_size,
                )
                for part in parts
            ]
        return items


def parts_of(path: Path) -> list[str]:
    """Return which of "train" and "val" the trials of a training file are of: some sets have no validation trials."""
    import h5py

    try:
        with h5py.File(path, "r") as f:
            splits = {code_of(s) for s in f["intervals/trials/split"][:]}
    except (OSError, KeyError):
        # reading it will say what is wrong
        splits = set()
    return [p for p in ("train", "val") if p in splits] or ["train"]


def set_of(name: str, subject: str, session: str) -> str:
    """Name of the set a file is of, by DANDI's number in its path, else by subject and session; "" if unknown."""
    number = next((n for n in SETS if n in Path(name).parts), None)
    if number is not None:
        return SETS[number]
    base = SUBJECTS.get(subject, "")
    return f"{base}_{session}" if session in ("large", "medium", "small") and base == "mc_maze" else base


def load_part(root: Path, name: str, part: str, subject: str, session: str, task: str) -> Recording:
    """Read the trials of one part.

    Raises
    ------
    DataError
        When the file is of no known set, or has no trial of that part.
    """
    if not task:
        raise DataError(f"'{name}' is of no known set; expected a folder such as 000128 in its path")
    with opened(root / name) as nwb:
        table = spike_table(nwb.units)
        rows, spans = trials_of(nwb, part)
        each = observed_each(nwb.units)
        if each is not None:
            rows, spans = within(rows, spans, common_spans(each))
        if not spans:
            raise DataError(f"has no trial of part '{part}' in the observed time")
        channels = unit_channels(nwb.units, owner=task, partly=partly_observed(each, spans), quality=None)
        channels = benchmark_names(nwb.units, channels, task)
        known = [c for c in CONDITION[task] if nwb.trials is not None and c in nwb.trials.colnames]
        mine = set(rows)
        events = tuple(e for e in trial_events(nwb, label=known, may_overlap=True) if e.trial in mine)
        beside = covariates_of(nwb, spans, names=None, taken={"spikes"})
    return Recording(
        dataset="nlb",
        subject=subject,
        session=session,
        task=task,
        run=part,
        modality="spikes",
        streams=(spike_stream(table, channels, spans), *beside),
        interval_start_s=tuple(a for a, _ in spans),
        events=events,
        part=part,
        source_file=name,
        source_sha256=sha256_file(root / name),
    )


def trials_of(nwb: NWBFile, part: str) -> tuple[list[int], Spans]:
    """Return the rows of the trials of one part, in time order, and their spans."""
    trials = nwb.trials
    if trials is None or "split" not in trials.colnames:
        raise DataError("has no trials table with a column 'split'; is it a file of the benchmark?")
    starts, stops = (np.asarray(trials[c][:], np.float64) for c in ("start_time", "stop_time"))
    splits = [code_of(v) for v in trials["split"][:]]
    order = np.argsort(starts, kind="stable")
    following = dict(zip(order[:-1].tolist(), starts[order[1:]].tolist(), strict=True))
    rows = [i for i in order.tolist() if splits[i] == part]
    spans = tuple((float(starts[i]), float(min(stops[i], following.get(i, np.inf)))) for i in rows)
    return rows, spans


def within(rows: list[int], spans: Spans, observed: Spans) -> tuple[list[int], Spans]:
    """Cut trials to the observed time, which may begin or end inside one; drop those outside."""
    kept, cut = [], []
    begins = np.array([a for a, _ in observed])
    for row, (a, b) in zip(rows, spans, strict=True):
        first = max(0, int(np.searchsorted(begins, a, side="right")) - 1)
        for c, d in observed[first:]:
            if c >= b:
                break
            if min(b, d) - max(a, c) > 1e-6:
                kept.append(row)
                cut.append((max(a, c), min(b, d)))
    return kept, tuple(cut)


def benchmark_names(units: Any, channels: list[Channel], task: str) -> list[Channel]:
    """Name units by their place among the held-in or the held-out ones of their set."""
    held = [bool(h) for h in units["heldout"][:]] if "heldout" in units.colnames else [False] * len(channels)
    named, count = [], {True: 0, False: 0}
    for c, out in zip(channels, held, strict=True):
        canonical = f"{task}/{'out' if out else 'in'}{count[out]}"
        count[out] += 1
        reason = "; ".join(filter(None, (c.reason, HELD_OUT if out else "")))
        named.append(replace(c, canonical=canonical, reason=reason))
    return named
