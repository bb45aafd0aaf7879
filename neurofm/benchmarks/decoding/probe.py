"""A checkpoint in a decoding benchmark: its features frozen, read out by logistic or ridge regression, and audited."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurofm.benchmarks.decoding.folds import Fold
from neurofm.benchmarks.guards.audit import Finding, audit
from neurofm.data.dataset import Dataset
from neurofm.data.loading.loader import WindowLoader
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import Compose, transform_from_json
from neurofm.data.windows import Window
from neurofm.hub.load import load_model
from neurofm.schema.errors import ConfigError, nearest

KEYS = ("checkpoint", "penalty", "baseline", "note")
# a corpus → those whose recordings of the same people it holds; TUH corpora share their subject names
HOLDS = {"tueg": ("tuab", "tuev", "tusl", "tusz", "tuar", "tuep")}


class Probe:
    """Frozen features of a checkpoint and a linear read-out.

    Parameters
    ----------
    spec : mapping
        ``{checkpoint: runs/…/model, penalty: 1.0}``; `penalty` is that of the read-out on standardised features.
    name : str
        For messages.
    allow_import : bool
        Whether its card may name classes by import path.
    """

    def __init__(self, spec: Mapping[str, Any], name: str, *, allow_import: bool = False) -> None:
        for key in spec:
            if key not in KEYS:
                raise ConfigError(f"model '{name}' has no key '{key}': {nearest(key, KEYS)}")
        self.loaded = load_model(spec["checkpoint"], allow_import=allow_import)
        self.penalty, self.name = float(spec.get("penalty", 1.0)), name
        self.sha256: str = self.loaded.card["weights"]["sha256"]
        self._transform = Compose()
        self._head: Any = None

    def seen(self) -> list[dict[str, Any]] | None:
        """Provenance of it and of all it was made from, nearest first; None when its card has none."""
        own = self.loaded.card.get("provenance") or {}
        found = []
        while own:
            if "split" in own:
                found.append(own)
            own = own.get("pretrained") or {}
        return found or None

    def fit(self, dataset: Dataset, fold: Fold, y: NDArray) -> Probe:
        """Fit its transforms and the read-out on a fold's training part."""
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._transform = Compose(transforms=[transform_from_json(t) for t in self.loaded.transforms])
        self._transform.fit(dataset, fold.fit_spans, allowed=fold.fit_spans)
        head = (
            Ridge(alpha=self.penalty) if y.dtype.kind == "f" else LogisticRegression(C=1 / self.penalty, max_iter=2000)
        )
        self._head = make_pipeline(StandardScaler(), head).fit(self._features(dataset, fold.train), y)
        return self

    def answers(
        self, dataset: Dataset, windows: Sequence[Window], classes: Sequence[str]
    ) -> tuple[NDArray, NDArray[np.float64] | None]:
        """Predictions, and scores (N, K) in the order of `classes`."""
        features = self._features(dataset, windows)
        predicted = self._head.predict(features)
        if not classes:
            return predicted, None
        said, known = self._head.predict_log_proba(features), [str(c) for c in self._head.classes_]
        out = np.full((len(windows), len(classes)), -1e9)
        for k, c in enumerate(classes):
            if c in known:
                out[:, k] = said[:, known.index(c)]
        return predicted, out

    def _features(self, dataset: Dataset, windows: Sequence[Window]) -> NDArray[np.float64]:
        facts, model = self.loaded.facts, self.loaded.model
        rate = dataset.rate_hz(windows[0].recording_id)
        if abs(rate - facts.rate_hz) > 1e-6 * rate:
            raise ConfigError(
                f"model '{self.name}' was trained at {facts.rate_hz:g} Hz, {dataset.path} has {rate:g}; prepare it alike"
            )
        # the targets belong to the read-out, not to the model
        plain = [w._replace(target=None) for w in windows]
        loader = WindowLoader(
            dataset, plain, batch_size=min(64, len(plain)), transforms=self._transform, facts=facts,
            shuffle=False,
        )  # fmt: skip
        with torch.inference_mode():
            found = [model.pool(model(batch)).float().numpy() for batch in loader]
        return np.concatenate(found).astype(np.float64)


def audit_checkpoint(
    probe: Probe, dataset: Dataset, test: Iterable[Mapping[str, Any]], promises: Mapping[str, Any]
) -> list[Finding]:
    """Look for the test part in everything that a checkpoint says it was trained on.

    By time and recording, by values under another name, by the person where the protocol promises new people or the
    corpus it was trained on holds this dataset's, and by what the protocol bans.
    """
    before = probe.seen()
    tested = list(test)
    subject_of = {r: dataset.subject(r) for r in dataset.recordings}
    # the same recordings may have been prepared otherwise, under another id
    same = {dataset.id, *(d["id"] for one in before or [] for d in one.get("datasets", []) if _cites(d, dataset))}
    spans = None
    if before is not None:
        spans = [_known_as(Span(*s), same, dataset) for one in before for s in one["split"]["spans"]]
    content: dict[str, str] = {r: h for r in dataset.recordings if (h := dataset.content(r))}
    people = set()
    for one in before or []:
        content |= one.get("content", {})
        for full in one.get("subjects", []):
            owner, _, person = str(full).rpartition("/")
            if owner in same or dataset.id in HOLDS.get(owner, ()):
                people.add(person)
    new_people = bool(promises.get("new_subject")) or any(
        dataset.id in HOLDS.get(d["id"], ()) for one in before or [] for d in one.get("datasets", [])
    )
    found = audit(
        train=spans, test=tested, subject_of=subject_of, content_of=content, train_subjects=people, new_subject=new_people,
        gap_s=float(promises.get("gap_s", 0.0)),
    )  # fmt: skip
    banned = [str(b) for b in promises.get("banned") or ()]
    if banned and spans is not None:
        found.append(_ban(spans, banned, dataset))
    return [Finding(severity=f.severity, check=f.check, message=f"{probe.name}: {f.message}") for f in found]


def _cites(member: Mapping[str, Any], dataset: Dataset) -> bool:
    return bool(member.get("citation")) and member["citation"] == dataset.manifest.citation


def _known_as(span: Span, ids: set[str], dataset: Dataset) -> Span:
    """The span under the name that the dataset gives its recordings."""
    for other in ids - {dataset.id}:
        if span.recording_id.startswith(other):
            return span._replace(recording_id=dataset.id + span.recording_id[len(other) :])
    return span


def _ban(spans: Sequence[Span], banned: Sequence[str], dataset: Dataset) -> Finding:
    """Refuse a checkpoint that has seen a session which nobody may pretrain on, in any span of it."""
    hits = set()
    for recording in {s.recording_id for s in spans}:
        found = re.search(r"sub-([^_]+)_ses-([^_]+)", recording)
        if found and recording.startswith(dataset.id) and f"{found[1]}/{found[2]}" in banned:
            hits.add(f"{found[1]}/{found[2]}")
    if hits:
        return Finding(
            severity="leak", check="ban",
            message=f"it was trained on {', '.join(sorted(hits))}, which the benchmark bans from pretraining.",
        )  # fmt: skip
    return Finding(severity="ok", check="ban", message="it saw no session that is banned from pretraining.")
