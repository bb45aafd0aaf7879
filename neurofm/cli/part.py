"""What one part of a benchmark adds to the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from neurofm.report.content import Claim, Section, Table
from neurofm.schema.errors import DataError

T = TypeVar("T")


@dataclass
class Part:
    """What one part adds to the report."""

    claims: list[Claim] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def __iadd__(self, other: Part) -> Part:
        """Take up what another part adds."""
        self.claims += other.claims
        self.sections += other.sections
        self.rows += other.rows
        self.looks |= other.looks
        self.facts |= other.facts
        return self


def last_of(lines: Iterable[tuple[str, T]], *, whose: str = "") -> T:
    """Print what a scorer says as it goes; return what it holds at the end."""
    found = []
    for line, scored in lines:
        print(f"{whose}  {line}" if whose else line, flush=True)
        found = [scored]
    if not found:
        raise DataError("the benchmark found nothing to score")
    return found[0]


def published_section(title: str, published: Sequence[Mapping[str, Any]]) -> Section:
    """Figures of others with their source, for comparison where the protocol is the same."""
    keys = ("model", "metric", "value", "protocol", "source")
    table = Table(
        caption="As published; comparable only where split, window and classes are the same",
        columns=keys, rows=[[str(p.get(k, "")) for k in keys] for p in published],
    )  # fmt: skip
    return Section(title=f"{title}: published figures", tables=[table])
