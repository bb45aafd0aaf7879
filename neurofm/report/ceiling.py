"""What is known of a simulation holds for everybody: no model may score more than the ceiling, beyond its interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurofm.benchmarks.stats.intervals import t_interval
from neurofm.report.content import Claim, Section, Table

# share of the ceiling from which on it counts as approached
NEAR = 0.9
Key = tuple[str, str, str]


def claims_of(rows: Sequence[Mapping[str, Any]], title: str) -> list[Claim]:
    """Per metric with a ceiling: whether no model passes it, and which comes nearest."""
    claims = []
    found = _found(rows)
    for metric in dict.fromkeys(m for _, _, m in found):
        mine = {k: v for k, v in found.items() if k[2] == metric}
        above = [_name(k) for k, (_, _, low) in mine.items() if low > 0]
        best = max(mine, key=lambda k: mine[k][0] - mine[k][1])
        value, ceiling, _ = mine[best]
        share = f", {value / ceiling:.0%} of it" if ceiling > 0 else ""
        claims.append(
            Claim(
                text=f"{title}: no model passes the known ceiling of {metric} beyond its interval.",
                held=not above,
                detail=(f"Above it: {', '.join(above)}. " if above else "")
                + f"Nearest: {_name(best)} with {value:.3f} where at most {ceiling:.3f} can be expected{share}"
                + ("." if ceiling <= 0 or value >= NEAR * ceiling else f"; it is not approached ({NEAR:.0%})."),
            )
        )
    return claims


def section_of(rows: Sequence[Mapping[str, Any]], title: str) -> list[Section]:
    """The table of all of them; nothing where no ceiling is known."""
    found = _found(rows)
    if not found:
        return []
    lines = [
        [_name(k), k[2], value, ceiling, f"{value / ceiling:.0%}" if ceiling > 0 else "–", "yes" if low > 0 else "no"]
        for k, (value, ceiling, low) in found.items()
    ]
    columns = ["model", "metric", "score", "ceiling", "share", "above it beyond the interval"]
    lead = (
        "The simulation says what can be reached; a model above it would be scored wrongly, or would know the answers."
    )
    caption = "Means over people, budgets and seeds; interval of the difference by Student's t, or of the score where it has one"
    return [
        Section(
            title=f"{title}: known ceilings", lead=lead, tables=[Table(caption=caption, columns=columns, rows=lines)]
        )
    ]


def _found(rows: Sequence[Mapping[str, Any]]) -> dict[Key, tuple[float, float, float]]:
    """(model, strategy, metric) → mean score, mean ceiling, lower end of score − ceiling."""
    groups: dict[Key, dict[str, list[tuple[float, float, float]]]] = defaultdict(lambda: defaultdict(list))
    for r in rows:
        if np.isfinite(r["ceiling"]) and np.isfinite(r["value"]) and r["fold"] in ("", "all"):
            groups[r["model"], r["strategy"], r["metric"]][r["subject"]].append((r["value"], r["ceiling"], r["low"]))
    out = {}
    for key, people in groups.items():
        if len(people) > 1:
            # a row over everybody says nothing more where everybody has a row
            people.pop("", None)
        value, ceiling = (float(np.mean([np.mean([x[i] for x in v]) for v in people.values()])) for i in (0, 1))
        gaps = [float(np.mean([v - c for v, c, _ in found])) for found in people.values()]
        if len(gaps) > 1:
            low = t_interval(gaps).low
        else:
            ends = [low - c for v in people.values() for _, c, low in v if np.isfinite(low)]
            # one score without an interval can be held against nothing
            low = float(np.mean(ends)) if ends else -np.inf
        out[key] = (value, ceiling, low)
    return out


def _name(key: Key) -> str:
    return f"{key[0]}, {key[1]}" if key[1] else key[0]
