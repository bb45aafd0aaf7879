"""A dataset seen through a split, a task and transforms: everything between shards and batches that is a choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from neurofm.data.dataset import Dataset
from neurofm.data.loading.collate import channel_vocabulary, describe
from neurofm.data.loading.loader import WindowLoader
from neurofm.data.loading.mixing import mixing_weights
from neurofm.data.mixture import members_of, open_datasets
from neurofm.data.splits.rules import make_split, read_split
from neurofm.data.splits.spans import Span, Split
from neurofm.data.stimuli import Stimuli
from neurofm.data.storage.catalogue import session_name
from neurofm.data.task import Task
from neurofm.data.transforms.base import Compose
from neurofm.data.windows import Window
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

# keys of `conf/data` and `conf/task` that only say which file it was
LABELS = ("id", "name")


class Corpus:
    """One dataset or several, their split, their task, and the transforms that their windows pass through (`conf/data`).

    Parameters
    ----------
    path : str, sequence or Dataset
        A prepared dataset, or several to be mixed: paths, or ``{"path": …, "select": …}``. Several are read as one
        whose subjects are ``dataset/subject``.
    split : Split, mapping or str
        A split, ``{"rule": …, **choices}``, or the file of a split that an earlier run wrote.
    task : Task or mapping
        How windows are cut, and what is asked of each.
    select : mapping, optional
        Only recordings of these subjects, sessions, tasks, … (`Dataset.select`); no other shard is opened.
    shares, temperature
        How datasets are mixed in training: see `data.loading.mixing.mixing_weights`. Default: every window once an epoch.
    mixed_rates : bool
        Allow recordings of several rates, which then come in different batches; `Facts.rate_hz` is the highest.
    on_corrupt : str
        "error", or "skip": damaged shards are left out and counted (`WindowLoader.n_skipped`).
    reader : str
        "indexed": by offset, in the exact order of the plan; "stream": remote shards from beginning to end.
    time_first : bool
        Hand out `signal` as a view of memory laid out [window, time, channel]; see `WindowReader`.
    transforms : Compose or sequence of mapping
        What is done to a window after reading.
    bin_s : float, optional
        Seconds per bin in which lists of events (spikes) are read as a signal; with `events`, the grid on which windows
        start.
    events : bool
        Read lists of events as `batch.events` alone, uncounted: `batch.signal` is then zeros that take no memory.
        (Without, they come beside the counts.)
    streams : sequence of str
        Further streams (behaviour, stimulus) to come with each window.
    embedding : str or sequence of str, optional
        Encoders whose embeddings of what was shown or heard come with each window (``stimuli/embeddings``); the
        first is the one that `Facts.embedding_shape` describes.
    embedding_lag_s : float
        For embeddings that unfold in time: the window from t is paired with the stimulus from t − this.
    preload : bool
        Keep decoded recordings in memory.
    n_workers : int
        Reading processes.
    """

    def __init__(
        self,
        *,
        path: str | Sequence[Any] | Dataset,
        split: Split | Mapping[str, Any] | str,
        task: Task | Mapping[str, Any],
        select: Mapping[str, Any] | None = None,
        shares: Mapping[str, float] | None = None,
        temperature: float | None = None,
        mixed_rates: bool = False,
        on_corrupt: str = "error",
        reader: str = "indexed",
        time_first: bool = False,
        transforms: Compose | Sequence[Mapping[str, Any]] = (),
        bin_s: float | None = None,
        events: bool = False,
        streams: Sequence[str] = (),
        embedding: str | Sequence[str] | None = None,
        embedding_lag_s: float = 0.0,
        preload: bool = True,
        n_workers: int = 0,
    ) -> None:
        if events and bin_s is None:
            raise ConfigError("events=true needs bin_s, the grid in seconds on which windows start, e.g. 0.01")
        self.dataset = (
            path
            if isinstance(path, Dataset)
            else open_datasets(path, select=select, bin_s=bin_s, on_corrupt=on_corrupt, reader=reader)
        )
        self.task = task if isinstance(task, Task) else Task(**task)
        if isinstance(split, Split):
            self.split = split
        elif isinstance(split, str):
            self.split = read_split(self.dataset, split)
        else:
            self.split = make_split(self.dataset, window_s=self.task.window_s, **split)
        self.shares, self.temperature, self.mixed_rates = shares, temperature, mixed_rates
        self.reader, self.time_first = reader, time_first
        self.transform = transforms if isinstance(transforms, Compose) else Compose(transforms=list(transforms))
        self.events = events
        if events and self.transform.transforms:
            raise ConfigError(
                f"events=true reads no counts, so the transform '{self.transform.transforms[0].to_json()['name']}' has "
                "nothing to work on; set data.transforms=[]"
            )
        self.streams, self.preload, self.n_workers = tuple(streams), preload, n_workers
        encoders = (embedding,) if isinstance(embedding, str) else tuple(embedding or ())
        self.stimuli = (
            Stimuli(self.dataset, encoders, window_s=self.task.embedding_s or self.task.window_s, lag_s=embedding_lag_s)
            if encoders
            else None
        )

    def fit_transforms(self, part: str) -> None:
        """Fit the transforms on one part, and on nothing outside it."""
        if part.startswith("test"):
            raise ConfigError(
                f"part '{part}' is only for `neurofm evaluate`; fit transforms on another part of the split"
            )
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
        if max(rates) - min(rates) > 1e-6 * max(rates) and not self.mixed_rates:
            raise DataError(
                f"{self.dataset.path}: recordings of part '{part}' have rates {sorted(rates)} Hz; "
                "resample them to one when preparing, or pass mixed_rates=true to a model that takes any"
            )
        classes = self.task.classes_of(self.dataset, self.split[part])
        counts: tuple[int, ...] = ()
        if self.task.windows == "labelled":
            targets = [w.target for w in self.task.cut(self.dataset, self.split[part], classes)]
            counts = tuple(targets.count(k) for k in range(len(classes)))
        return Facts(
            rate_hz=max(rates),
            window_s=float(self.task.window_s),
            max_channels=max(len(self.dataset.channels(r)) for r in ids),
            channels=channel_vocabulary(self.dataset, ids),
            subjects=tuple(sorted({self.dataset.subject(r) for r in ids})),
            sessions=tuple(sorted({session_name(self.dataset.recordings[r]) for r in ids})),
            classes=classes,
            class_counts=counts,
            embedding_shape=self.stimuli.shape(next(iter(self.stimuli.files))) if self.stimuli else (),
            embedding_s=self.task.embedding_s,
        )

    def cut(self, part: str, facts: Facts) -> list[Window]:
        """Windows of one part."""
        return self.task.cut(self.dataset, self.split[part], facts.classes)

    def loader(
        self, part: str, facts: Facts, *, batch_size: int, seed: int, training: bool, rank: int = 0, world_size: int = 1
    ) -> WindowLoader:
        """Batches of one part: shuffled and augmented in training, in order and whole otherwise; never of a test part in training."""
        if training and part.startswith("test"):
            raise ConfigError(f"part '{part}' is only for `neurofm evaluate`; train on another part of the split")
        windows = self.cut(part, facts)
        if facts.classes:
            self.transform.tell_classes(facts.classes)
        # in training an incomplete batch is left out, so a small part needs a smaller one
        size = min(batch_size, len(windows) - len(windows) % world_size) if training else batch_size
        return WindowLoader(
            self.dataset, windows, batch_size=size, seed=seed,
            transforms=self.transform, facts=facts, streams=self.streams, counts=not self.events, stimuli=self.stimuli, rank=rank,
            world_size=world_size, n_workers=self.n_workers, shuffle=training, preload=self.preload,
            weights=self._weights(windows) if training else None, reader=self.reader, time_first=self.time_first,
        )  # fmt: skip

    def _weights(self, windows: Sequence[Window]) -> np.ndarray | None:
        id_of = {r: d.id for d in members_of(self.dataset) for r in d.recordings}
        seconds = [w.n_samples / self.dataset.rate_hz(w.recording_id) for w in windows]
        return mixing_weights(
            [id_of[w.recording_id] for w in windows], seconds, shares=self.shares, temperature=self.temperature
        )

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
        about = describe(self.dataset, recording_id, facts)
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
            session=torch.full((n,), about.session),
            recording_id=[recording_id] * n,
        )

    def provenance(self, part: str) -> dict[str, Any]:
        """Where a model trained on one part comes from: what the leakage audit and the model card read."""
        spans = self.split[part]
        members = []
        for d in members_of(self.dataset):
            seconds = sum(s.stop_s - s.start_s for s in spans if s.recording_id in d.recordings)
            members.append(
                {
                    "id": d.manifest.id, "content_hash": d.manifest.content_hash, "prep_hash": d.manifest.prep_hash,
                    "licence": d.manifest.licence, "citation": d.manifest.citation, "hours": seconds / 3600,
                }
            )  # fmt: skip
        id_of = {r: d for d in members_of(self.dataset) for r in d.recordings}
        people = {(id_of[s.recording_id].id, id_of[s.recording_id].subject(s.recording_id)) for s in spans}
        content = {r: id_of[r].content(r) for r in sorted({s.recording_id for s in spans})}
        return {
            "datasets": members,
            "content": {r: h for r, h in content.items() if h},
            "split": {
                "hash": self.split.hash, "rule": self.split.rule, "part": part, "spans": merged(spans),
            },
            "subjects": sorted(f"{dataset}/{subject}" for dataset, subject in people),
        }  # fmt: skip


def open_corpus(data: Mapping[str, Any], task: Task | Mapping[str, Any], **changes: Any) -> Corpus:
    """Open what `conf/data` and `conf/task` describe, but for what `changes` say of the data."""
    choices = {k: v for k, v in {**data, **changes}.items() if k not in LABELS}
    asked = task if isinstance(task, Task) else {k: v for k, v in task.items() if k not in LABELS}
    return Corpus(**choices, task=asked)


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
