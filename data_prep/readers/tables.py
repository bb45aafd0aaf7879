"""Small tables in text files (.tsv, .csv, look-up tables): rows as they stand, numbers where they are asked for."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neurofm.schema.errors import DataError, nearest

Row = dict[str, str]
MISSING = ("", "n/a", "na", "nan")
# as spreadsheets write it where the comma separates decimals and the semicolon cells
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
VALUE_COLUMNS = ("index", "label", "value", "id", "parcel", "roi_id")
NAME_COLUMNS = ("name", "region", "label_name", "roi", "abbreviation", "label")


def delimiter_of(path: Path, first: str) -> str:
    """Return a tab, a semicolon, a comma, or a space, by the first line and by the file's suffix."""
    for mark in "\t;":
        if mark in first:
            return mark
    return "," if path.suffix == ".csv" or "," in first else " "


def read_lines(path: Path) -> list[list[str]]:
    """Read a table's lines as cells, comments and empty lines left out.

    Raises
    ------
    DataError
        When the file is no text or holds nothing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: is not a readable text table ({error})") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise DataError(f"{path.name}: is empty")
    delimiter = delimiter_of(path, lines[0])
    if delimiter == " ":
        return [line.split() for line in lines]
    cells = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    if delimiter == ";":
        cells = [[c.replace(",", ".") if DECIMAL_COMMA.fullmatch(c) else c for c in row] for row in cells]
    return cells


def read_rows(path: Path) -> list[Row]:
    """Read a table whose first line names its columns.

    Raises
    ------
    DataError
        When a line has more or fewer cells than the first.
    """
    names, *lines = read_lines(path)
    for i, line in enumerate(lines):
        if len(line) != len(names):
            raise DataError(f"{path.name}: row {i + 1} has {len(line)} cells, its header {len(names)}")
    return [dict(zip(names, line, strict=True)) for line in lines]


def stream_rows(path: Path, *columns: str) -> Iterator[Row]:
    """Yield the rows of a large .csv, or .tsv, file one by one, whatever text their cells hold.

    Unlike in `read_rows`, lines that begin with ``#`` are rows, and rows may be shorter than the header.

    Parameters
    ----------
    path : Path
    *columns : str
        Must be there.

    Raises
    ------
    DataError
        When the file is no text or lacks a column; the nearest names are in the sentence.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            rows = csv.DictReader(f, delimiter="\t" if path.suffix == ".tsv" else ",")
            known = list(rows.fieldnames or ())
            for column in columns:
                if column not in known:
                    raise DataError(f"{path.name}: has no column '{column}': {nearest(column, known)}")
            yield from rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name}: is not a readable text table ({error})") from error


def column_of(rows: list[Row], wanted: tuple[str, ...]) -> str | None:
    """Return the first of the wanted columns that a table has, upper and lower case being the same."""
    there = {name.lower(): name for name in (rows[0] if rows else {})}
    return next((there[w] for w in wanted if w in there), None)


def number(cell: str, path: Path, row: int, column: str, *, missing: float | None = None) -> float:
    """Return a cell as a number.

    Raises
    ------
    DataError
        When it is none, or is missing and `missing` is None.
    """
    if cell.lower() in MISSING and missing is not None:
        return missing
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        # not quoted: it may be a note or a name
        raise DataError(f"{path.name}: row {row + 1} holds no number in column '{column}'")
    return value


def number_or_nan(cell: str | None) -> float:
    """Return a cell as a number, NaN when it is empty or none."""
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return math.nan


def read_labels(path: Path) -> dict[int, str] | list[str]:
    """Read the names of an atlas's labels.

    Taken are a table with a column of numbers (index, label, value …) and one of names (name, region …), a look-up
    table without a header (number, name, perhaps colours), and a list of names in the labels' ascending order.

    Raises
    ------
    DataError
        When it is none of these.
    """
    lines = read_lines(path)
    if _is_integer(lines[0][0]) and len(lines[0]) > 1:
        return {int(line[0]): line[1] for line in lines if len(line) > 1 and _is_integer(line[0])}
    if len(lines[0]) == 1:
        return [line[0] for line in lines]
    rows = read_rows(path)
    value = next((c for c in VALUE_COLUMNS if (name := column_of(rows, (c,))) and _is_integer(rows[0][name])), None)
    name = next((n for c in NAME_COLUMNS if (n := column_of(rows, (c,))) and not _is_integer(rows[0][n])), None)
    if value is None or name is None:
        raise DataError(
            f"{path.name}: has columns {', '.join(lines[0])}; expected one of numbers "
            f"({', '.join(VALUE_COLUMNS[:3])} …) and one of names ({', '.join(NAME_COLUMNS[:2])} …)"
        )
    numbers = column_of(rows, (value,))
    assert numbers is not None
    return {int(number(row[numbers], path, i, numbers)): row[name] for i, row in enumerate(rows)}


def _is_integer(cell: str) -> bool:
    return cell.lstrip("-").isdigit()


def need(rows: list[Row], column: str, path: Path) -> None:
    """Check that a table has a column.

    Raises
    ------
    DataError
        When it has not; the nearest names are in the sentence.
    """
    if not rows or column not in rows[0]:
        raise DataError(f"{path.name}: has no column '{column}': {nearest(column, rows[0] if rows else ())}")
