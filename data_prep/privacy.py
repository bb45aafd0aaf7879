"""What may be kept of texts that come with recordings: codes and conditions, not notes about people, and no dates.

The interval between two days matters to science, the date to nobody else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any

import numpy as np

# What a stimulus code looks like: one token, perhaps a number after it. Longer text may be a note about a person.
CODE = re.compile(r"[\w./:+\-]{1,40}( {0,3}\d{1,5})?")
# A condition has few words.
CONDITION = re.compile(r"[\w./:+()\-]{1,40}( [\w./:+()\-]{1,20}){0,2}")
# 20120924, 2012-09-24, 2012_09_24, each with or without a time of day (T111740, T11-17-40)
DATE = re.compile(
    r"(?<!\d)((?:18|19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?:[T_ ]((?:[01]\d|2[0-3])[-:]?[0-5]\d(?:[-:]?[0-5]\d)?))?(?!\d)"
)
# Dates and times of day in the forms that people and recorders write into notes.
WRITTEN_DATE = re.compile(
    r"(?<!\d)((19|20)\d{2}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](19|20)?\d{2}"
    r"|(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(\d{4}|\d{6}|\d{12})?|\d{1,2}:\d{2}(:\d{2})?"
    r"|\d{1,2}[-./ ]?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-./ ]?(\d{4}|\d{2}))(?!\d)",
    re.IGNORECASE,
)


def is_code(text: str) -> bool:
    """Whether an annotation is a stimulus code rather than a date or something written by or about a person.

    BrainVision marks notes as comments.
    """
    is_note = text.lower().startswith("comment") or WRITTEN_DATE.search(text) is not None
    return CODE.fullmatch(text) is not None and not is_note


def is_condition(text: str) -> bool:
    """Whether a text of few words could name a condition ("eyes closed"); of a note that holds once only, nobody knows."""
    is_note = text.lower().startswith("comment") or WRITTEN_DATE.search(text) is not None
    return CONDITION.fullmatch(text) is not None and not is_note


def words_of(text: str) -> set[str]:
    """Return the words of three letters and more, in lower case."""
    return set(re.findall(r"[^\W\d_]{3,}", text.lower()))


def code_of(value: Any) -> str:
    """Return a cell as a short label: numbers without superfluous digits, text that looks like a code and is no date, else ""."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, float, np.integer, np.floating)):
        return "" if not np.isfinite(value) else f"{value:.12g}"
    text = str(value).strip() if isinstance(value, str) else ""
    return text if CODE.fullmatch(text) and not WRITTEN_DATE.search(text) else ""


def without_date(text: str) -> str:
    """Return a label with dates cut out, "" when nothing else is in it; for labels that stand inside a file."""
    return DATE.sub("", text).strip(" _-.") if text else ""


def starred(name: str) -> str:
    """Return a path with a ``*`` for every date in it: ``10_20131130.mat`` → ``10_*.mat``."""
    return DATE.sub("*", name)


def undated(names: Sequence[str], owners: Sequence[str]) -> list[str]:
    """Replace every date in `names` by ``day<number>``, counted from the owner's first date.

    Where a time of day stands with it, the recordings of one day are numbered: ``day000-1``, ``day000-2``.

    Parameters
    ----------
    names, owners : sequence of str
        File names, and whose each is: days are counted for each owner apart.
    """
    found: dict[str, dict[str, tuple[date, str]]] = defaultdict(dict)
    for name, owner in zip(names, owners, strict=True):
        for m in DATE.finditer(name):
            day = _date(m)
            if day is not None:
                found[owner][m.group()] = (day, re.sub(r"\D", "", m.group(5) or ""))
    labels: dict[str, dict[str, str]] = {}
    for owner, tokens in found.items():
        first = min(d for d, _ in tokens.values())
        labels[owner] = {}
        for token, (day, clock) in tokens.items():
            label = f"day{(day - first).days:03d}"
            if clock:
                that_day = sorted({c for d, c in tokens.values() if d == day and c})
                label += f"-{that_day.index(clock) + 1}"
            labels[owner][token] = label
    return [DATE.sub(partial(_label, labels.get(owner, {})), name) for name, owner in zip(names, owners, strict=True)]


def _label(known: dict[str, str], m: re.Match[str]) -> str:
    return known.get(m.group(), m.group())


def _date(m: re.Match[str]) -> date | None:
    try:
        return date(int(m.group(1)), int(m.group(3)), int(m.group(4)))
    except ValueError:
        return None
