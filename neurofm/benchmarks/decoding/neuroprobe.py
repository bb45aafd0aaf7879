"""Neuroprobe's fifteen tasks on prepared recordings of the Brain Treebank.

Labels, balance, splits and the pretraining ban follow the package neuroprobe 0.1.8 (MIT) as described by its users'
guide; nothing of it is copied. Two things differ and are said in every report: all electrodes that preparation kept are
used (the package ships a fixed subset of up to 120), and training windows that touch a tested one are left out (the
package's two classes are sorted each for itself, so that its halves overlap in time).
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from neurofm.benchmarks.decoding.folds import Fold, Protocol
from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.mixture import open_datasets
from neurofm.data.splits.spans import Span
from neurofm.data.windows import Window
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of

WINDOW_S = 1.0
SEED = 42
# the standard tier: subject → films, and no more items per task and session than this
LITE = {"1": (1, 2), "2": (0, 4), "3": (0, 1), "4": (0, 1), "7": (0, 1), "10": (0, 1)}
MAX_ITEMS = 3500
BANNED = tuple(f"{s}/trial{t:03d}" for s, trials in LITE.items() for t in trials)
QUARTER = (0.25, 0.75)
# seconds of film without speech before and after a window that counts as non-verbal, and step between such windows
SILENCE_S, SILENT_STEP_S = 2.0, 0.5
# task → column of features.csv, upper quarter against lower quarter
BY_QUANTILE = {
    "volume": "rms", "pitch": "pitch", "delta_volume": "delta_rms", "gpt2_surprisal": "gpt2_surprisal",
    "word_length": "word_length", "frame_brightness": "mean_pixel_brightness", "global_flow": "max_global_magnitude",
    "local_flow": "max_vector_magnitude",
}  # fmt: skip
TASKS = (
    *BY_QUANTILE, "word_gap", "onset", "speech", "face_num", "word_index", "word_head_pos", "word_part_speech",
)  # fmt: skip
SPLITS = ("within_session", "cross_session", "cross_subject")


class Item(NamedTuple):
    """One window of one second from a word's onset, or of silence."""

    start_s: float
    label: int


