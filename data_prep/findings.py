"""What a preparation repaired and what it noticed, in short clauses for the user."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from neurofm.schema.words import SILENT, counted


def findings_of(receipts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say what was repaired (units of measurement), and what a user should look at before trusting the data.

    Channels of another scale than their kind, units of populations without a spike.

    Parameters
    ----------
    receipts : iterable of mapping
        Rows of the prepared recordings, as `running.worker` writes them.
    """
    receipts = list(receipts)
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
    said += _silent(receipts)
    return [*said[:-1], f"{said[-1]} (see neurofm inspect)"] if said else []


def _silent(receipts: Iterable[Mapping[str, Any]]) -> list[str]:
    silent = [c for r in receipts for c in r["channels"] if SILENT in c["reason"]]
    if not silent:
        return []
    first = silent[0]
    never = "fires" if len(silent) == 1 else "fire"
    return [f"{counted(len(silent), 'unit')} never {never}, first '{first['name']}' in {first['recording_id']}"]
