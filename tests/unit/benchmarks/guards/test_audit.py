from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurofm.benchmarks.guards.audit import Finding, audit, negative_control, overlaps, refuse_on_leak
from neurofm.schema.errors import DataError

PEOPLE = {"run-1": "sub-1", "run-2": "sub-2", "run-3": "sub-3"}


def span(recording: str, start: float, stop: float, stimulus: str = "") -> dict:
    return {"recording_id": recording, "start_s": start, "stop_s": stop, "stimulus_id": stimulus}


def leaks(findings: list[Finding]) -> list[str]:
    return [f.check for f in findings if f.severity == "leak"]


def test_a_clean_new_subject_split_passes() -> None:
    findings = audit(
        train=[span("run-1", 0, 864), span("run-2", 0, 864)], calibration=[span("run-3", 0, 36)],
        test=[span("run-3", 432, 864)], subject_of=PEOPLE, train_subjects=["sub-1"], new_subject=True,
        chronological=True, gap_s=10, content_of={r: r for r in PEOPLE},
    )  # fmt: skip
    assert leaks(findings) == []
    refuse_on_leak(findings)
    assert {"interval", "subject", "order", "content"} == {f.check for f in findings}


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"train": [span("run-3", 800, 900)]}, "interval"),
        ({"calibration": [span("run-3", 0, 433)]}, "interval"),
        ({"train": [span("run-3", 0, 30)], "new_subject": True}, "subject"),
        ({"train_subjects": ["sub-3"], "new_subject": True}, "subject"),
        ({"calibration": [span("run-3", 900, 950)], "chronological": True}, "order"),
        ({"calibration": [span("run-3", 0, 428)], "gap_s": 5.0}, "interval"),
        ({"train": [span("run-1", 0, 9, "face-07")], "new_stimulus": True}, "stimulus"),
        ({"content_of": {"run-1": "same", "run-3": "same"}}, "interval"),
        ({"content_of": {"run-1": "same", "run-3": "same"}, "train": [span("run-1", 0, 9)]}, "content"),
    ],
)
def test_every_planted_leak_is_found_and_refused(changes: dict, check: str) -> None:
    clean = {"train": [span("run-1", 0, 864)], "test": [span("run-3", 432, 864, "face-07")], "subject_of": PEOPLE}
    assert leaks(audit(**clean)) == []
    findings = audit(**{**clean, **changes})
    assert check in leaks(findings)
    with pytest.raises(DataError, match="allow_leak=REASON"):
        refuse_on_leak(findings)
    refuse_on_leak(findings, allow_leak="to see how large it is")


def test_unknown_provenance_is_a_warning_and_an_empty_test_or_unknown_subject_an_error() -> None:
    findings = audit(train=None, test=[span("run-3", 0, 1)], subject_of=PEOPLE)
    assert [f.check for f in findings if f.severity == "warning"] == ["provenance"]
    with pytest.raises(DataError, match="empty"):
        audit(train=[], test=[], subject_of=PEOPLE)
    with pytest.raises(DataError, match="'run-9'"):
        audit(train=[], test=[span("run-9", 0, 1)], subject_of=PEOPLE)
    with pytest.raises(DataError, match="not after"):
        overlaps([span("run-1", 2, 2)], [span("run-1", 0, 1)])


def test_touching_spans_share_nothing_and_objects_are_spans_too() -> None:
    a = SimpleNamespace(recording_id="run-1", start_s=0.0, stop_s=10.0, stimulus_id="")
    assert overlaps([a], [span("run-1", 10, 20)]) == []
    assert overlaps([a], [span("run-1", 9.5, 20)]) == [("run-1", "run-1", 9.5, 10.0)]


_spans = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 10)).map(
        lambda v: span(v[0], v[1], v[1] + v[2])
    ),
    max_size=6,
)


@given(_spans, _spans)
def test_overlap_equals_a_count_of_samples(train: list[dict], test: list[dict]) -> None:
    found = sum(stop - start for *_, start, stop in overlaps(train, test))
    slow = sum(
        1 for a in train for b in test for t in range(50)
        if a["recording_id"] == b["recording_id"]
        and max(a["start_s"], b["start_s"]) <= t < min(a["stop_s"], b["stop_s"])
    )  # fmt: skip
    assert found == pytest.approx(slow)


def test_negative_control_limits() -> None:
    assert negative_control("SelfRegulationSCP2", 112, 180).severity == "leak"
    assert negative_control("SelfRegulationSCP2", 86, 180).severity == "ok"
    assert negative_control("EyesOpenShut", 32, 42).severity == "leak"
    rng = np.random.default_rng(0)
    flagged = [negative_control("x", int(k), 180).severity == "leak" for k in rng.binomial(180, 0.5, 2000)]
    assert np.mean(flagged) < 0.004
