"""The rules that make splits, by the names that `conf/data` calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from neurofm.data.dataset import Dataset
from neurofm.data.splits.filter_length import filter_length_s
from neurofm.data.splits.first_trials import new_subject_trials
from neurofm.data.splits.groups import by_column, by_concept, by_run, by_session, by_stimulus
from neurofm.data.splits.parts import by_time, length_s, new_subject, official_parts, whole
from neurofm.data.splits.people import by_subject, within_subject
from neurofm.data.splits.spans import Split
from neurofm.data.splits.stimuli import folds_in_time, folds_of_recordings, zero_shot
from neurofm.data.splits.trials import by_trial
from neurofm.schema.errors import ConfigError, DataError, nearest


def _new_subject(dataset: Dataset, *, subject: str | None = None, **choices: Any) -> Split:
    return new_subject(dataset, subject=_named(dataset, subject), **choices)


def _new_subject_trials(dataset: Dataset, *, subject: str | None = None, **choices: Any) -> Split:
    return new_subject_trials(dataset, subject=_named(dataset, subject), **choices)


def _named(dataset: Dataset, subject: str | None) -> str:
    if subject is None:
        known = ", ".join(dataset.subjects)
        raise ConfigError(f"held_out must name the subject that is left out of pretraining: held_out=… ({known})")
    return str(subject)


def _official(
    dataset: Dataset, *, pretrain_part: str | None = None, subject: str | None = None, **choices: Any
) -> Split:
    """Official parts of one subject; the part `pretrain_part` of everybody is for pretraining."""
    pretrain = dataset.select(part=pretrain_part) if pretrain_part else []
    recordings = dataset.select(subject=subject) if subject else None
    return official_parts(dataset, recording_ids=recordings, pretrain=pretrain, **choices)


def _everything(dataset: Dataset) -> Split:
    return Split(parts={"pretrain": whole(dataset, sorted(dataset.recordings))}, rule=f"everything of {dataset.id}")


def _by_time(
    dataset: Dataset,
    *,
    fractions: Mapping[str, float],
    gap_s: float | None = None,
    gap_reason: str | None = None,
    window_s: float,
) -> Split:
    """Cut each recording in time; without `gap_s` the gap is the window plus the longest filter of preparation.

    A shorter gap lets parts share what the filter carried over, so it needs a reason, such as a published protocol,
    which is kept in the split's rule. Where a filter's reach is not known, a gap of the window or more is taken as given.
    """
    if gap_s is None:
        gap_s = window_s + filter_length_s(dataset)
        shortest = min(dataset.recordings, key=lambda r: length_s(dataset, [r]))
        if length_s(dataset, [shortest]) <= gap_s * (len(fractions) - 1) + window_s:
            raise ConfigError(
                f"recording '{shortest}' is {length_s(dataset, [shortest]):g} s long, too short for parts apart by a window of "
                f"{window_s:g} s and the longest filter of preparation ({gap_s:g} s together); shorten task.window_s, or "
                "choose recordings with data.select"
            )
        return by_time(dataset, fractions=fractions, gap_s=gap_s)
    try:
        least = window_s + filter_length_s(dataset)
    except ConfigError:
        least = window_s
    if gap_s < least * (1 - 1e-9) and not gap_reason:
        raise ConfigError(
            f"split rule 'by_time': gap_s={gap_s:g} is below the window of {window_s:g} s plus the longest filter of "
            f"preparation, {least:g} s together, so parts would share signal; raise it, leave it out, or say why in "
            "gap_reason (such as a published protocol)"
        )
    split = by_time(dataset, fractions=fractions, gap_s=gap_s)
    return replace(split, rule=f"{split.rule}, gap_reason: {gap_reason}") if gap_reason else split


RULES: dict[str, Callable[..., Split]] = {
    "new_subject": _new_subject,
    "new_subject_trials": _new_subject_trials,
    "official": _official,
    "by_subject": by_subject,
    "within_subject": within_subject,
    "by_column": by_column,
    "by_session": by_session,
    "by_run": by_run,
    "by_stimulus": by_stimulus,
    "by_concept": by_concept,
    "by_time": _by_time,
    "by_trial": by_trial,
    "zero_shot": zero_shot,
    "folds_of_recordings": folds_of_recordings,
    "folds_in_time": folds_in_time,
    "everything": _everything,
}


def make_split(dataset: Dataset, *, rule: str, window_s: float = 0.0, **choices: Any) -> Split:
    """Make a split by the name of its rule.

    A `gap_s` of None is the window, `window_s` of the task, plus the longest filter of preparation.
    """
    if rule not in RULES:
        raise ConfigError(f"unknown split rule '{rule}': {nearest(rule, RULES)}")
    if rule == "by_time":
        choices["window_s"] = window_s
    elif choices.get("gap_s", 0.0) is None:
        choices["gap_s"] = window_s + filter_length_s(dataset)
    try:
        return RULES[rule](dataset, **choices)
    except TypeError as error:
        raise ConfigError(f"split rule '{rule}': {error}") from error


def read_split(dataset: Dataset, path: str) -> Split:
    """Read a split that an earlier run wrote, and check that it is one of this dataset.

    Raises
    ------
    DataError
        When it names a recording that the dataset does not hold, or reaches beyond one.
    """
    split = Split.read(path)
    for part, spans in split.parts.items():
        for s in spans:
            if s.recording_id not in dataset.recordings:
                raise DataError(
                    f"{path}: part '{part}' names the recording '{s.recording_id}', which {dataset.path} does not hold; "
                    "use the split with the data it was made of"
                )
            valid = dataset.valid(s.recording_id)
            if s.start_s < valid[0][0] - 1e-6 or s.stop_s > valid[-1][1] + 1e-6:
                raise DataError(
                    f"{path}: part '{part}' reaches from {s.start_s:g} to {s.stop_s:g} s of '{s.recording_id}', which lasts "
                    f"from {valid[0][0]:g} to {valid[-1][1]:g} s in {dataset.path}"
                )
    return split
