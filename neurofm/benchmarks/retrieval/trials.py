"""Test windows in memory with what they show, and who answers about them: a trained model, or ridge.

Shape legend: n windows, T time, C channel, D embedding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurofm.benchmarks.baselines.encoding_identification import EncodingIdentification
from neurofm.benchmarks.baselines.ridge_embedding import EmbeddingRidge, LaggedEmbeddingRidge
from neurofm.benchmarks.retrieval.average import average
from neurofm.data.corpus import Corpus
from neurofm.data.splits.groups import sounds_of
from neurofm.data.splits.parts import whole
from neurofm.data.windows import sliding
from neurofm.hub.load import LoadedModel
from neurofm.models.base import Backbone
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

CHUNK = 256
# windows (n, T, C) of the recordings (n) → answers (n, …)
Decode = Callable[[NDArray, Sequence[str]], NDArray]
# embeddings (n, …) → where they lie among the answers (n, …)
Place = Callable[[NDArray], NDArray]


class Decoder(NamedTuple):
    """Who answers, and where stimuli lie among the answers: two points of one space that a cosine compares.

    With `by_likelihood` that space serves the ranking alone: its points are no embeddings, have no mean that could be taken
    off, and only those placed together can be compared.
    """

    answer: Decode
    place: Place
    compared: str = "cosine"
    by_likelihood: bool = False


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Windows of a part.

    Attributes
    ----------
    values : ndarray, shape (n, T, C)
        Through the corpus's transforms.
    stimulus, subject, recording : list of str, length n
        `stimulus` of a piece of a continuous stimulus is ``id@seconds``.
    start_s : ndarray, shape (n,)
        On the recording's clock.
    own : ndarray, shape (n, …)
        Embedding of what each shows.
    """

    values: NDArray[np.float32]
    stimulus: list[str]
    subject: list[str]
    recording: list[str]
    start_s: NDArray[np.float64]
    own: NDArray[np.float32]

    def only(self, rows: Sequence[int] | NDArray) -> Trials:
        """Some of them, in the order given."""
        rows = [int(i) for i in rows]
        return Trials(
            values=self.values[rows], stimulus=[self.stimulus[i] for i in rows], subject=[self.subject[i] for i in rows],
            recording=[self.recording[i] for i in rows], start_s=self.start_s[rows], own=self.own[rows],
        )  # fmt: skip

    def of(self, subject: str) -> Trials:
        """Those of one person."""
        return self.only([i for i, s in enumerate(self.subject) if s == subject])

    def placed(self, place: Place) -> Trials:
        """The same, with each stimulus where a decoder's answers are compared with it."""
        return replace(self, own=place(self.own))

    def averaged(self, mode: str) -> Trials:
        """Mean signals of the trials of one stimulus; see `average.average`."""
        if mode == "trial":
            return self
        values, stimulus, subject = average(self.values, self.stimulus, self.subject, mode=mode)
        first = {(s, w): i for i, (s, w) in reversed(list(enumerate(zip(self.stimulus, self.subject, strict=True))))}
        alone = {s: i for i, s in reversed(list(enumerate(self.stimulus)))}
        rows = [first[s, w] if w else alone[s] for s, w in zip(stimulus, subject, strict=True)]
        return Trials(
            values=values, stimulus=stimulus, subject=subject, recording=[self.recording[i] for i in rows],
            start_s=self.start_s[rows], own=self.own[rows],
        )  # fmt: skip


def trials_of_part(corpus: Corpus, part: str, facts: Facts, encoder: str) -> Trials:
    """Read the windows of a part, in the order in which they are cut.

    Raises
    ------
    DataError
        When windows differ in length or channels.
    """
    stimuli = corpus.stimuli
    if stimuli is None or encoder not in stimuli.files:
        raise ConfigError(
            f"{corpus.dataset.path}: the data name no embedding '{encoder}'; set data.embedding={encoder}"
        )
    if any(corpus.dataset.is_events(s.recording_id) for s in corpus.split[part]) and corpus.dataset.bin_s is None:
        raise ConfigError(f"{corpus.dataset.path}: spikes are retrieved from in bins; set data.bin_s")
    unfolds = stimuli.files[encoder].rate_hz is not None
    values, keys, own, windows = [], [], [], corpus.cut(part, facts)
    for w in windows:
        x = corpus.dataset.read(w.recording_id, w.start_s, w.n_samples)
        values.append(corpus.transform.apply(x, w.recording_id))
        onset_s, name = stimuli.event_of(corpus.dataset, w, w.start_s)
        keys.append(f"{name}@{w.start_s - onset_s:.3f}" if unfolds else name)
        own.append(stimuli.shown(corpus.dataset, w, w.start_s).embeddings[encoder])
    if len({v.shape for v in values}) != 1:
        shapes = sorted({v.shape for v in values})
        raise DataError(
            f"{corpus.dataset.path}: windows of part '{part}' have shapes {shapes[:3]}; they cannot be averaged"
        )
    return Trials(
        values=np.stack(values), stimulus=keys, own=np.stack(own), start_s=np.array([w.start_s for w in windows]),
        subject=[corpus.dataset.subject(w.recording_id) for w in windows], recording=[w.recording_id for w in windows],
    )  # fmt: skip


