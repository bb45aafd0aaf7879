"""What a report is made of: claims, sections, figures, tables, scores. Plain data; nothing here draws or writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from neurofm.benchmarks.guards.audit import Finding


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One thing the benchmark set out to show.

    Attributes
    ----------
    text : str
        The claim as a sentence, as it was stated before scoring.
    held : bool or None
        None when it was not tested.
    detail : str
        The figures it rests on, with interval and p.
    """

    text: str
    held: bool | None
    detail: str = ""

    @property
    def verdict(self) -> str:
        """HELD, FAILED or NOT TESTED."""
        return {True: "HELD", False: "FAILED", None: "NOT TESTED"}[self.held]


def folded(claims: Iterable[Claim]) -> list[Claim]:
    """Claims that could not be tested for one and the same reason as one: "ahead of A, B and C". All others as they are."""
    out: list[Claim] = []
    untested: dict[str, list[Claim]] = {}
    for claim in claims:
        if claim.held is None and claim.detail in untested:
            untested[claim.detail].append(claim)
            continue
        if claim.held is None:
            untested[claim.detail] = [claim]
        out.append(claim)
    return [
        replace(c, text=_joined([x.text for x in untested[c.detail]])) if c.held is None and c.detail else c
        for c in out
    ]


def _joined(texts: Sequence[str]) -> str:
    """Sentences that differ in one place as one sentence, others one after the other."""
    words = [text.split() for text in dict.fromkeys(texts)]
    shortest = min(map(len, words))
    same = [len({tuple(w[:n]) for w in words}) == 1 for n in range(shortest + 1)]
    head = same.index(False) - 1 if False in same else shortest
    rest = [w[head:] for w in words]
    same = [len({tuple(w[len(w) - n :]) for w in rest}) == 1 for n in range(min(map(len, rest)) + 1)]
    tail = same.index(False) - 1 if False in same else len(same) - 1
    middle = [" ".join(w[: len(w) - tail]) for w in rest]
    if len(words) == 1 or not head or not tail or not all(middle):
        return " ".join(" ".join(w) for w in words)
    return " ".join([*words[0][:head], f"{', '.join(middle[:-1])} and {middle[-1]}", *rest[0][len(rest[0]) - tail :]])


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished figure.

    Attributes
    ----------
    name : str
        Short, unique in the report, ``[a-z0-9-]+``; the key of its rows in report_figures.parquet.
    svg : str
        Inline SVG whose colours are the page's variables, so one drawing serves light and dark.
    png : bytes
        The same in the light palette, for slides and for a look without a browser.
    alt : str
        What it shows, in words, for those who do not see it.
    rows : list of dict
        Every number that is drawn: columns of the table "report_figures".
    """

    name: str
    svg: str
    png: bytes = field(repr=False)
    alt: str
    rows: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: column titles and rows of cells (numbers are set to three decimals, NaN as a dash)."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, a paragraph, and what stands below it in this order: drawings with captions, tables, notes."""

    title: str
    lead: str = ""
    drawings: Sequence[tuple[Drawing, str]] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


def notes_of(findings: Iterable[Finding]) -> list[str]:
    """Leaks and warnings of an audit as notes below a section, or the sentence that there are none."""
    findings = list(findings)
    bad = [f"Leakage audit, {f.severity}: {f.message}" for f in findings if f.severity != "ok"]
    return bad or (
        [f"Leakage audit: {len(findings)} kinds of overlap were looked for, none was found."] if findings else []
    )


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole report.

    Attributes
    ----------
    title, subtitle : str
        What was tested on what, and when.
    claims : sequence of Claim
        Failed ones are shown first, whatever their order here.
    sections : sequence of Section
    scores : sequence of mapping
        Rows of `benchmarks.results` that this report is about; written beside it as report_scores.parquet.
    looks : mapping of str to int
        Test part in words → how many runs have looked at it so far.
    facts : mapping of str to str
        Provenance shown at the foot: hashes, versions, seeds, licence.
    leak_reason : str
        Why a leak was allowed; shown above everything else.
    """

    title: str
    subtitle: str = ""
    claims: Sequence[Claim] = ()
    sections: Sequence[Section] = ()
    scores: Sequence[Mapping[str, Any]] = ()
    looks: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    leak_reason: str = ""


def with_interval(i: Any) -> str:
    """Return "0.755 [0.679, 0.831]"; the value alone where there is no interval, a dash where there is no value."""
    if not np.isfinite(i.value):
        return "–"
    return f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]" if np.isfinite(i.low) else f"{i.value:.3f}"
