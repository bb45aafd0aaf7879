"""A new person calibrated by so many trials per class, the earliest first, and tested on later ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import check_lengths, cut, length_s, whole
from neurofm.data.splits.spans import Span, Split, overlap
from neurofm.schema.errors import ConfigError


class _Trial(NamedTuple):
    """A trial in its person's chronology."""

    span: Span
    label: str
    part: str


def new_subject_trials(
    dataset: Dataset,
    *,
    subject: str,
    budgets: Sequence[int],
    test_fraction: float = 0.5,
    test_part: str | None = None,
    label_kind: str = "trial",
    around_s: Sequence[float] | None = None,
    gap_s: float = 0.0,
    validation_fraction: float = 0.1,
) -> Split:
    """Leave one person out: the others pretrain; of the person, the first trials of each class calibrate.

    Parameters
    ----------
    dataset : Dataset
        All people.
    subject : str
        The held-out person. The recordings follow each other by session, run and name.
    budgets : sequence of int
        Trials per class of each calibration, counted in time: "calibration-5" holds the first five of every class.
    test_fraction : float
        Share of the person's trials, the last ones, that are tested.
    test_part : str, optional
        Or the official part whose trials are tested; calibration then comes from the others.
    label_kind : str
        Kind of event whose label is the class.
    around_s : (float, float), optional
        What belongs to a trial, from the event's onset, in continuous recordings; default: the valid interval it is in.
    gap_s : float
        Least time between a calibration trial and a tested one.
    validation_fraction : float
        Share of each other person's data, at its end, kept for validation.

    Returns
    -------
    Split
        Parts "pretrain", "validation", "calibration-<n>" for each budget and "test".

    Raises
    ------
    ConfigError
        When the person is alone, or has fewer trials of some class than a budget asks for.
    """
    held_out = dataset.select(subject=subject)
    others = [s for s in dataset.subjects if s != subject]
    if not others:
        raise ConfigError(f"{dataset.path}: '{subject}' is its only subject, so nobody is left to pretrain on")
    if not budgets or min(budgets) < 1:
        raise ConfigError(f"budgets is {list(budgets)}; expected numbers of trials per class, at least 1")
    check_lengths(gap_s=gap_s)
    trials = _trials(dataset, held_out, label_kind, around_s)
    early, test = _cut(dataset, trials, subject, test_fraction, test_part)
    parts = _others(dataset, others, validation_fraction, gap_s)
    for budget in budgets:
        parts[f"calibration-{budget}"] = _first(early, {t.label for t in trials}, int(budget), subject)
    parts["test"] = [t.span for t in test]
    met = overlap(parts[f"calibration-{max(budgets)}"], parts["test"], gap_s=gap_s).spans
    if met:
        raise ConfigError(
            f"subject '{subject}': a calibration trial at {met[0][0].start_s:g} s of '{met[0][0].recording_id}' comes "
            f"within gap_s={gap_s:g} of a tested one; shorten gap_s or around_s"
        )
    return Split(parts=parts, gap_s=gap_s, rule=f"new_subject_trials {subject} of {dataset.id}")


def _trials(
    dataset: Dataset, recording_ids: Sequence[str], kind: str, around_s: Sequence[float] | None
) -> list[_Trial]:
    rows = dataset.recordings
    order = sorted(recording_ids, key=lambda r: (rows[r]["session"], rows[r]["run"], r))
    found = []
    for r in order:
        events = [e for e in dataset.events(r) if e["kind"] == kind and e["label"]]
        if around_s is None:
            for span in whole(dataset, [r]):
                inside = [e for e in events if span.start_s - 1e-9 <= e["onset_s"] < span.stop_s]
                # an interval with several trials cannot be given to one part
                if len({e["label"] for e in inside}) == 1:
                    found.append(_Trial(span, inside[0]["label"], rows[r]["part"]))
                elif inside:
                    raise ConfigError(
                        f"'{r}' holds several trials in one interval; give around_s, what belongs to a trial from its onset"
                    )
            continue
        before, after = around_s
        if not before < after:
            raise ConfigError(f"around_s is {list(around_s)}; expected a start before its stop, in seconds from onset")
        valid = dataset.valid(r)
        for e in sorted(events, key=lambda e: e["onset_s"]):
            start, stop = e["onset_s"] + before, e["onset_s"] + after
            if any(a - 1e-9 <= start and stop <= b + 1e-9 for a, b in valid):
                found.append(_Trial(Span(r, start, stop, e["stimulus_id"]), e["label"], rows[r]["part"]))
    return found


def _cut(
    dataset: Dataset, trials: list[_Trial], subject: str, fraction: float, part: str | None
) -> tuple[list[_Trial], list[_Trial]]:
    """Trials that may calibrate, and those that are tested."""
    if part is not None:
        early, test = [t for t in trials if t.part != part], [t for t in trials if t.part == part]
    else:
        if not 0 < fraction < 1:
            raise ConfigError(f"test_fraction is {fraction}; expected a share between 0 and 1")
        n_test = max(1, round(fraction * len(trials)))
        early, test = trials[:-n_test], trials[-n_test:]
    if not early or not test:
        raise ConfigError(
            f"{dataset.path}: subject '{subject}' has {len(early)} trials to calibrate on and {len(test)} to test; both "
            "need some: check label_kind and test_part"
        )
    return early, test


def _first(trials: Sequence[_Trial], labels: set[str], budget: int, subject: str) -> list[Span]:
    """The first `budget` trials of every class, in time order."""
    taken: dict[str, int] = defaultdict(int)
    kept = []
    for t in trials:
        if taken[t.label] < budget:
            taken[t.label] += 1
            kept.append(t.span)
    for label in sorted(labels):
        if taken[label] < budget:
            raise ConfigError(
                f"subject '{subject}' has {taken[label]} trials of '{label}' before its test part, fewer than the budget "
                f"of {budget}; choose smaller budgets or a smaller test_fraction"
            )
    return kept


def _others(dataset: Dataset, others: Sequence[str], fraction: float, gap_s: float) -> dict[str, list[Span]]:
    """Pretraining and validation parts; a recording of trials is cut between trials."""
    parts: dict[str, list[Span]] = {"pretrain": [], "validation": []}
    for other in others:
        for r in dataset.select(subject=other):
            spans = whole(dataset, [r])
            n_held = round(fraction * len(spans))
            if len(spans) > 1:
                parts["pretrain"] += spans[: len(spans) - n_held]
                parts["validation"] += spans[len(spans) - n_held :]
                continue
            end = length_s(dataset, [r])
            held = fraction * end
            parts["pretrain"] += cut(dataset, [r], 0.0, end - held - gap_s if held else end)
            parts["validation"] += cut(dataset, [r], end - held, end)
    return parts
