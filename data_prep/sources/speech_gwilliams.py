"""MEG-MASC (Gwilliams et al. 2023): 27 people hear four stories twice, KIT MEG in BIDS.

Each row of events.tsv carries a Python dictionary as text in `trial_type`. It is parsed as a literal, never run.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.readers.tables import number_or_nan, stream_rows
from data_prep.sources.base import Item
from data_prep.sources.bids import data_files, folder_fingerprint, load_bids
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording

FILE = re.compile(r"sub-(\w+?)_ses-(\w+?)_task-(\w+?)_meg\.(?:con|sqd|fif)")
KINDS = ("sound", "word", "phoneme")
NUMBERS = {"nan": math.nan, "inf": math.inf}


def items(root: Path, subjects: tuple[str, ...] | None) -> list[Item]:
    """Return one item per subject, session and story."""
    found = []
    for path in sorted(root.glob("sub-*/ses-*/meg/*_meg.*")):
        match = FILE.fullmatch(path.name)
        if match is None:
            continue
        subject, session, task = match.groups()
        found.append(
            Item(
                key=f"{subject}_ses-{session}_task-{task}",
                fingerprint=folder_fingerprint(path),
                open=partial(load, root, path.relative_to(root).as_posix()),
                subject=subject,
                session=session,
                source_file=path.relative_to(root).as_posix(),
                n_bytes=sum(p.stat().st_size for p in data_files(path)),
            )
        )
    return found


def load(root: Path, name: str) -> Recording:
    """Open one run with its words, phonemes and sounds.

    Raises
    ------
    DataError
        When events.tsv is missing, is not what it should be, or goes on after the recording.
    """
    path = root / name
    events = path.with_name(path.name.rpartition("_meg.")[0] + "_events.tsv")
    if not events.exists():
        raise DataError(f"{events.name}: is missing; only it says what was heard")
    recording = replace(load_bids(root, name, "gwilliams2022", sidecars="optional"), events=read_events(events))
    end_s, last_s = recording.valid[-1][1], max((e.onset_s for e in recording.events), default=0.0)
    if last_s > end_s:
        raise DataError(
            f"{events.name}: an event at {last_s:.3f} s lies behind the end of the recording ({end_s:.3f} s)"
        )
    return recording


def read_events(path: Path) -> tuple[Event, ...]:
    """Read events.tsv; what was written but not pronounced is left out.

    `trial` counts the events of a kind, `block` is the sentence's `sequence_id` where there is one. A word without a
    sound of its own belongs to the sound before it, and a sound lasts at least until the last word or phoneme in it.

    Raises
    ------
    DataError
        When a column is missing or a row holds no dictionary.
    """
    events: list[Event] = []
    counts = dict.fromkeys(KINDS, 0)
    heard = ""
    table = stream_rows(path, "onset", "duration", "trial_type")
    rows = sorted(((number_or_nan(r["onset"]), i, r) for i, r in enumerate(table)), key=lambda r: r[:2])
    for onset, i, row in rows:
        facts = literal(row["trial_type"] or "")
        if facts is None or not math.isfinite(onset):
            raise DataError(f"{path.name}: row {i + 1} has no onset or no dictionary in 'trial_type'")
        kind = str(facts.get("kind"))
        if kind not in KINDS:
            continue
        own = facts.get("sound")
        sound = audio_name(own) if isinstance(own, str) and own else heard
        if kind == "sound":
            heard = sound
        elif facts.get("pronounced", 1.0) == 0:
            continue
        duration, sequence = number_or_nan(row["duration"]), facts.get("sequence_id")
        events.append(
            Event(
                onset_s=onset,
                duration_s=duration if math.isfinite(duration) else 0.0,
                kind=kind,
                label=sound if kind == "sound" else str(facts.get(kind, "")),
                value=number_or_nan(str(facts.get("start", ""))),
                stimulus_id=sound,
                trial=counts[kind],
                block=int(sequence) if isinstance(sequence, int | float) and math.isfinite(sequence) else -1,
            )
        )
        counts[kind] += 1
    return tuple(_lasting(events))


def _lasting(events: list[Event]) -> list[Event]:
    """Let every sound last to the end of what was said in it, and no longer than to the next sound."""
    starts = [i for i, e in enumerate(events) if e.kind == "sound"]
    out = list(events)
    for i, following in pairwise([*starts, len(events)]):
        last = max(e.onset_s + e.duration_s for e in events[i:following])
        if following < len(events):
            last = min(last, events[following].onset_s)
        out[i] = replace(events[i], duration_s=last - events[i].onset_s)
    return out


def stimuli(root: Path) -> list[dict[str, Any]]:
    """Rows of the sounds in ``stimuli/audio``, which stay where they are: their folder is `files=` of `neurofm embed`."""
    return [
        {
            "stimulus_id": audio_name(path.name),
            "concept": "",
            "kind": "audio",
            "file": path.name,
            "sha256": sha256_file(path),
        }
        for path in sorted((root / "stimuli/audio").glob("*.wav"))
    ]


def literal(text: str) -> dict[str, Any] | None:
    """Return the dictionary that a text of Python spells, where ``nan`` and ``inf`` are numbers; None = none.

    Nothing is run: a text with any other name, call or operation is none.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = ast.literal_eval(_Numbers().visit(tree))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _Numbers(ast.NodeTransformer):
    """Replaces the names of numbers by the numbers."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Constant(NUMBERS[node.id]), node) if node.id in NUMBERS else node


def audio_name(path: str) -> str:
    """Return the audio file's name from an event's path: lower case, without the number that only events have.

    ``stimuli/audio/The_Black_Willow_0.0.wav`` is the file ``the_black_willow_0.wav``.
    """
    name = PurePosixPath(path.replace("\\", "/")).name.lower()
    return re.sub(r"\.\d+(\.\w+)$", r"\1", name)
