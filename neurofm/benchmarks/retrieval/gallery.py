"""The gallery: what is searched. Its definition changes the number, so it is part of the result's identity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neurofm.data.stimuli import Stimuli
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of

SOURCES = ("stimulus", "class_centre", "other_exemplars", "segment")


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Candidates.

    Attributes
    ----------
    source : str
        "stimulus": the tested stimuli themselves; "class_centre": mean of the *other* stimuli of each tested concept;
        "other_exemplars": one other stimulus of each tested concept; "segment": pieces of continuous stimuli.
    keys : tuple of str
        What a query's answer is looked up by: stimulus, concept, or segment.
    vectors : ndarray, shape (K, …)
        Unnormalised; cosine is what compares.
    encoder, embedding_hash, embedding : str
        Which file of embeddings, its hash, and what it holds in words.
    scope : str
        Where the candidates come from: "test part" or "all parts".
    compared : str
        How answers are compared with them, in words.
    """

    source: str
    keys: tuple[str, ...]
    vectors: NDArray[np.float32]
    encoder: str
    embedding_hash: str
    embedding: str
    scope: str = "test part"
    compared: str = "cosine"

    def placed(self, place: Callable[[NDArray], NDArray], compared: str) -> Gallery:
        """The same candidates where a decoder's answers are compared with them."""
        return replace(self, vectors=place(self.vectors), compared=compared)

    @property
    def hash(self) -> str:
        """Changes with any candidate, the source or the embedding."""
        return hash_of([self.source, list(self.keys), self.encoder, self.embedding_hash, self.scope])

    def sentence(self) -> str:
        """The candidate set in words, to stand beside every number."""
        what = {
            "stimulus": "the tested stimuli themselves", "class_centre": "means of the other stimuli of each tested concept",
            "other_exemplars": "one other stimulus of each tested concept", "segment": "segments of the stimulus",
        }[self.source]  # fmt: skip
        return (
            f"{len(self.keys)} candidates: {what} ({self.scope}), embedded by {self.embedding}; similarity: {self.compared}; "
            f"negatives: all other candidates; gallery {self.hash}"
        )

    def index(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Row of each key.

        Raises
        ------
        DataError
            When one is not among the candidates.
        """
        number = {k: i for i, k in enumerate(self.keys)}
        for key in keys:
            if key not in number:
                raise DataError(f"'{key}' was tested but is no candidate of the gallery: {nearest(key, self.keys)}")
        return np.array([number[k] for k in keys], np.int64)


def build_gallery(
    stimuli: Stimuli, encoder: str, tested: Sequence[str], *, source: str = "stimulus", scope: str = "test part"
) -> Gallery:
    """Build the gallery of the tested stimuli, one candidate for each stimulus or concept.

    Parameters
    ----------
    stimuli : Stimuli
        With the embeddings of `encoder`.
    encoder : str
        Name of the file of embeddings.
    tested : sequence of str
        Stimuli of the test part.
    source : str
        See `Gallery`; "segment" is built by `segment_gallery`.

    Raises
    ------
    ConfigError
        When a tested concept has no other stimulus.
    """
    if source not in SOURCES[:3]:
        raise ConfigError(f"gallery '{source}' is unknown: {nearest(source, SOURCES[:3])}")
    file = stimuli.files[encoder]
    if file.rate_hz is not None:
        raise ConfigError(
            f"embeddings '{encoder}' unfold in time; retrieve segments, or embed with one vector per stimulus"
        )
    shown = sorted(set(tested))
    about = {
        "encoder": encoder, "embedding_hash": file.hash, "embedding": words_of(stimuli, encoder), "source": source,
        "scope": scope,
    }  # fmt: skip
    if source == "stimulus":
        return Gallery(keys=tuple(shown), vectors=np.stack([file.read(s) for s in shown]), **about)
    concepts = sorted({stimuli.concept_of[s] for s in shown})
    others: Mapping[str, list[str]] = _others(stimuli, encoder, shown)
    if lonely := lonely_concepts(stimuli, encoder, shown):
        raise ConfigError(
            f"gallery '{source}': {len(lonely)} tested concepts have no stimulus but the tested one, first "
            f"'{lonely[0]}'; embed further stimuli of these concepts, or choose gallery=stimulus"
        )
    pick = (lambda v: v.mean(axis=0)) if source == "class_centre" else (lambda v: v[0])
    vectors = np.stack([pick(np.stack([file.read(s) for s in others[c]])) for c in concepts])
    return Gallery(keys=tuple(concepts), vectors=vectors.astype(np.float32), **about)


def lonely_concepts(stimuli: Stimuli, encoder: str, tested: Sequence[str]) -> list[str]:
    """Tested concepts without another stimulus that is embedded ("" where a tested stimulus has no concept), sorted."""
    others = _others(stimuli, encoder, tested)
    return sorted({c for c in (stimuli.concept_of[s] for s in tested) if not others.get(c)})


def _others(stimuli: Stimuli, encoder: str, tested: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for s in stimuli.files[encoder].ids:
        if s not in tested and stimuli.concept_of.get(s):
            found[stimuli.concept_of[s]].append(s)
    return found


def words_of(stimuli: Stimuli, encoder: str) -> str:
    """What an embedding is, in words."""
    f = stimuli.files[encoder]
    return ", ".join(x for x in (f.encoder, f.layer and f"layer {f.layer}", f.pooling) if x)
