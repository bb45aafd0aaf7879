"""Does anything that is tested appear in what was trained on? Intersections of time, people, stimuli and contents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from neurofm.benchmarks.stats.intervals import binomial_p
from neurofm.schema.errors import DataError

Severity = Literal["leak", "warning", "ok"]
NEGATIVE_CONTROL_ALPHA = 0.001


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was checked.

    Attributes
    ----------
    severity : str
        "leak" refuses the benchmark, "warning" is printed in the report, "ok" says that the check was made.
    check : str
        "interval", "subject", "stimulus", "content", "order", "provenance" or "negative control".
    message : str
        One sentence for people.
    """

    severity: Severity
    check: str
    message: str


def _spans(rows: Iterable[Any]) -> list[tuple[str, float, float, str]]:
    """Rows as (recording, start, stop, stimulus); mappings and objects with these attributes are both taken."""
    out = []
    for row in rows:
        get = row.get if isinstance(row, Mapping) else lambda key, default=None, row=row: getattr(row, key, default)
        recording, start, stop = get("recording_id"), get("start_s"), get("stop_s")
        if recording is None or start is None or stop is None:
            raise DataError(f"span {row!r}: expected recording_id, start_s and stop_s")
        if not stop > start:
            raise DataError(f"span of {recording}: stop_s={stop} is not after start_s={start}")
        out.append((str(recording), float(start), float(stop), str(get("stimulus_id") or "")))
    return out


def overlaps(
    train: Iterable[Any], test: Iterable[Any], *, alias: Mapping[str, str] | None = None, tolerance_s: float = 1e-9
) -> list[tuple[str, str, float, float]]:
    """Every stretch of time that is in both: (train recording, test recording, start_s, stop_s).

    Spans are half-open, so a test span that starts where training stops shares nothing with it.

    Parameters
    ----------
    train, test : iterable of span
        Mappings or objects with recording_id, start_s, stop_s.
    alias : mapping, optional
        Recording → content hash; recordings with equal content are one, whatever their names.
    tolerance_s : float
        Shared stretches up to this long are rounding.
    """
    same = alias or {}
    by_recording: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for recording, start, stop, _ in _spans(train):
        by_recording[same.get(recording, recording)].append((start, stop, recording))
    for spans in by_recording.values():
        spans.sort()
    found = []
    for recording, start, stop, _ in _spans(test):
        for a, b, name in by_recording.get(same.get(recording, recording), ()):
            if a >= stop:
                break
            low, high = max(a, start), min(b, stop)
            if high - low > tolerance_s:
                found.append((name, recording, low, high))
    return found


def audit(
    *,
    train: Iterable[Any] | None,
    test: Iterable[Any],
    subject_of: Mapping[str, str],
    calibration: Iterable[Any] = (),
    train_subjects: Iterable[str] = (),
    content_of: Mapping[str, str] | None = None,
    new_subject: bool = False,
    new_stimulus: bool = False,
    chronological: bool = False,
    gap_s: float = 0.0,
) -> list[Finding]:
    """Check one test part against all that the decoder has seen.

    Parameters
    ----------
    train : iterable of span, or None
        What the checkpoint was pretrained on, from its card; None when the card does not say.
    test : iterable of span
        What will be scored.
    subject_of : mapping
        Recording → subject, for at least the tested recordings.
    calibration : iterable of span
        What it was fine-tuned and its transforms were fitted on. The tested person is allowed here, the tested time is
        not.
    train_subjects : iterable of str
        People named by the card; added to those of the spans.
    content_of : mapping, optional
        Recording → hash of its content, of both sides: finds the same recording under another name.
    new_subject, new_stimulus, chronological : bool
        What the protocol promises: the tested person, or the tested stimuli, are new to pretraining; calibration lies
        before the test in time.
    gap_s : float
        Smallest distance between seen and tested spans of one recording that the protocol promises.
    """
    tested, fitted = list(test), list(calibration)
    if not tested:
        raise DataError("audit: the test part is empty")
    test_spans = _spans(tested)
    names = sorted({recording for recording, *_ in test_spans})
    unknown = [recording for recording in names if recording not in subject_of]
    if unknown:
        raise DataError(f"audit: the subject of recording '{unknown[0]}' is not known; add it to subject_of")
    findings = []
    if train is None:
        findings.append(
            Finding(
                severity="warning", check="provenance",
                message="The checkpoint does not say what it was trained on, so overlap with the test part "
                "cannot be excluded.",
            )
        )  # fmt: skip
    seen_by_role = {"pretraining": list(train or ()), "calibration": fitted}
    for role, seen in seen_by_role.items():
        findings += _interval_findings(role, seen, tested, content_of or {}, gap_s)
    pretrained = _spans(seen_by_role["pretraining"])
    if content_of:
        findings.append(_content_finding(pretrained + _spans(fitted), names, content_of))
    if new_subject:
        people = {subject_of[r] for r, *_ in pretrained if r in subject_of} | {str(s) for s in train_subjects}
        findings.append(_subject_finding(people, {subject_of[r] for r in names}))
    if new_stimulus:
        findings.append(_stimulus_finding(pretrained + _spans(fitted), test_spans))
    if chronological:
        findings.append(_order_finding(_spans(fitted), test_spans))
    return findings


