"""The audit of a retriever looks at everything that it, and what it was adapted from, was trained on."""

from types import SimpleNamespace

import pytest

from neurofm.benchmarks.guards.audit import refuse_on_leak
from neurofm.benchmarks.retrieval.scores import audit_retriever
from neurofm.data.splits.spans import Span, Split
from neurofm.schema.errors import DataError

TEST = [Span("new_test", 0.0, 1.0, "t1"), Span("new_test", 2.0, 3.0, "t2")]
OTHERS = [["old_train", 0.0, 1.0, "a"], ["old_train", 2.0, 3.0, "b"]]
OWN = [["new_train", 0.0, 1.0, "a"]]


def leaks(*, own=OWN, before=OTHERS, role="adaptation"):
    """What is found; `before` is what the model it was adapted from saw, `None` = it was trained from nothing."""
    card = {"split": {"spans": own}, "subjects": ["d/new"], "role": role}
    if before is not None:
        # two steps back
        first = {"split": {"spans": before}, "subjects": ["d/old"]}
        card["pretrained"] = {
            "split": {"spans": [["old_train", 4.0, 5.0, "c"]]},
            "subjects": ["d/old"],
            "pretrained": first,
        }
    names = ["new_test", "new_train", "old_train"]
    dataset = SimpleNamespace(recordings=names, subject=lambda r: r.partition("_")[0], content=lambda r: "")
    split = Split(parts={"train": [Span(*s) for s in OTHERS], "test": TEST}, rule="r", seed=0)
    findings = audit_retriever(
        SimpleNamespace(card={"provenance": card}), SimpleNamespace(dataset=dataset, split=split)
    )
    return [f for f in findings if f.severity == "leak"]


def test_clean_models_pass():
    assert leaks() == []
    assert leaks(role="", before=None, own=OTHERS) == []


@pytest.mark.parametrize(
    ("case", "check"),
    [
        (dict(before=[["new_test", 0.5, 1.5, "t1"]]), "interval"),
        (dict(before=[["old_train", 0.0, 1.0, "t2"]]), "stimulus"),
        (dict(own=[["new_test", 2.0, 3.0, "t2"]]), "interval"),
        (dict(own=[["new_train", 8.0, 9.0, "t1"]], before=None, role=""), "stimulus"),
    ],
)
def test_what_was_seen_at_any_step_is_a_leak(case, check):
    found = leaks(**case)
    assert check in {f.check for f in found}
    with pytest.raises(DataError):
        refuse_on_leak(found, allow_leak="")
