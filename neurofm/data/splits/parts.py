"""Parts by time: a new person calibrated on the beginning, one recording cut in order, a dataset's own parts, folds of trials."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.splits.spans import Span, Split, overlap
from neurofm.schema.errors import ConfigError, nearest


def whole(dataset: Dataset, recording_ids: Iterable[str]) -> list[Span]:
    """One span per valid interval; its stimulus is that of the one event inside that names one."""
    spans = []
    for r in recording_ids:
        events = [e for e in dataset.events(r) if e["stimulus_id"]]
        for a, b in dataset.valid(r):
            inside = {e["stimulus_id"] for e in events if a <= e["onset_s"] < b}
            spans.append(Span(r, a, b, inside.pop() if len(inside) == 1 else ""))
    return spans


def cut(dataset: Dataset, recording_ids: Sequence[str], start_s: float, stop_s: float) -> list[Span]:
    """Spans of [start_s, stop_s) of *valid* time, counted over the recordings one after the other.

    Borders move inwards to the next sample, so a span holds whole samples and a gap is never shortened.
    """
    spans, passed = [], 0.0
    for r in recording_ids:
        rate = dataset.rate_hz(r)
        for (a, _), n in zip(dataset.valid(r), dataset.interval_samples(r), strict=True):
            # a border computed in floating point may miss its sample by far less than this
            first = min(max(math.ceil((start_s - passed) * rate - 1e-4), 0), n)
            last = min(max(math.floor((stop_s - passed) * rate + 1e-4), 0), n)
            if last > first:
                spans.append(Span(r, a + first / rate, a + last / rate))
            passed += n / rate
    return spans


def length_s(dataset: Dataset, recording_ids: Iterable[str]) -> float:
    """Add up the valid time of some recordings."""
    return sum(n / dataset.rate_hz(r) for r in recording_ids for n in dataset.interval_samples(r))


def check_lengths(*, gap_s: float, test_s: float | None = None, budgets_s: Mapping[str, float] | None = None) -> None:
    """Refuse a gap below 0, which would let parts overlap, and a test or a budget that holds nothing."""
    if not gap_s >= 0:
        raise ConfigError(f"gap_s={gap_s:g} must be 0 s or more; parts with less between them would share signal")
    if test_s is not None and not test_s > 0:
        raise ConfigError(f"test_s={test_s:g} must be above 0 s, or nothing is tested")
    for label, seconds in (budgets_s or {}).items():
        if not seconds > 0:
            raise ConfigError(f"budgets_s: '{label}' is {seconds:g} s; a calibration must be above 0 s")


def label_of(seconds: float) -> str:
    """Name a budget: 36.0 → "36s"."""
    return f"{seconds:g}s"


def by_label(budgets_s: Sequence[float] | Mapping[str, float] | None) -> dict[str, float]:
    """Seconds of each budget by its label; budgets without labels are called by their seconds."""
    if isinstance(budgets_s, Mapping):
        return dict(budgets_s)
    return {label_of(b): float(b) for b in budgets_s or ()}


def new_subject(
    dataset: Dataset,
    *,
    subject: str,
    budgets_s: Sequence[float] | Mapping[str, float],
    test_s: float,
    gap_s: float,
    validation_fraction: float = 0.1,
) -> Split:
    """Leave one person out: the others pretrain; of the person, calibration comes first, the test last.

    Parameters
    ----------
    dataset : Dataset
        All people.
    subject : str
        The held-out person.
    budgets_s : sequence or mapping of label to seconds
        Calibration budgets: the first so many seconds of the person's valid data.
    test_s : float
        Length of the test part at the end of the person's data.
    gap_s : float
        At least this much lies between calibration and test, and between pretraining and validation.
    validation_fraction : float
        Share of each other person's data, at its end, that is kept for validation; 0 for none.

    Returns
    -------
    Split
        Parts "pretrain", "validation", "calibration-<label>" for each budget and "test".

    Raises
    ------
    ConfigError
        When the person is unknown, alone, or has too little data for the largest budget, the gap and the test.
    """
    held_out = dataset.select(subject=subject)
    others = [s for s in dataset.subjects if s != subject]
    if not others:
        raise ConfigError(f"{dataset.path}: '{subject}' is its only subject, so nobody is left to pretrain on")
    budgets = by_label(budgets_s)
    check_lengths(gap_s=gap_s, test_s=test_s, budgets_s=budgets)
    total = length_s(dataset, held_out)
    longest = max(budgets.values(), default=0.0)
    if longest + gap_s + test_s > total * (1 + 1e-9):
        raise ConfigError(
            f"subject '{subject}' has {total:g} s, less than budget {longest:g} + gap {gap_s:g} + test {test_s:g} s; "
            "shorten data.split.test_s and the longest of data.split.budgets_s"
        )
    parts: dict[str, list[Span]] = {"pretrain": [], "validation": []}
    for other in others:
        ids = dataset.select(subject=other)
        held = validation_fraction * length_s(dataset, ids)
        end = length_s(dataset, ids)
        parts["pretrain"] += cut(dataset, ids, 0.0, end - held - gap_s if held else end)
        parts["validation"] += cut(dataset, ids, end - held, end)
    for label, budget in budgets.items():
        parts[f"calibration-{label}"] = cut(dataset, held_out, 0.0, budget)
    parts["test"] = cut(dataset, held_out, total - test_s, total)
    for name, spans in parts.items():
        if not spans and (name != "validation" or validation_fraction > 0):
            raise ConfigError(
                f"part '{name}' of the split for subject '{subject}' is empty; shorten the gap of {gap_s:g} s"
            )
    return Split(parts=parts, gap_s=gap_s, rule=f"new_subject {subject} of {dataset.id}")


def by_time(
    dataset: Dataset,
    *,
    fractions: Mapping[str, float],
    gap_s: float,
    recording_ids: Sequence[str] | None = None,
) -> Split:
    """Cut each recording into consecutive parts with gaps: ``{"train": 0.7, "validation": 0.1, "test": 0.2}``.

    The fractions are of what is left of a recording after the gaps.
    """
    check_lengths(gap_s=gap_s)
    if not fractions or min(fractions.values()) <= 0 or sum(fractions.values()) > 1 + 1e-9:
        raise ConfigError(f"fractions {dict(fractions)} must be above 0 and sum to at most 1")
    parts: dict[str, list[Span]] = {name: [] for name in fractions}
    for r in sorted(dataset.recordings if recording_ids is None else recording_ids):
        usable = length_s(dataset, [r]) - gap_s * (len(fractions) - 1)
        if usable <= 0:
            raise ConfigError(
                f"recording '{r}' is {length_s(dataset, [r]):g} s long, shorter than its gaps of {gap_s:g} s"
            )
        at = 0.0
        for name, fraction in fractions.items():
            parts[name] += cut(dataset, [r], at, at + fraction * usable)
            at += fraction * usable + gap_s
    return Split(parts=parts, gap_s=gap_s, rule=f"by_time {dict(fractions)}")


# cutting by table and by trial


def official_parts(
    dataset: Dataset,
    *,
    parts: Mapping[str, str] | None = None,
    recording_ids: Sequence[str] | None = None,
    pretrain: Sequence[str] = (),
) -> Split:
    """Take the dataset's own parts, whole; one span per valid interval (so per trial of epoched data).

    Parameters
    ----------
    dataset : Dataset
        Whose recordings name their official part.
    parts : mapping of part to official name, optional
        Default ``{"train": "train", "test": "test"}``.
    recording_ids : sequence of str, optional
        Only these recordings.
    pretrain : sequence of str
        Recordings of the part "pretrain", which must not be official test material of this split.
    """
    parts = {"train": "train", "test": "test"} if parts is None else parts
    chosen = sorted(dataset.recordings if recording_ids is None else recording_ids)
    made: dict[str, list[Span]] = {}
    for name, official in parts.items():
        ids = [r for r in chosen if dataset.recordings[r]["part"] == official]
        if not ids:
            known = {dataset.recordings[r]["part"] for r in chosen} - {""}
            raise ConfigError(
                f"{dataset.path}: no recording has the official part '{official}': {nearest(official, known)}"
            )
        made[name] = whole(dataset, ids)
    if pretrain:
        made["pretrain"] = whole(dataset, dataset.select(recording_id=pretrain))
        if "test" in made and overlap(made["pretrain"], made["test"]).spans:
            raise ConfigError("pretrain: holds recordings of the official test part; leave them out")
    return Split(parts=made, rule=f"official_parts {dict(parts)} of {dataset.id}")


def kfold_trials(spans: Sequence[Span], *, n_folds: int, seed: int, labels: Sequence[Any] | None = None) -> list[Split]:
    """Folds over trials, stratified by `labels` where given; each is a Split of "train" and "validation".

    Raises
    ------
    ConfigError
        When there are fewer trials, or fewer of some label, than folds.
    """
    ordered = sorted(range(len(spans)), key=lambda i: spans[i])
    strata: dict[str, list[int]] = defaultdict(list)
    for i in ordered:
        strata["" if labels is None else str(labels[i])].append(i)
    fewest = min(strata, key=lambda k: len(strata[k]), default="")
    if n_folds < 2 or len(strata.get(fewest, [])) < n_folds:
        raise ConfigError(f"n_folds is {n_folds}; {len(strata.get(fewest, []))} trials of label '{fewest}' allow fewer")
    fold = np.empty(len(spans), int)
    dealt = 0
    for name in sorted(strata):
        members = keyed_generator(seed, "kfold", name).permutation(strata[name])
        # the deal goes on where the last label stopped, so that folds differ by one trial at most
        fold[members] = (np.arange(len(members)) + dealt) % n_folds
        dealt += len(members)
    return [
        Split(
            parts={
                "train": [spans[i] for i in ordered if fold[i] != k],
                "validation": [spans[i] for i in ordered if fold[i] == k],
            },
            rule=f"kfold_trials {k + 1} of {n_folds}",
            seed=seed,
        )
        for k in range(n_folds)
    ]