def balanced(
    positive: Sequence[float], negative: Sequence[float], *, limit: int = MAX_ITEMS, seed: int = SEED
) -> list[Item]:
    """As many of each class, each sorted by time, alternating and beginning with the positive one."""
    n = min(len(positive), len(negative), limit // 2)
    rng = keyed_generator(seed, "neuroprobe")
    drawn = [
        sorted(rng.permutation(np.sort(np.asarray(x, dtype=np.float64)))[:n].tolist()) for x in (positive, negative)
    ]
    return [Item(t, 1 - k) for pair in zip(*drawn, strict=True) for k, t in enumerate(pair)]


def by_quantile(
    onsets: Sequence[float], values: Sequence[float], *, from_upper: bool = False
) -> tuple[list[float], list[float]]:
    """Onsets of words above the upper and below the lower quarter; percentile = share of words strictly below.

    `from_upper`: a word at the upper quarter itself counts as above, as in the task word_gap.
    """
    v = np.asarray(values, dtype=np.float64)
    share = np.searchsorted(np.sort(v), v, side="left") / max(len(v), 1)
    low, high = QUARTER
    above = share >= high if from_upper else share > high
    return [t for t, s in zip(onsets, above, strict=True) if s], [
        t for t, s in zip(onsets, share, strict=True) if s < low
    ]


def silences(dataset: Dataset, recording_id: str) -> list[float]:
    """Starts of windows that are at least two seconds from any word, half overlapping."""
    words = [e for e in dataset.events(recording_id) if e["kind"] == "word"]
    found = []
    for a, b in dataset.valid(recording_id):
        at = a
        while at + WINDOW_S <= b:
            near = any(
                e["onset_s"] < at + WINDOW_S + SILENCE_S and e["onset_s"] + e["duration_s"] > at - SILENCE_S
                for e in words
            )
            if not near:
                found.append(round(at, 6))
            at += SILENT_STEP_S
    return found


def _column(dataset: Dataset, recording_id: str, name: str) -> tuple[list[float], list[float], list[str]]:
    rows = [e for e in dataset.events(recording_id) if e["kind"] == name]
    if not rows:
        raise DataError(
            f"{dataset.path}: '{recording_id}' has no events of kind '{name}'; prepare it with "
            f"dataset.source.features=[{name}, …]"
        )
    return [e["onset_s"] for e in rows], [e["value"] for e in rows], [e["label"] for e in rows]


def _choose(
    dataset: Dataset, r: str, name: str, yes: Callable[[float, str], bool | None]
) -> tuple[list[float], list[float]]:
    said = [(t, yes(v, label)) for t, v, label in zip(*_column(dataset, r, name), strict=True)]
    return [t for t, s in said if s is True], [t for t, s in said if s is False]


def items_of(dataset: Dataset, recording_id: str, task: str, *, limit: int = MAX_ITEMS) -> list[Item]:
    """Balanced items of a task in one recording.

    Raises
    ------
    ConfigError
        When the task is unknown.
    DataError
        When a feature was not prepared, or a class never occurs.
    """
    if task not in TASKS:
        raise ConfigError(f"Neuroprobe has no task '{task}': {nearest(task, TASKS)}")
    words = sorted(e["onset_s"] for e in dataset.events(recording_id) if e["kind"] == "word")
    if task in BY_QUANTILE:
        onsets, values, _ = _column(dataset, recording_id, BY_QUANTILE[task])
        kept = [(t, v) for t, v in zip(onsets, values, strict=True) if np.isfinite(v)]
        positive, negative = by_quantile([t for t, _ in kept], [v for _, v in kept])
    elif task == "word_gap":
        onsets, gaps = _gaps(dataset, recording_id)
        positive, negative = by_quantile(onsets, gaps, from_upper=True)
    elif task == "speech":
        positive, negative = words, silences(dataset, recording_id)
    elif task == "onset":
        positive = _choose(dataset, recording_id, "is_onset", lambda v, _: v > 0)[0]
        negative = silences(dataset, recording_id)
    elif task == "face_num":
        positive, negative = _choose(dataset, recording_id, "face_num", lambda v, _: v > 0)
    elif task == "word_index":
        positive, negative = _choose(
            dataset, recording_id, "idx_in_sentence", lambda v, _: {0: True, 1: False}.get(int(v))
        )
    elif task == "word_head_pos":
        positive, negative = _choose(dataset, recording_id, "bin_head", lambda v, _: v == 0)
    else:
        positive, negative = _choose(dataset, recording_id, "pos", lambda _, p: {"VERB": True, "NOUN": False}.get(p))
    inside = [_fitting(dataset, recording_id, x) for x in (positive, negative)]
    if not inside[0] or not inside[1]:
        raise DataError(f"{dataset.path}: task '{task}' has only one class in '{recording_id}'")
    return balanced(*inside, limit=limit)


def _gaps(dataset: Dataset, recording_id: str) -> tuple[list[float], list[float]]:
    """Gap of each word to the one before in the same sentence (block), from that one's end."""
    found = []
    rows = sorted((e for e in dataset.events(recording_id) if e["kind"] == "word"), key=lambda e: e["onset_s"])
    for before, now in itertools.pairwise(rows):
        if before["block"] == now["block"] and now["block"] >= 0:
            found.append((now["onset_s"], now["onset_s"] - before["onset_s"] - before["duration_s"]))
    return [t for t, _ in found], [g for _, g in found]


def _fitting(dataset: Dataset, recording_id: str, starts: Sequence[float]) -> list[float]:
    valid = dataset.valid(recording_id)
    return [t for t in starts if any(a - 1e-9 <= t and t + WINDOW_S <= b + 1e-9 for a, b in valid)]


def neuroprobe_protocol(*, data: Mapping[str, Any], task: str, split: str, limit: int = MAX_ITEMS) -> Protocol:
    """Make the folds of a task.

    Parameters
    ----------
    data : mapping
        `path` of the prepared Brain Treebank, `transforms`, and `sessions`, a mapping of subject to film numbers
        (default: those of `LITE`; others only for tests and for data that are not the Brain Treebank).
    task, split : str
        Of `TASKS` and `SPLITS`.
    limit : int
        Most items per session.
    """
    if split not in SPLITS:
        raise ConfigError(f"Neuroprobe has no split '{split}': {nearest(split, SPLITS)}")
    dataset = open_datasets(data["path"])
    chosen = {str(s): tuple(t) for s, t in dict(data.get("sessions") or LITE).items()}
    held = {}
    for subject, trials in chosen.items():
        for trial in trials:
            ids = [
                r
                for r, row in dataset.recordings.items()
                if row["subject"] == subject and row["session"] == f"trial{trial:03d}"
            ]
            if ids:
                held[subject, trial] = (ids[0], items_of(dataset, ids[0], task, limit=limit))
    if not held:
        raise DataError(
            f"{dataset.path}: holds none of the sessions {', '.join(BANNED[:3])}, …; prepare the Brain Treebank"
        )
    folds = [_fold(dataset, *made) for made in _pairs(held, split, tuple(data.get("train_on") or (2, 4)))]
    if not folds:
        raise DataError(
            f"{dataset.path}: has too few sessions for {split}; it needs two films of a person, or two people"
        )
    rule = {
        "task": task,
        "split": split,
        "window_s": WINDOW_S,
        "seed": SEED,
        "limit": limit,
        "sessions": sorted(chosen.items()),
    }
    return Protocol(
        dataset=dataset, folds=folds, classes=("0", "1"), transforms=list(data.get("transforms") or ()),
        promises={
            "new_subject": split == "cross_subject", "banned": list(BANNED),
            "shared_stimuli": "words of one film are shown to everyone",
        },
        split_hash=hash_of(rule), split_name=f"neuroprobe {split}",
    )  # fmt: skip


Held = tuple[str, list[Item]]


def _pairs(held: Mapping[tuple[str, int], Held], split: str, train_on: tuple[int, int]) -> list[tuple[str, Held, Held]]:
    """(name, training items, test items); test = the second half of what is not trained on, the first is validation."""
    out: list[tuple[str, Held, Held]] = []
    for (subject, trial), (recording, items) in held.items():
        name = f"session {subject}/trial{trial:03d}"
        if split == "within_session":
            half = len(items) // 2
            for k, (train, rest) in enumerate(((items[half:], items[:half]), (items[:half], items[half:]))):
                out.append((f"half {k + 1} of {name}", (recording, train), (recording, rest[len(rest) // 2 :])))
            continue
        test = (recording, items[len(items) // 2 :])
        if split == "cross_session":
            others = [v for (s, t), v in held.items() if s == subject and t != trial]
            out += [(name, other, test) for other in others[:1]]
        elif subject != str(train_on[0]) and (str(train_on[0]), train_on[1]) in held:
            out.append((name, held[str(train_on[0]), train_on[1]], test))
    return out


def _fold(dataset: Dataset, name: str, train: Held, test: Held) -> Fold:
    tested = sorted(i.start_s for i in test[1]) if train[0] == test[0] else []

    def touches(start: float) -> bool:
        k = bisect.bisect_left(tested, start - WINDOW_S + 1e-6)
        return k < len(tested) and tested[k] < start + WINDOW_S - 1e-6

    kept = [i for i in train[1] if not touches(i.start_s)]
    if not kept:
        raise DataError(f"{dataset.path}: every training window of {name} touches a tested one; take more data")
    spans = [Span(train[0], i.start_s, i.start_s + WINDOW_S) for i in kept]
    return Fold(
        name=name, train=_windows(dataset, train[0], kept), test=_windows(dataset, *test),
        train_labels=[str(i.label) for i in kept], test_labels=[str(i.label) for i in test[1]], fit_spans=spans,
        left_out=len(train[1]) - len(kept),
    )  # fmt: skip


def _windows(dataset: Dataset, recording_id: str, items: Sequence[Item]) -> list[Window]:
    rate = dataset.rate_hz(recording_id)
    origin = dataset.valid(recording_id)
    out = []
    for i in items:
        a = max(a for a, _ in origin if a <= i.start_s + 1e-9)
        out.append(Window(recording_id, a + round((i.start_s - a) * rate) / rate, round(WINDOW_S * rate)))
    return out
