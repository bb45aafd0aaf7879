"""The folds of a benchmark of one dataset: windows and labels of their training and test parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurofm.benchmarks.guards.audit import Finding
from neurofm.benchmarks.guards.folds import same_twice
from neurofm.data.corpus import Corpus, open_corpus
from neurofm.data.dataset import Dataset
from neurofm.data.splits.files import check_rule, folds_of, rule_hash
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import Compose
from neurofm.data.windows import Window
from neurofm.schema.errors import DataError


@dataclass(kw_only=True)
class Fold:
    """One training part and one test part.

    Attributes
    ----------
    name : str
        "subject A01", "fold 3 of 10".
    train, test : list of Window
    train_labels, test_labels : list
        Class name or value of each.
    fit_spans : list of Span
        What transforms may be fitted on.
    left_out : int
        Training windows that were dropped because they touch the test.
    """

    name: str
    train: list[Window]
    test: list[Window]
    train_labels: list[Any]
    test_labels: list[Any]
    fit_spans: list[Span]
    left_out: int = 0


@dataclass(kw_only=True)
class Protocol:
    """What is asked, of whom, and what was promised: everything of a benchmark but the models.

    Attributes
    ----------
    dataset : Dataset
    folds : list of Fold
    classes : tuple of str
        Empty for values.
    transforms : list of mapping
        Fitted anew on each fold's training part.
    promises : mapping
        As in `data.splits.files`.
    split_hash, split_name : str
    findings : list of Finding
        On how the folds were made.
    """

    dataset: Dataset
    folds: list[Fold]
    classes: tuple[str, ...]
    transforms: Sequence[Mapping[str, Any]] = ()
    promises: Mapping[str, Any] = field(default_factory=dict)
    split_hash: str = ""
    split_name: str = ""
    findings: list[Finding] = field(default_factory=list)

    def transform(self, fold: Fold) -> Compose | None:
        """Fit the transforms on a fold's training part, and on nothing outside it."""
        if not self.transforms:
            return None
        made = Compose(transforms=[dict(t) for t in self.transforms])
        made.fit(self.dataset, fold.fit_spans, allowed=fold.fit_spans)
        return made


def protocol_of(
    *,
    data: Mapping[str, Any],
    task: Mapping[str, Any],
    split: Mapping[str, Any],
    relabel: Mapping[str, str | None] | None = None,
    target: str = "class",
) -> Protocol:
    """Make the folds of a dataset.

    Parameters
    ----------
    data, task : mapping
        As in `conf/data` (without a split) and `conf/task`.
    split : mapping
        A rule as in `data.splits.files`.
    relabel : mapping of str to str or None, optional
        Label in the data → class; None leaves such windows out; what is not named keeps its name.
    target : str
        "class", or "value": the value of the event that a window of windows=event belongs to.
    """
    rule = check_rule(split, "split")
    raw_data = {**data, "transforms": ()}
    first = open_corpus(raw_data, task, split={"rule": "everything"})
    dataset = first.dataset
    splits = folds_of(dataset, rule)
    finding = same_twice(lambda: folds_of(dataset, rule))
    names = dict(relabel or {})
    asked = replace(first.task, labels=first.task.labels and target != "value")
    # names of classes only, of whatever part they occur in, and no count of them
    raw = () if target == "value" else asked.classes_of(dataset, first.split["pretrain"])
    asked = replace(asked, classes=raw or None)
    classes = tuple(dict.fromkeys(c for k in raw if (c := names.get(k, k)) is not None))
    folds = []
    for name, made in splits.items():
        corpus = open_corpus(raw_data, asked, path=dataset, split=made)
        parts = {part: _labelled(corpus, part, raw, names, target) for part in ("train", "test")}
        folds.append(
            Fold(
                name=name, train=parts["train"][0], train_labels=parts["train"][1], test=parts["test"][0],
                test_labels=parts["test"][1], fit_spans=made["train"],
            )
        )  # fmt: skip
    return Protocol(
        dataset=dataset, folds=folds, classes=classes, transforms=list(data.get("transforms") or ()),
        promises=dict(rule.get("promises") or {}), split_hash=rule_hash(rule), split_name=str(rule.get("name", "")),
        findings=[finding],
    )  # fmt: skip


def _labelled(
    corpus: Corpus, part: str, raw: Sequence[str], names: Mapping[str, str | None], target: str
) -> tuple[list[Window], list[Any]]:
    windows = corpus.cut(part, corpus.facts(part))
    if target == "value":
        pairs: list[tuple[Window, Any]] = list(_values(corpus, windows))
    else:
        found = ((w, names.get(raw[int(w.target)], raw[int(w.target)])) for w in windows if w.target is not None)
        pairs = [(w, label) for w, label in found if label is not None]
    if not pairs:
        raise DataError(f"{corpus.dataset.path}: part '{part}' holds no labelled window; check task and relabel")
    # jitter is for training a network of ours; here both parts are cut where they are
    return [w._replace(slack_samples=0) for w, _ in pairs], [label for _, label in pairs]


def _values(corpus: Corpus, windows: Sequence[Window]) -> Iterator[tuple[Window, float]]:
    """Value of the event whose window this is, where it has one."""
    for w in windows:
        onset = w.start_s - corpus.task.offset_s
        tolerance = 0.51 / corpus.dataset.rate_hz(w.recording_id)
        for e in corpus.dataset.events(w.recording_id):
            if (
                e["kind"] == corpus.task.label_kind
                and abs(e["onset_s"] - onset) <= tolerance
                and np.isfinite(e["value"])
            ):
                yield w, float(e["value"])
                break
