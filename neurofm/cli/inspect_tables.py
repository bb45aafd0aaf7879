"""What `neurofm inspect DATASET` prints: one small table per question."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from neurofm.schema.words import some

Row = Mapping[str, Any]
# More rows than this are summed up in a last line; `--all` shows them.
SHOWN = 40


# Columns of free text may break their lines; of all others no letter is lost on a narrow terminal.
TEXTS = ("channels", "events", "positions", "quality", "reason", "which")


def plain_table(title: str, *columns: str) -> Table:
    """Make an empty table in the house's look."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=name not in TEXTS, overflow="fold")
    return table


def show(console: Console, table: Table) -> None:
    """Print a table whole: where it cannot be made as narrow as the terminal, its lines are longer."""
    for column in table.columns:
        if column.no_wrap:  # rich measures the longest word of these, too
            column.min_width = max(cell_len(str(text)) for text in (column.header, *column.cells))
    needed = Measurement.get(console, console.options.update(width=10_000), table).minimum
    Console(width=max(console.width, needed)).print("", table)


def fill(table: Table, rows: Sequence[Sequence[str]], *, everything: bool) -> Table:
    """Add rows, the first `SHOWN` of them unless `everything`."""
    shown = rows if everything else rows[:SHOWN]
    for r in shown:
        table.add_row(*r)
    if len(rows) > len(shown):
        table.add_row(f"… and {len(rows) - len(shown)} more (--all)")
    return table


def sessions_table(recordings: Iterable[Row], *, everything: bool) -> Table:
    """Subjects × sessions: recordings and hours."""
    cells: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in recordings:
        cells[r["subject"]][r["session"]].append(r["duration_s"] / 3600)
    sessions = sorted({s for of_subject in cells.values() for s in of_subject})
    wide = len(sessions) > 8
    columns = ["sessions"] if wide else [f"session {s}" if s else "no session" for s in sessions]
    rows = []
    for subject, of_subject in sorted(cells.items()):
        every = [h for hours in of_subject.values() for h in hours]
        middle = [str(len(of_subject))] if wide else [_cell(of_subject.get(s, [])) for s in sessions]
        rows.append((subject, *middle, _cell(every)))
    return fill(plain_table("subjects × sessions", "subject", *columns, "all"), rows, everything=everything)


def recordings_table(
    recordings: Iterable[Row],
    streams: Iterable[Row],
    channels: Iterable[Row],
    events: Iterable[Row],
    *,
    everything: bool,
) -> Table:
    """One line per recording."""
    rate = {s["recording_id"]: _rate(s) for s in streams if s["role"] == "signal"}
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for c in channels:
        kinds[c["recording_id"]]["bad" if c["bad"] else c["kind"]] += 1
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for e in events:
        labels[e["recording_id"]][e["label"]] += 1
    columns = ("subject", "session", "task", "run", "part", "minutes", "intervals", "rate Hz", "channels", "events")
    rows = [
        (
            r["subject"], r["session"], r["task"], r["run"], r["part"], f"{r['duration_s'] / 60:.1f}",
            str(len(r["valid"])), rate.get(r["recording_id"], ""), counts(kinds[r["recording_id"]]),
            counts(labels[r["recording_id"]]),
        )
        for r in recordings
    ]  # fmt: skip
    used = [i for i, name in enumerate(columns) if name in ("subject", "minutes") or any(r[i] for r in rows)]
    table = plain_table("recordings", *(columns[i] for i in used))
    return fill(table, [[r[i] for i in used] for r in rows], everything=everything)


