"""Spans of recordings, named parts of a split, and what two parts share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, read_json, write_json


class Span(NamedTuple):
    """A stretch of one recording, [start_s, stop_s), and the stimulus shown in it ("" for none)."""

    recording_id: str
    start_s: float
    stop_s: float
    stimulus_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Named parts of one or more datasets.

    Attributes
    ----------
    parts : dict of str to list of Span
        In time order within each recording.
    gap_s : float
        Time left out between parts of one recording.
    rule : str
        How it was made, in words.
    seed : int or None
        Of what was drawn; None where nothing was.
    """

    parts: dict[str, list[Span]]
    gap_s: float = 0.0
    rule: str = ""
    seed: int | None = None

    def __getitem__(self, part: str) -> list[Span]:
        if part not in self.parts:
            raise ConfigError(f"the split has no part '{part}': {nearest(part, self.parts)}")
        return self.parts[part]

    def to_json(self) -> dict[str, Any]:
        """Plain dict; `hash` is of all the rest."""
        body = {
            "parts": {name: [list(s) for s in spans] for name, spans in self.parts.items()},
            "gap_s": self.gap_s,
            "rule": self.rule,
            "seed": self.seed,
        }
        return {**body, "hash": hash_of(body)}

    @property
    def hash(self) -> str:
        """Sixteen hex digits that change with any span, the gap, the rule or the seed."""
        return self.to_json()["hash"]

    def write(self, path: str | Path) -> None:
        """Write the split as JSON, atomically."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: str | Path) -> Split:
        """Read a split.

        Raises
        ------
        DataError
            When the file is no split, or was changed after it was written.
        """
        raw = read_json(path)
        try:
            parts = {name: [Span(*s) for s in spans] for name, spans in raw["parts"].items()}
            split = cls(parts=parts, gap_s=raw["gap_s"], rule=raw["rule"], seed=raw["seed"])
            stated = raw["hash"]
        except (TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path}: is not a split (field {error}); make it again") from error
        if split.hash != stated:
            raise DataError(f"{path}: field 'hash' is {stated}, its content gives {split.hash}; it was edited by hand")
        return split


@dataclass(frozen=True)
class Overlap:
    """What two parts share: pairs of spans that meet in time, subjects, stimuli."""

    spans: list[tuple[Span, Span]]
    subjects: set[str]
    stimuli: set[str]


def overlap(
    a: Iterable[Span], b: Iterable[Span], *, gap_s: float = 0.0, subject_of: Mapping[str, str] | None = None
) -> Overlap:
    """Intersect two parts.

    Parameters
    ----------
    a, b : iterable of Span
        The parts.
    gap_s : float
        Spans of one recording that are nearer than this count as meeting.
    subject_of : mapping of recording_id to subject, optional
        Needed for `subjects`.

    Returns
    -------
    Overlap
        Spans that only touch do not meet when the gap is 0.
    """
    a, b = sorted(a), sorted(b)
    mine: dict[str, list[Span]] = defaultdict(list)
    for s in a:
        mine[s.recording_id].append(s)
    met = []
    for theirs in b:
        for s in mine.get(theirs.recording_id, ()):
            # a nanosecond of tolerance: borders on the same sample may differ in the last bit
            if s.start_s >= theirs.stop_s + gap_s - 1e-9:
                break
            if theirs.start_s < s.stop_s + gap_s - 1e-9:
                met.append((s, theirs))
    people = subject_of or {}
    return Overlap(
        spans=met,
        subjects={people[s.recording_id] for s in a if s.recording_id in people}
        & {people[s.recording_id] for s in b if s.recording_id in people},
        stimuli=({s.stimulus_id for s in a} & {s.stimulus_id for s in b}) - {""},
    )


def require_inside(spans: Iterable[Span], allowed: Iterable[Span], what: str) -> None:
    """Raise a DataError that names the first of `spans` not covered by the union of `allowed`."""
    cover: dict[str, list[list[float]]] = defaultdict(list)
    for s in sorted(allowed):
        last = cover[s.recording_id]
        if last and s.start_s <= last[-1][1] + 1e-9:
            last[-1][1] = max(last[-1][1], s.stop_s)
        else:
            last.append([s.start_s, s.stop_s])
    for s in spans:
        if not any(a - 1e-9 <= s.start_s and s.stop_s <= b + 1e-9 for a, b in cover.get(s.recording_id, ())):
            raise DataError(
                f"{what}: the span {s.start_s:g} to {s.stop_s:g} s of '{s.recording_id}' is outside the part it may be "
                "fitted on; use training or calibration spans only"
            )
