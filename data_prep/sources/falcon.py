"""FALCON, few-shot algorithms for consistent neural decoding: five implants over many days."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.privacy import undated
from data_prep.sources.base import Item, Source, file_fingerprint
from data_prep.sources.falcon_tasks import READERS, TASKS
from data_prep.sources.nwb import opened
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Iterable

# as DANDI spells it (sub-MonkeyL-held-in-calib) and as local copies do (held_in_calib)
PART = re.compile(r"held[-_](in|out)[-_](calib|minival|eval|oracle)")
SUBJECT = re.compile(r"(?:^|[/_])sub-(.+?)(?=[-_]held[-_]|_|/|$)")
SESSION = re.compile(r"_ses-([^_./]+)|(day\d+(?:-[^_./]+)?)")


class Falcon(Source):
    """One recording per file: spikes as events (H2: counts in 20 ms), the decoded quantity beside them.

    Valid intervals are unbroken runs of the 20 ms bins that the benchmark scores; they begin with a bin, so bins of
    20 ms read from a recording are the benchmark's own. Time stamps that mark ends of bins (H1, M1) are moved to their
    beginnings. Parts are ``held_in_calib``, ``held_out_calib``, ``held_in_minival``. Sessions are days since the
    implant's first file: dates are dropped.

    Parameters
    ----------
    root : path
        Folder with the sets as DANDI names them, or any folder that holds them.
    tasks : list of str, optional
        Of h1, h2, m1, m2, b1; default all.
    """

    name = "falcon"
    id = "falcon"
    licence = "as stated at DANDI 000941, 000950, 000953, 000954 and 001046 (the archive admits CC0 1.0 and CC BY 4.0)"
    citation = "Karpowicz et al. 2024, Few-shot Algorithms for Consistent Neural Decoding (FALCON) Benchmark, NeurIPS"
    modalities = ("spikes",)

    def __init__(self, *, root: str | Path, tasks: list[str] | None = None) -> None:
        for t in tasks or ():
            if t not in READERS:
                raise ConfigError(f"source 'falcon' has no task '{t}': {nearest(str(t), READERS)}")
        self.root, self.tasks = Path(root).expanduser(), None if tasks is None else list(tasks)

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {"name": self.name, "version": self.version, "tasks": self.tasks}

    def list(self) -> list[Item]:
        """Return one item per file; none is opened."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root")
        paths = sorted(self.root.glob("**/*.nwb"))
        names = [p.relative_to(self.root).as_posix() for p in paths]
        items = []
        for path, name, shown in zip(paths, names, undated(names, [subject_of(n) for n in names]), strict=True):
            who = who_is(shown)
            if self.tasks is not None and who["task"] not in self.tasks:
                continue
            items.append(
                Item(
                    key=shown,
                    fingerprint=file_fingerprint(path, who=who),
                    open=partial(load_session, self.root, name, shown, who),
                    subject=who["subject"],
                    session=who["session"],
                    source_file=shown,
                    n_bytes=path.stat().st_size,
                )
            )
        return items


def subject_of(name: str) -> str:
    """Return the subject's label without the part that DANDI's folders add to it."""
    found = SUBJECT.findall(name)
    return found[-1] if found else ""


def who_is(name: str) -> dict[str, str]:
    """Return subject, session, task and part of a file, by its path without dates."""
    part = PART.search(name)
    session = SESSION.search(Path(name).stem)
    subject = subject_of(name)
    return {
        "subject": subject or _first(t["subject"] for n, t in TASKS.items() if n in Path(name).parts),
        "session": (session.group(1) or session.group(2)) if session else "",
        "task": _first(t["task"] for n, t in TASKS.items() if n in Path(name).parts)
        or _first(t["task"] for t in TASKS.values() if subject and subject.startswith(t["subject"])),
        "part": f"held_{part.group(1)}_{part.group(2)}" if part else "",
    }


def _first(values: Iterable[str]) -> str:
    return next(iter(values), "")


def load_session(root: Path, name: str, shown: str, who: dict[str, str]) -> Recording:
    """Read one file.

    Raises
    ------
    DataError
        When it is of no known task, or lacks what its task has.
    """
    if not who["task"]:
        raise DataError(f"'{shown}' is of no known task; expected a folder such as 000941, or sub-MonkeyL in its name")
    with opened(root / name) as nwb:
        first, beside, starts_s, events = READERS[who["task"]](nwb)
    return Recording(
        dataset="falcon",
        subject=who["subject"],
        session=who["session"],
        task=who["task"],
        # calibration and minival files of one day are two recordings
        run=who["part"].rpartition("_")[2],
        modality="spikes",
        streams=(first, *beside),
        interval_start_s=tuple(float(s) for s in np.asarray(starts_s)),
        events=events,
        part=who["part"],
        source_file=shown,
        source_sha256=sha256_file(root / name),
    )
