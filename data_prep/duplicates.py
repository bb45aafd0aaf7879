"""Recordings that share an id, and recordings and trials that hold the same values: found, and listed in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from data_prep.writer.shards import Staged


def split_duplicates(staged: Sequence[Staged]) -> tuple[list[Staged], list[tuple[Staged, str]]]:
    """Keep the first of the recordings that share an id or all their values, in the order of their keys.

    The same values under two names (one person under two numbers, a file stored twice) would be in training and in
    test at once. Values are compared after all stages, as float32, so that the same recording in two formats counts.
    """
    ids: dict[str, Staged] = {}
    contents: dict[tuple[str, ...], Staged] = {}
    again = []
    for s in sorted(staged, key=lambda s: s.item_key):
        rid = s.recording["recording_id"]
        content = tuple(s.receipt["content"])
        if rid in ids:
            again.append((s, f"has the same recording id as {ids[rid].item_key}; tell them apart by session or run"))
        elif any(content) and content in contents:
            again.append((s, f"holds the same values as {contents[content].item_key}, which is kept"))
        else:
            ids[rid] = contents[content] = s
    return sorted(ids.values(), key=lambda s: s.recording["recording_id"]), again


def list_trials(staged: Sequence[Staged]) -> tuple[list[Staged], list[dict[str, Any]]]:
    """Find valid intervals (trials) that hold the same values as an earlier one, in any of the recordings.

    Trials stay in the dataset: which of two is wrong, and whether a repetition is meant, only a person can say.

    Returns
    -------
    staged : list of Staged
        With the quality figure ``duplicate_trials`` where there are any.
    rows : list of dict
        For rejected.parquet, one for each trial that is not the first of its kind.
    """
    first: dict[str, tuple[Staged, float]] = {}
    out, rows = [], []
    for s in staged:
        r = s.recording
        found = 0
        for (start_s, _), content in zip(r["valid"], s.receipt["content"], strict=True):
            if not content:
                continue
            if content not in first:
                first[content] = (s, start_s)
                continue
            other, other_s = first[content]
            found += 1
            rows.append(
                {
                    "recording_id": r["recording_id"],
                    "subject": r["subject"],
                    "session": r["session"],
                    "source_file": r["source_file"],
                    "start_s": start_s,
                    "reason": f"kept, but holds the same values as {other.recording['recording_id']} at {other_s:g} s",
                }
            )
        if found:
            quality = {**json.loads(r["quality"]), "duplicate_trials": float(found)}
            recording = {**r, "quality": json.dumps(quality, sort_keys=True)}
            s = replace(s, receipt={**s.receipt, "recording": recording})
        out.append(s)
    return out, rows
