"""What a preparation repaired and what it noticed, in short clauses for the user."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neurofm.schema.words import SILENT, counted

# a difference between clocks that is none
SAME_S = 5e-4


def findings_of(receipts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say what was repaired (units of measurement), and what a user should look at before trusting the data.

    Channels of another scale than their kind; units without a spike; silence longer than
    all the rest; behaviour that is missing for a
    time, or covers clearly less than the signal.

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
    said += _silence([r["recording"] for r in receipts])
    said += _behaviour([r["recording"] for r in receipts])
    return [*said[:-1], f"{said[-1]} (see neurofm inspect)"] if said else []


def _silent(receipts: Iterable[Mapping[str, Any]]) -> list[str]:
    silent = [c for r in receipts for c in r["channels"] if SILENT in c["reason"]]
    if not silent:
        return []
    first = silent[0]
    never = "fires" if len(silent) == 1 else "fire"
    return [f"{counted(len(silent), 'unit')} never {never}, first '{first['name']}' in {first['recording_id']}"]


def _silence(recordings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say where no unit fires for longer than all the rest of a recording: one stray spike makes hours of it."""
    found = []
    for about in recordings:
        figures = json.loads(about["quality"])
        if "silence_from_s" in figures:
            found.append(
                f"no unit fires between {figures['silence_from_s']:.3f} and {figures['silence_to_s']:.3f} s in "
                f"{about['recording_id']}, longer than all the rest of it (a stray spike, or another clock?)"
            )
    return _first(found)


def _behaviour(recordings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say what of behaviour is missing: the first stream in words, further ones by their number."""
    holes, short = [], []
    for about in recordings:
        figures, rid = json.loads(about["quality"]), about["recording_id"]
        for key, value in figures.items():
            if key.startswith("missing_s_"):
                name = key.removeprefix("missing_s_")
                holes.append(f"stream '{name}' is missing for {value:.4g} s of {about['duration_s']:.4g} s in {rid}")
            elif key.startswith("covers_"):
                name = key.removeprefix("covers_")
                by_s = figures[f"begins_s_{name}"]
                when = "with it" if abs(by_s) < SAME_S else f"{abs(by_s):.3f} s {'after' if by_s > 0 else 'before'} it"
                short.append(f"stream '{name}' covers {100 * value:.0f} % of the signal and begins {when} in {rid}")
    return [*_first(holes), *_first(short)]


def _first(clauses: Sequence[str]) -> list[str]:
    more = f", and {len(clauses) - 1} more like it" if len(clauses) > 1 else ""
    return [f"{clauses[0]}{more}"] if clauses else []
