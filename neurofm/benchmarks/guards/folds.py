"""What must hold of a fold before anything is scored on it: each function looks for one pitfall of `pitfalls`.

`audit` looks at what a checkpoint saw before; these look at the two parts of a fold itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.decoding.examples import Examples
from neurofm.benchmarks.guards.audit import Finding, audit

# robust amplitude in µV that a recording of this kind can have; ten times more or less is another unit
AMPLITUDE_UV = {"eeg": (1.0, 500.0), "seeg": (1.0, 5000.0), "ecog": (1.0, 5000.0)}
# labels in stretches this many times longer than chance would make them are blocks
LONG_RUNS = 3.0


def guard_fold(train: Examples, test: Examples, *, promises: Mapping[str, Any] | None = None) -> list[Finding]:
    """Check the two parts of a fold against each other.

    Parameters
    ----------
    train, test : Examples
    promises : mapping, optional
        new_subject (bool), gap_s (float), shared_stimuli (why the same stimuli are in both parts, "" = they are not).
    """
    promised = dict(promises or {})
    subject_of = {str(r): str(s) for e in (train, test) for r, s in zip(e.recording_id, e.subject, strict=True)}
    found = [
        f
        for f in audit(
            train=train.spans(), test=test.spans(), subject_of=subject_of, gap_s=float(promised.get("gap_s", 0.0)),
            new_subject=bool(promised.get("new_subject")),
        )
        if f.check in ("interval", "subject")
    ]  # fmt: skip
    # the fold's own training part, not a pretraining
    found = [_reworded(f) for f in found if "calibration" not in f.message]
    found += [
        stimuli(train, test, str(promised.get("shared_stimuli") or "")),
        blocks(train, test),
        same_values(train, test),
        repeated(test),
        units(train, test),
        finite(train, test),
    ]
    return found


def _reworded(f: Finding) -> Finding:
    said = f.message.replace("seen in pretraining", "in the training part").replace("in pretraining", "in training")
    return Finding(severity=f.severity, check=f.check, message=said.replace("pretraining", "the training part"))


def stimuli(train: Examples, test: Examples, reason: str = "") -> Finding:
    """Refuse a stimulus that is in training and test, unless the protocol says why it must be."""
    both = sorted((set(train.stimulus) & set(test.stimulus)) - {""})
    if not both:
        return Finding(severity="ok", check="stimulus", message="No tested stimulus was trained on.")
    if reason:
        return Finding(
            severity="warning", check="stimulus",
            message=f"{len(both)} stimuli are in training and in test, as the protocol has it: {reason}.",
        )  # fmt: skip
    return Finding(
        severity="leak", check="stimulus",
        message=f"{len(both)} stimuli are in training and in test, first '{both[0]}': a repetition of one seen is no new "
        "stimulus.",
    )  # fmt: skip


def blocks(train: Examples, test: Examples) -> Finding:
    """Refuse a label that is constant over stretches of time which training and test share.

    Two examples share a stretch when they lie in one recording and no other label lies between them. Stretches count
    where they are `LONG_RUNS` times longer than labels in random order would make them, 1 / (1 − Σ p²). Lengths are in
    stimuli: the windows of one clip have one label by its nature, and count once.
    """
    y = np.concatenate([train.y, test.y])
    if y.dtype.kind == "f":
        return Finding(severity="ok", check="block", message="Values, not classes: blocks do not apply.")
    recording = np.concatenate([train.recording_id, test.recording_id])
    start = np.concatenate([train.start_s, test.start_s])
    stimulus = np.concatenate([train.stimulus, test.stimulus])
    tested = np.arange(len(y)) >= len(train)
    order = np.lexsort((start, recording))
    y, recording, tested, stimulus = y[order], recording[order], tested[order], stimulus[order]
    new = np.ones(len(y), bool)
    new[1:] = (y[1:] != y[:-1]) | (recording[1:] != recording[:-1])
    run = np.cumsum(new) - 1
    share = float(np.isin(run[tested], run[~tested]).mean())
    own = new | (stimulus == "")
    own[1:] |= stimulus[1:] != stimulus[:-1]
    p = np.unique(y[own], return_counts=True)[1] / own.sum()
    chance = 1 / max(1e-9, 1 - float((p**2).sum()))
    length = own.sum() / (run[-1] + 1)
    if len(p) > 1 and share > 0.5 and length > LONG_RUNS * chance:
        return Finding(
            severity="leak", check="block",
            message=f"{share:.0%} of the test lies in a stretch of one label that training lies in too ({length:.1f} trials "
            f"on average, {chance:.1f} in random order): time alone tells the label.",
        )  # fmt: skip
    return Finding(severity="ok", check="block", message="Training and test share no stretches of one label.")


def same_values(train: Examples, test: Examples) -> Finding:
    """Refuse windows of test whose stored values stand in training too: a trial copied before the split."""
    both = np.isin(test.digest, train.digest)
    if both.any():
        i = int(np.flatnonzero(both)[0])
        j = int(np.flatnonzero(train.digest == test.digest[i])[0])
        return Finding(
            severity="leak", check="resampling",
            message=f"{both.sum()} test windows hold the same values as training windows, first {test.recording_id[i]} at "
            f"{test.start_s[i]:g} s and {train.recording_id[j]} at {train.start_s[j]:g} s: copies were made before the split.",
        )  # fmt: skip
    return Finding(severity="ok", check="resampling", message="No window of test is a copy of one in training.")


def repeated(test: Examples) -> Finding:
    """Refuse a test part that holds a window twice: classes were balanced by repetition before scoring."""
    keys = np.char.add(np.char.add(test.recording_id.astype(str), "@"), test.start_s.astype(str))
    twice = len(keys) - len(np.unique(keys))
    if twice:
        return Finding(
            severity="leak", check="resampling", message=f"{twice} windows occur more than once in the test part."
        )
    return Finding(severity="ok", check="resampling", message="No window occurs twice in the test part.")


def units(train: Examples, test: Examples) -> Finding:
    """Refuse amplitudes that no recording in the stated unit has."""
    limits = [AMPLITUDE_UV[k] for k in {*train.kinds, *test.kinds} if k in AMPLITUDE_UV]
    for part in (train, test):
        value = part.amplitude.get("uV")
        if value is None or not limits:
            continue
        low, high = min(a for a, _ in limits), max(b for _, b in limits)
        if not low <= value <= high:
            return Finding(
                severity="leak", check="unit",
                message=f"The robust amplitude is {value:.3g} µV, expected {low:g} to {high:g}: the unit is wrong.",
            )  # fmt: skip
    return Finding(severity="ok", check="unit", message="Amplitudes fit the stated units.")


def finite(train: Examples, test: Examples) -> Finding:
    """Refuse values that are not finite."""
    bad = sum(int((~np.isfinite(e.x)).any(axis=(1, 2)).sum()) for e in (train, test))
    if bad:
        return Finding(severity="leak", check="finite", message=f"{bad} windows hold values that are not finite.")
    return Finding(severity="ok", check="finite", message="All values are finite.")


def same_twice(make: Callable[[], Mapping[str, Any]]) -> Finding:
    """Refuse a split that comes out different when it is made again."""
    first, second = ({k: v.hash for k, v in made.items()} for made in (make(), make()))
    if first != second:
        changed = sorted(k for k in {*first, *second} if first.get(k) != second.get(k))
        return Finding(
            severity="leak", check="determinism",
            message=f"The split differs when it is made twice, first in '{changed[0]}': no result on it can be repeated.",
        )  # fmt: skip
    return Finding(severity="ok", check="determinism", message="The split is the same when it is made again.")


def silent_parts(test: Examples, classes: NDArray) -> Finding:
    """Say which classes never occur in the test part."""
    absent = [str(c) for c in classes if c not in set(test.y)]
    if absent:
        return Finding(severity="warning", check="classes", message=f"Never in a test part: {', '.join(absent)}.")
    return Finding(severity="ok", check="classes", message="Every class is tested.")
