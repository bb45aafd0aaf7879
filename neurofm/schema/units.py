"""What is said of units in a channel table beyond their names: which a benchmark holds out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HELD_OUT = "held out by the benchmark (co-smoothing)"


def is_held_out(channel: Mapping[str, Any]) -> bool:
    """Whether a row of the channel table is a unit that is predicted from the others and never shown to a decoder."""
    return HELD_OUT in str(channel["reason"])
