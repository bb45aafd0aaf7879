"""A dataset seen through a split, a task and transforms: everything between shards and batches that is a choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from neurofm.data.collate import channel_vocabulary, describe
from neurofm.data.index import Dataset
from neurofm.data.labels import classes_in, labelled_windows
from neurofm.data.loader import WindowLoader
from neurofm.data.split_people import by_subject
from neurofm.data.splits import Span, Split, by_time, new_subject, official_parts, whole
from neurofm.data.transforms import Compose
from neurofm.data.windows import Window, labels_in, sliding, trial_windows
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.facts import Facts


def _new_subject(dataset: Dataset, *, subject: str | None = None, **choices: Any) -> Split:
    if subject is None:
        known = ", ".join(dataset.subjects)
        raise ConfigError(f"held_out must name the subject that is left out of pretraining: held_out=… ({known})")
    return new_subject(dataset, subject=str(subject), **choices)


def _official(
    dataset: Dataset, *, pretrain_part: str | None = None, subject: str | None = None, **choices: Any
) -> Split:
    """Official parts of one subject; the part `pretrain_part` of everybody is for pretraining."""
    pretrain = dataset.select(part=pretrain_part) if pretrain_part else []
    recordings = dataset.select(subject=subject) if subject else None
    return official_parts(dataset, recording_ids=recordings, pretrain=pretrain, **choices)


def _everything(dataset: Dataset) -> Split:
    return Split(parts={"pretrain": whole(dataset, sorted(dataset.recordings))}, rule=f"everything of {dataset.id}")


# how windows are cut
WINDOWS = ("sliding", "trial", "labelled")
RULES: dict[str, Callable[..., Split]] = {
    "new_subject": _new_subject,
    "official": _official,
    "by_subject": by_subject,
    "by_time": by_time,
    "everything": _everything,
}


def make_split(dataset: Dataset, *, rule: str, **choices: Any) -> Split:
    """Make a split by the name of its rule."""
    if rule not in RULES:
        raise ConfigError(f"unknown split rule '{rule}': {nearest(rule, RULES)}")
    try:
        return RULES[rule](dataset, **choices)
    except TypeError as error:
        raise ConfigError(f"split rule '{rule}': {error}") from error


class Corpus:
    """One dataset, its split, its task, and the transforms that its windows pass through.

    Parameters
    ----------
    path : str
        A prepared dataset.
    split : Split or mapping
        A split, or ``{"rule": …, **choices}``.
    window_s, stride_s : float
        Length of a window, and step between windows (default: the length). Trials longer than `window_s` are cut
        to their first `window_s` seconds.
    windows : str
        "sliding", "trial": one window per trial with its label, or "labelled": sliding, each with the class of the
        events that cover it.
    label_kind : str, optional
        The kind of event whose label is the class; None reads trials without labels.
    classes : sequence of str, optional
        The classes in order, so that a part in which one never occurs has it all the same; default: those found.
    background, label_s, label_fraction
        For "labelled": see `data.labels.labelled_windows`.
    transforms : Compose or sequence of mapping
        What is done to a window after reading.
    bin_s : float, optional
        Seconds per bin in which lists of events (spikes) are read as a signal.
    streams : sequence of str
        Further streams (behaviour, stimulus) to come with each window.
    preload : bool
        Keep decoded recordings in memory.
    n_workers : int
        Reading processes.
    """

    def __init__(
        self,
        *,
        path: str,
        split: Split | Mapping[str, Any],
        window_s: float,
        stride_s: float | None = None,
        windows: str = "sliding",
        label_kind: str | None = None,
        classes: Sequence[str] | None = None,
        background: str | None = None,
        label_s: float | None = None,
        label_fraction: float = 0.5,
        transforms: Compose | Sequence[Mapping[str, Any]] = (),
        bin_s: float | None = None,
        streams: Sequence[str] = (),
        preload: bool = True,
        n_workers: int = 0,
    ) -> None:
        if windows not in WINDOWS:
            raise ConfigError(f"windows='{windows}' is unknown: {nearest(windows, WINDOWS)}")
        if windows == "labelled" and label_kind is None:
            raise ConfigError("windows=labelled needs label_kind, the kind of event that windows are labelled by")
        self.dataset = Dataset(path, bin_s=bin_s)
        self.split = split if isinstance(split, Split) else make_split(self.dataset, **split)
        self.window_s, self.stride_s = float(window_s), stride_s
        self.windows_by, self.label_kind = windows, label_kind
        self.classes = None if classes is None else tuple(str(c) for c in classes)
        self.background, self.label_s, self.label_fraction = background, label_s, label_fraction
        self.transform = transforms if isinstance(transforms, Compose) else Compose(transforms=list(transforms))
        self.streams, self.preload, self.n_workers = tuple(streams), preload, n_workers

    def fit_transforms(self, part: str) -> None:
        """Fit the transforms on one part, and on nothing outside it."""
        spans = self.split[part]
        self.transform.fit(self.dataset, spans, allowed=spans)

    def facts(self, part: str) -> Facts:
        """What the data of one part dictate to a model.

        Raises
        ------
        DataError
            When its recordings differ in rate.
        """
        ids = sorted({s.recording_id for s in self.split[part]})
        if not ids:
            raise DataError(f"{self.dataset.path}: the part '{part}' is empty; check the split")
        rates = {self.dataset.rate_hz(r) for r in ids}
        if max(rates) - min(rates) > 1e-6 * max(rates):
            raise DataError(
                f"{self.dataset.path}: recordings of part '{part}' have rates {sorted(rates)} Hz; "
                "resample them to one when preparing"
            )
        classes = self._classes(part)
        counts: tuple[int, ...] = ()
        if self.windows_by == "labelled":
            targets = [w.target for w in self._labelled(part, classes)]
            counts = tuple(targets.count(k) for k in range(len(classes)))
        return Facts(
            rate_hz=max(rates),
            window_s=self.window_s,
            max_channels=max(len(self.dataset.channels(r)) for r in ids),
            channels=channel_vocabulary(self.dataset, ids),
            subjects=tuple(sorted({self.dataset.subject(r) for r in ids})),
            classes=classes,
            class_counts=counts,
        )

    def _classes(self, part: str) -> tuple[str, ...]:
        if self.label_kind is None or self.classes is not None:
            return self.classes or ()
        if self.windows_by == "labelled":
            return classes_in(self.dataset, self.split[part], kind=self.label_kind, background=self.background)
        return tuple(labels_in(self.dataset, self.split[part], kind=self.label_kind))

    def _labelled(self, part: str, classes: Sequence[str]) -> list[Window]:
        assert self.label_kind is not None
        return labelled_windows(
            self.dataset, self.split[part], window_s=self.window_s, stride_s=self.stride_s, kind=self.label_kind,
            classes=classes, background=self.background, label_s=self.label_s, fraction=self.label_fraction,
        )  # fmt: skip

    def cut(self, part: str, facts: Facts) -> list[Window]:
        """Windows of one part."""
        spans = self.split[part]
        if self.windows_by == "labelled":
            return self._labelled(part, facts.classes)
        if self.windows_by == "trial":
            classes = facts.classes if self.label_kind is not None else None
            return trial_windows(
                self.dataset, spans, window_s=self.window_s, classes=classes or None, kind=self.label_kind
            )
        return sliding(self.dataset, spans, window_s=self.window_s, stride_s=self.stride_s, jitter=True)

    def loader(
        self, part: str, facts: Facts, *, batch_size: int, seed: int, training: bool, rank: int = 0, world_size: int = 1
    ) -> WindowLoader:
        """Batches of one part: shuffled and augmented in training, in order and whole otherwise."""
        windows = self.cut(part, facts)
        return WindowLoader(
            self.dataset, windows, batch_size=min(batch_size, len(windows) - len(windows) % world_size), seed=seed,
            transforms=self.transform, vocabulary=facts.channels, subjects=facts.subjects, streams=self.streams, rank=rank,
            world_size=world_size, n_workers=self.n_workers, shuffle=training, preload=self.preload,
        )  # fmt: skip

    def stretches(self, part: str, facts: Facts) -> Iterator[NeuralBatch]:
        """Whole spans of one part, one per batch, for what has a closed form."""
        for span in self.split[part]:
            yield self.as_batch(self.values(span)[None], span.recording_id, facts)

    def values(self, span: Span) -> np.ndarray:
        """Transformed values of a span, shape (time, good channel), float32; the span lies in one valid interval."""
        n = round((span.stop_s - span.start_s) * self.dataset.rate_hz(span.recording_id))
        return self.transform.apply(self.dataset.read(span.recording_id, span.start_s, n), span.recording_id)

    def as_batch(self, values: np.ndarray, recording_id: str, facts: Facts) -> NeuralBatch:
        """Make a batch of windows of one recording that are in memory already, shape (B, time, good channel)."""
        about = describe(
            self.dataset, recording_id,
            vocabulary={name: i for i, name in enumerate(facts.channels, 1)},
            subjects={name: i for i, name in enumerate(facts.subjects, 1)},
        )  # fmt: skip
        signal = torch.from_numpy(np.ascontiguousarray(values.transpose(0, 2, 1), dtype=np.float32))
        n, n_channels, n_times = signal.shape
        return NeuralBatch(
            signal=signal,
            channel_mask=torch.ones(n, n_channels, dtype=torch.bool),
            time_mask=torch.ones(n, n_times, dtype=torch.bool),
            rate_hz=about.rate_hz,
            positions=torch.from_numpy(about.positions).expand(n, -1, -1),
            channel_ids=torch.from_numpy(about.channel_ids).expand(n, -1),
            subject=torch.full((n,), about.subject),
            recording_id=[recording_id] * n,
        )

    def provenance(self, part: str) -> dict[str, Any]:
        """Where a model trained on one part comes from: what the leakage audit and the model card read."""
        manifest, spans = self.dataset.manifest, self.split[part]
        seconds = sum(s.stop_s - s.start_s for s in spans)
        return {
            "datasets": [
                {
                    "id": manifest.id, "content_hash": manifest.content_hash, "prep_hash": manifest.prep_hash,
                    "licence": manifest.licence, "citation": manifest.citation, "hours": seconds / 3600,
                }
            ],
            "split": {
                "hash": self.split.hash, "rule": self.split.rule, "part": part, "spans": merged(spans),
            },
            "subjects": sorted({f"{manifest.id}/{self.dataset.subject(s.recording_id)}" for s in spans}),
        }  # fmt: skip


def merged(spans: Sequence[Span]) -> list[list[Any]]:
    """Join spans that touch and carry no stimulus, so that the trials of a recording are one line of a card."""
    joined: list[list[Any]] = []
    for s in sorted(spans):
        last = joined[-1] if joined else None
        if last and last[0] == s.recording_id and not s.stimulus_id and not last[3] and s.start_s <= last[2] + 1e-6:
            last[2] = max(last[2], s.stop_s)
        else:
            joined.append([s.recording_id, s.start_s, s.stop_s, s.stimulus_id])
    return joined