def _interval_findings(
    role: str, seen: list[Any], test: list[Any], content_of: Mapping[str, str], gap_s: float
) -> list[Finding]:
    shared = overlaps(seen, test, alias=content_of)
    if shared:
        name, _, start, stop = shared[0]
        total = sum(b - a for *_, a, b in shared)
        return [
            Finding(
                severity="leak", check="interval",
                message=f"{total:.3f} s of the test part were seen in {role}: first {name}, {start:.3f}–{stop:.3f} s.",
            )
        ]  # fmt: skip
    if gap_s > 0:
        wide = [
            {"recording_id": r, "start_s": a - gap_s, "stop_s": b + gap_s, "stimulus_id": s}
            for r, a, b, s in _spans(test)
        ]
        near = overlaps(seen, wide, alias=content_of)
        if near:
            return [
                Finding(
                    severity="leak", check="interval",
                    message=f"{role} comes within {gap_s:g} s of the test part in {near[0][0]}; "
                    "the protocol promises that gap.",
                )
            ]  # fmt: skip
    return [Finding(severity="ok", check="interval", message=f"No tested sample was seen in {role}.")]


def _content_finding(
    seen: list[tuple[str, float, float, str]], test: list[str], content_of: Mapping[str, str]
) -> Finding:
    by_content = {content_of[r]: r for r, *_ in seen if r in content_of and r not in test}
    copies = [(r, by_content[content_of[r]]) for r in test if content_of.get(r) in by_content]
    if copies:
        return Finding(
            severity="leak", check="content",
            message=f"Tested recording {copies[0][0]} has the same content as {copies[0][1]}, which was trained on.",
        )  # fmt: skip
    return Finding(severity="ok", check="content", message="No tested recording was trained on under another name.")


def _subject_finding(train: set[str], test: set[str]) -> Finding:
    both = sorted(train & test)
    if both:
        return Finding(
            severity="leak", check="subject",
            message=f"The protocol tests new people, but {', '.join(both[:5])} took part in pretraining.",
        )  # fmt: skip
    return Finding(severity="ok", check="subject", message=f"None of the {len(test)} tested people was pretrained on.")


def _stimulus_finding(seen: list[tuple[str, float, float, str]], test: list[tuple[str, float, float, str]]) -> Finding:
    both = sorted({s for *_, s in seen if s} & {s for *_, s in test if s})
    if both:
        return Finding(
            severity="leak", check="stimulus",
            message=f"The protocol tests new stimuli, but {len(both)} of them were trained on, first '{both[0]}'.",
        )  # fmt: skip
    if not any(s for *_, s in test):
        return Finding(
            severity="warning", check="stimulus", message="Tested spans name no stimulus, so none was compared."
        )
    return Finding(severity="ok", check="stimulus", message="No tested stimulus was trained on.")


def _order_finding(
    calibration: list[tuple[str, float, float, str]], test: list[tuple[str, float, float, str]]
) -> Finding:
    first: dict[str, float] = {}
    for recording, start, *_ in test:
        first[recording] = min(start, first.get(recording, start))
    late = [(r, stop) for r, _, stop, _ in calibration if r in first and stop > first[r] + 1e-9]
    if late:
        return Finding(
            severity="leak", check="order",
            message=f"Calibration on {late[0][0]} runs until {late[0][1]:.3f} s, after its test starts "
            f"({first[late[0][0]]:.3f} s).",
        )  # fmt: skip
    return Finding(severity="ok", check="order", message="Calibration lies before the test in time.")


def negative_control(name: str, n_correct: int, n_trials: int, *, chance: float = 0.5) -> Finding:
    """Judge a set without transferable signal: exact binomial p < .001 there means that something leaks."""
    p = binomial_p(n_correct, n_trials, chance=chance)
    score = f"{name}: {n_correct} of {n_trials} right ({n_correct / n_trials:.3f}), exact binomial p = {p:.2g}"
    if p < NEGATIVE_CONTROL_ALPHA:
        return Finding(severity="leak", check="negative control", message=f"{score}; this control has no signal.")
    return Finding(severity="ok", check="negative control", message=f"{score}; at chance, as it must be.")


def refuse_on_leak(findings: Iterable[Finding], *, allow_leak: str = "") -> None:
    """Stop when a finding is a leak.

    Parameters
    ----------
    findings : iterable of Finding
    allow_leak : str
        The user's reason for going on all the same; the report prints it.

    Raises
    ------
    DataError
        Naming every leak and how to go on.
    """
    leaks = [f.message for f in findings if f.severity == "leak"]
    if leaks and not allow_leak.strip():
        raise DataError(f"refused, the test leaks: {' '.join(leaks)} To score it all the same, pass allow_leak=REASON.")