def kinds_table(channels: Iterable[Row]) -> Table:
    """Channel kinds: how many, how many bad, in how many recordings, where."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for c in channels:
        groups[c["kind"], c["unit"]].append(c)
    rows = []
    for (kind, unit), of_kind in sorted(groups.items()):
        placed = [c for c in of_kind if np.isfinite([c["x"], c["y"], c["z"]]).all()]
        frames = Counter(str(c["frame"] or "unknown") for c in placed)
        rows.append((
            kind, unit, str(len(of_kind)), str(sum(bool(c["bad"]) for c in of_kind)),
            str(len({c["recording_id"] for c in of_kind})), str(len({c["canonical"] or c["name"] for c in of_kind})),
            counts(frames) or "none",
        ))  # fmt: skip
    columns = ("kind", "unit", "channels", "bad", "recordings", "names", "positions")
    return fill(plain_table("channel kinds", *columns), rows, everything=True)


def regions_table(channels: Iterable[Row], *, everything: bool) -> Table:
    """Channels by kind and region, with their depths and quality; those of which none is known are left out."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for c in channels:
        if c["region"] or c["quality"] or np.isfinite(c["depth_um"]):
            groups[c["kind"], c["region"]].append(c)
    rows = []
    for (kind, region), there in sorted(groups.items()):
        depths = [c["depth_um"] for c in there if np.isfinite(c["depth_um"])]
        span = f"{min(depths):.6g} to {max(depths):.6g}" if depths else ""
        quality = counts(Counter(c["quality"] for c in there if c["quality"]))
        rows.append((kind, region, str(len(there)), str(sum(bool(c["bad"]) for c in there)), span, quality))
    columns = ("kind", "region", "channels", "bad", "depth µm", "quality")
    used = [i for i, name in enumerate(columns) if name in ("kind", "channels") or any(r[i] for r in rows)]
    table = plain_table("regions", *(columns[i] for i in used))
    return fill(table, [[r[i] for i in used] for r in rows], everything=everything)


def rates_table(streams: Iterable[Row]) -> Table:
    """Sampling rates of each stream."""
    count = Counter((s["name"], s["role"], _rate(s)) for s in streams)
    rows = [(name, role, rate, str(n)) for (name, role, rate), n in sorted(count.items())]
    return fill(plain_table("sampling rates", "stream", "role", "Hz", "recordings"), rows, everything=False)


def labels_table(events: Sequence[Row], *, everything: bool) -> Table:
    """Label counts, the most frequent first."""
    count = Counter((e["kind"], e["label"]) for e in events)
    where: dict[tuple[str, str], set[str]] = defaultdict(set)
    stimuli: dict[tuple[str, str], set[str]] = defaultdict(set)
    for e in events:
        where[e["kind"], e["label"]].add(e["recording_id"])
        if e["stimulus_id"]:
            stimuli[e["kind"], e["label"]].add(e["stimulus_id"])
    order = sorted(count, key=lambda k: (-count[k], k))
    rows = [(kind, label, str(count[kind, label]), str(len(where[kind, label])), str(len(stimuli[kind, label])))
            for kind, label in order]  # fmt: skip
    return fill(plain_table("labels", "kind", "label", "events", "recordings", "stimuli"), rows, everything=everything)


def rejected_table(rejected: Iterable[Row]) -> Table:
    """Why recordings were left out, the most frequent reason first, each with its recordings."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for r in rejected:
        reasons[r["reason"]].append(r["recording_id"] or r["source_file"])
    order = sorted(reasons, key=lambda k: (-len(reasons[k]), k))
    rows = [(str(len(reasons[k])), k, some(reasons[k])) for k in order]
    return fill(plain_table("rejected", "recordings", "reason", "which"), rows, everything=True)


def quality_table(recordings: Iterable[Row]) -> Table:
    """Quality figures: how they are distributed over recordings."""
    values: dict[str, list[float]] = defaultdict(list)
    for r in recordings:
        for name, value in json.loads(r["quality"] or "{}").items():
            values[name].append(float(value))
    rows = [
        (name, str(len(v)), *(f"{q:.4g}" for q in np.quantile(v, [0, 0.25, 0.5, 0.75, 1])))
        for name, v in sorted(values.items())
    ]
    columns = ("figure", "recordings", "least", "25 %", "median", "75 %", "most")
    return fill(plain_table("quality", *columns), rows, everything=True)


def counts(counter: Counter[str]) -> str:
    """Say the five most frequent with their numbers."""
    return ", ".join(f"{n} {k}" for k, n in counter.most_common(5)) + (" …" if len(counter) > 5 else "")


def _rate(stream: Row) -> str:
    return f"{stream['rate_hz']:.6g}" if stream["regular"] else "events"


def _cell(hours: Sequence[float]) -> str:
    return f"{len(hours)}, {sum(hours):.2f} h" if hours else "–"
