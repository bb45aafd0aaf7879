"""Numbers in sentences."""

from __future__ import annotations


def counted(n: float, one: str, several: str = "") -> str:
    """Return "1 subject" or "7 subjects"; `several` is the plural where it is not `one` with an s."""
    return f"{n:,.0f} {one if n == 1 else several or one + 's'}"
