"""Numbers in sentences."""

from __future__ import annotations

from collections.abc import Sequence

# what the channel table says of a channel that was probably stored in another unit than its like
ODD_SCALE = "times the median of its kind"
# … and of a unit without a spike, which is no fault
SILENT = "never fires"


def counted(n: float, one: str, several: str = "") -> str:
    """Return "1 subject" or "7 subjects"; `several` is the plural where it is not `one` with an s."""
    return f"{n:,.0f} {one if n == 1 else several or one + 's'}"


def some(names: Sequence[str], n: int = 8) -> str:
    """Say how many there are and name the first."""
    return f"{len(names)} ({', '.join(names[:n])}{' …' if len(names) > n else ''})"
