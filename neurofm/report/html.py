"""One self-contained HTML page, and the tables that every number in it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from neurofm.report.canvas import PALETTE
from neurofm.report.content import Claim, Drawing, Report, Section, Table
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import atomic_write
from neurofm.schema.tables import write_table

_ORDER = {False: 0, True: 1, None: 2}
_CLASS = {False: "failed", True: "held", None: "untested"}


def write_report(folder: str | Path, report: Report) -> Path:
    """Write ``report.html``, ``report_scores.parquet``, ``report_figures.parquet`` and ``figures/<name>.png``.

    The tables are written first, so a page that exists always has its numbers beside it.

    Returns
    -------
    Path
        Of the page; it needs no other file to be shown.

    Raises
    ------
    ConfigError
        When two drawings have the same name.
    DataError
        When the folder cannot be written.
    """
    folder = Path(folder)
    drawings = [drawing for section in report.sections for drawing, _ in section.drawings]
    names = [d.name for d in drawings]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"report: two drawings are called '{twice[0]}'; give each its own name")
    write_table(folder, "report_scores", report.scores)
    write_table(folder, "report_figures", (row for d in drawings for row in d.rows))
    for d in drawings:
        with atomic_write(folder / "figures" / f"{d.name}.png") as f:
            f.write(d.png)
    path = folder / "report.html"
    with atomic_write(path, "w") as f:
        f.write(page(report))
    return path


def page(report: Report) -> str:
    """Whole page as text; no script, and nothing is loaded from anywhere."""
    body = "\n".join(
        [
            f"<header><h1>{escape(report.title)}</h1>{_paragraph(report.subtitle, 'subtitle')}</header>",
            _leak(report.leak_reason),
            claims_block(report.claims),
            looks_line(report.looks),
            *(section_block(s) for s in report.sections),
            facts_block(report.facts),
        ]
    )
    first = summary(report.claims)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta name="description" content="{escape(first, quote=True)}">\n'
        f"<title>{escape(report.title)}</title>\n<style>\n{stylesheet()}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def stylesheet() -> str:
    """Style rules with the palette of the figures as variables, light and dark."""
    light = "".join(f"--{name}:{pair[0]};" for name, pair in PALETTE.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in PALETTE.items())
    rules = files("neurofm.report").joinpath("report.css").read_text(encoding="utf-8")
    return f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n{rules}"


def in_order(claims: Iterable[Claim]) -> list[Claim]:
    """Failed claims first, then those that held, then those not tested."""
    return sorted(claims, key=lambda c: _ORDER[c.held])


def summary(claims: Sequence[Claim]) -> str:
    """One line: how many claims failed and held."""
    if not claims:
        return "No claim was stated for this report."
    count = {held: sum(c.held is held for c in claims) for held in (False, True, None)}
    parts = [f"{count[False]} of {len(claims)} claims failed", f"{count[True]} held"]
    if count[None]:
        parts.append(f"{count[None]} not tested")
    return ", ".join(parts) + "."


def claims_block(claims: Sequence[Claim]) -> str:
    """Every claim as a sentence that starts with its verdict; the verdict is a word, never a colour alone."""
    items = "".join(
        f'<li class="{_CLASS[c.held]}"><strong class="verdict">{c.verdict}</strong> <span>{escape(c.text)}'
        f"{f'<small>{escape(c.detail)}</small>' if c.detail else ''}</span></li>"
        for c in in_order(claims)
    )
    return f'<section class="claims" aria-label="Claims"><p>{escape(summary(claims))}</p><ul>{items}</ul></section>'


def looks_line(looks: dict[str, int] | Any) -> str:
    """How many runs have looked at each test part."""
    if not looks:
        return ""
    said = "; ".join(f"{escape(part)}: {n} {'run' if n == 1 else 'runs'}" for part, n in looks.items())
    return f'<p class="looks">Runs that have scored on the test part so far, this one included. {said}.</p>'


def section_block(section: Section) -> str:
    """Set a heading with its paragraph, drawings, tables and notes."""
    drawings = "".join(drawing_block(d, caption) for d, caption in section.drawings)
    tables = "".join(table_block(t) for t in section.tables)
    notes = "".join(_paragraph(n, "note") for n in section.notes)
    return f"<section><h2>{escape(section.title)}</h2>{_paragraph(section.lead)}{drawings}{tables}{notes}</section>"


def drawing_block(drawing: Drawing, caption: str) -> str:
    """Inline SVG that scrolls sideways on a narrow screen instead of shrinking its letters away."""
    return (
        f'<figure id="{escape(drawing.name, quote=True)}"><div class="scroll" tabindex="0">{drawing.svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table_block(table: Table) -> str:
    """Set a table; numbers are right-aligned with three decimals."""
    head = "".join(f'<th scope="col">{escape(str(c))}</th>' for c in table.columns)
    body = "".join("<tr>" + "".join(_cell(v) for v in row) + "</tr>" for row in table.rows)
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{escape(table.caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts_block(facts: dict[str, str] | Any) -> str:
    """Provenance as a list of terms."""
    if not facts:
        return ""
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    return f"<footer><h2>Provenance</h2><dl>{items}</dl></footer>"


def _leak(reason: str) -> str:
    if not reason:
        return ""
    return (
        f'<p class="leak"><strong>The test leaks, and the run was allowed all the same:</strong> {escape(reason)}</p>'
    )


def _paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{escape(text)}</p>" if text else ""


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"<td>{escape(str(value))}</td>"
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    return f'<td class="number">{f"{value:.3f}" if math.isfinite(value) else "–"}</td>'