def segments_of(corpus: Corpus, encoder: str) -> dict[str, NDArray[np.float32]]:
    """Embedding of every segment of every recording by its key, as `Trials.stimulus` names them.

    Whether the brain's answer to the last of a segment was recorded does not matter here.
    """
    stimuli, dataset = corpus.stimuli, corpus.dataset
    assert stimuli is not None
    found = {}
    ids = sorted(dataset.recordings)
    spans = sounds_of(dataset, ids) or whole(dataset, ids)
    step_s = corpus.task.stride_s or corpus.task.window_s
    for w in sliding(dataset, spans, window_s=stimuli.window_s, stride_s=step_s, jitter=False):
        onset_s, name = stimuli.event_of(dataset, w, w.start_s)
        found[f"{name}@{w.start_s - onset_s:.3f}"] = stimuli.shown(dataset, w, w.start_s).embeddings[encoder]
    return found


def teach_new_people(corpus: Corpus, trained: Sequence[str]) -> list[str]:
    """Let the transforms learn tested people whom training never saw, from their official training recordings.

    Labels are not looked at, nor anything of the test part. Returns who they are.
    """
    if not any(t.learns for t in corpus.transform.transforms):
        return []
    dataset = corpus.dataset
    new = sorted({dataset.subject(s.recording_id) for s in corpus.split["test"]} - set(trained))
    for subject in new:
        own = [r for r in dataset.select(subject=subject) if dataset.recordings[r]["part"] == "train"]
        if not own:
            raise DataError(
                f"{dataset.path}: subject '{subject}' has no recording of part 'train' for the transforms to learn"
            )
        spans = whole(dataset, own)
        corpus.transform.fit(dataset, spans, allowed=spans)
    return new


def model_decoder(loaded: LoadedModel, corpus: Corpus) -> Decoder:
    """Answer with a trained model: `objective.predict(model, batch)`, compared with `objective.place(embedding)`."""

    @torch.inference_mode()
    def place(embedding: NDArray) -> NDArray:
        return loaded.objective.place(torch.as_tensor(embedding, dtype=torch.float32)).double().numpy()

    compared = "cosine, of embeddings through the model's own head" if loaded.objective.places else "cosine"
    return Decoder(_by_batch(loaded, corpus, loaded.objective.predict), place, compared)


def reconstructing(loaded: LoadedModel, corpus: Corpus) -> Decode:
    """Answer with embeddings in their own space, as a decoder of images takes them."""
    return _by_batch(loaded, corpus, loaded.objective.reconstruct)


def _by_batch(loaded: LoadedModel, corpus: Corpus, ask: Callable[[Backbone, NeuralBatch], Tensor]) -> Decode:
    facts = loaded.facts

    @torch.inference_mode()
    def decode(values: NDArray, recordings: Sequence[str]) -> NDArray:
        rows: dict[str, list[int]] = defaultdict(list)
        for i, r in enumerate(recordings):
            rows[r].append(i)
        found: list[NDArray | None] = [None] * len(values)
        for r, mine in rows.items():
            for a in range(0, len(mine), CHUNK):
                some = mine[a : a + CHUNK]
                said = ask(loaded.model, corpus.as_batch(values[some], r, facts)).double().numpy()
                for i, x in zip(some, said, strict=True):
                    found[i] = x
        return np.stack([x for x in found if x is not None])

    return decode


def ridge_decoder(train: Trials, *, rate_hz: float | None = None) -> Decoder:
    """Answer with ridge, taught with the mean of each person's repetitions of a training stimulus.

    What unfolds in time at the signal's own rate is decoded moment by moment, from as much of the answer after it as
    windows hold beyond the embedding (250 ms where they hold no more than it).
    """
    n, width = (train.own.shape[1], train.values.shape[1]) if train.own.ndim == 3 else (0, 0)
    if rate_hz is not None and train.own.ndim == 3 and "@" in train.stimulus[0] and n <= width:
        lags_s = (0.0, (width - n) / rate_hz or min(0.25, 0.5 * width / rate_hz))
        lagged = LaggedEmbeddingRidge(lags_s=lags_s).fit(list(train.values), list(train.own), rate_hz)
        return Decoder(lambda values, _: np.stack([lagged.predict(x)[:n] for x in values]), as_it_is)
    taught = train.averaged("subject")
    ridge = EmbeddingRidge().fit(taught.values, taught.own)
    return Decoder(lambda values, _: ridge.predict(values), as_it_is)


def encoding_decoder(train: Trials) -> Decoder:
    """Answer with what an encoding model, taught with single training trials, expects of every candidate."""
    model = EncodingIdentification().fit(train.values, train.own, train.stimulus)
    return Decoder(
        lambda values, _: model.answer(values),
        model.place,
        "likelihood of the response under an encoding model",
        by_likelihood=True,
    )


def about_the_mean(decoder: Decoder, train: Trials, *, estimates: bool) -> Decoder:
    """The same, stimuli about their mean in the training trials, and answers too if they are `estimates` of embeddings, as ridge's.

    Answers of a contrastive network have a scale of their own, so that mean would swamp them: they are taken about their own.
    """
    if decoder.by_likelihood:
        return decoder
    places = decoder.place(train.own).mean(axis=0)
    answers = places if estimates else decoder.answer(train.values, train.recording).mean(axis=0)
    return Decoder(
        lambda values, recordings: decoder.answer(values, recordings) - answers,
        lambda embedding: decoder.place(embedding) - places, f"{decoder.compared}, each about its training mean",
    )  # fmt: skip


def as_it_is(embedding: NDArray) -> NDArray:
    """Place of a stimulus among answers that are embeddings."""
    return embedding
