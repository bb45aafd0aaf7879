"""What a preparation repaired and what it noticed, in short clauses for the user."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from neurofm.schema.words import counted


def findings_of(receipts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say of how many recordings units were repaired, and how many channels are of another scale than their kind.

    Parameters
    ----------
    receipts : iterable of mapping
        Rows of the prepared recordings, as `running.worker` writes them.
    """
    repaired, odd, first = 0, 0, ""
    for receipt in receipts:
        about = receipt["recording"]
        figures = json.loads(about["quality"])
        repaired += any(k.startswith("unit_factor_") for k in figures)
        if figures.get("odd_scale"):
            odd += int(figures["odd_scale"])
            first = first or about["recording_id"]
    said = [f"units repaired in {counted(repaired, 'recording')}"] if repaired else []
    if odd:
        said.append(
            f"{counted(odd, 'channel')} far off the scale of {'its' if odd == 1 else 'their'} kind, first in {first}"
        )
    return [*said[:-1], f"{said[-1]} (see neurofm inspect)"] if said else []
