"""Cells of the text tables that public datasets come with."""

from __future__ import annotations

import math


def number(text: str | None) -> float:
    """Return a cell of a table as a number, NaN when it is empty or none."""
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan
