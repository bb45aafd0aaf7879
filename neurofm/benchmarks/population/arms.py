"""A decoder's score on a session of the population benchmark.

Objectives are asked by what they offer: ``predict(model, batch)`` with ``wanted(batch)`` for behaviour (values at the
stream's own samples), ``rates(model, batch, mode=…)`` for counts that are hidden (expected counts per bin, and what was
hidden).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from neurofm.benchmarks.adapted.decoders import CHUNK, Decoder
from neurofm.benchmarks.population.data import Session
from neurofm.benchmarks.population.metrics import bits_per_spike, r2_uniform, r2_weighted
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError

MODES = {"co_smoothing": ("co_smooth", "co_bps"), "forward": ("forward", "fp_bps")}


@torch.inference_mode()
def score_arm(protocol: str, decoder: Decoder, session: Session, *, stream: str) -> dict[str, float]:
    """Score the windows of the decoder's test part that are of a session.

    Parameters
    ----------
    protocol : str
        "co_smoothing", "forward" or "decoding".
    decoder : Decoder
    session : Session
        Whose; which units it holds out.
    stream : str
        "decoding": the stream that the benchmark scores; the decoder's must be the same.
    """
    wanted = {t.span.recording_id for t in session.test}
    objective: Any = decoder.loaded.objective
    needed = ("predict", "wanted") if protocol == "decoding" else ("rates",)
    if not all(callable(getattr(objective, n, None)) for n in needed):
        word = decoder.loaded.card["objective"]["name"]
        raise ConfigError(f"objective '{word}' cannot answer '{protocol}': it lacks {' and '.join(needed)}")
    if protocol == "decoding" and getattr(objective, "stream", stream) != stream:
        raise ConfigError(f"the decoder gives the stream '{objective.stream}', the benchmark scores '{stream}'")
    said: list[np.ndarray] = []
    true: list[np.ndarray] = []
    places: tuple[list[np.ndarray], ...] = ([], [], [])  # recordings, times and distances from a window's middle
    for batch in _batches(decoder):
        mine = torch.tensor([r in wanted for r in batch.recording_id or []])
        if not bool(mine.any()):
            continue
        a, b = (_behaviour if protocol == "decoding" else _counts)(objective, decoder, batch, protocol, session)
        said.append(a[mine.numpy()].reshape(-1, a.shape[-1]))
        true.append(b[mine.numpy()].reshape(-1, b.shape[-1]))
        if protocol == "decoding":
            for kept, part in zip(places, _times(objective, batch, mine), strict=True):
                kept.append(part)
    if not said:
        raise DataError(f"session '{session.name}': the decoder's test part has no window of it")
    given, found = np.concatenate(said), np.concatenate(true)
    if protocol == "decoding":
        there = np.isfinite(found).all(1)
        ids, time_s, off_centre_s = (np.concatenate(x)[there] for x in places)
        chosen = np.flatnonzero(there)[once(ids, time_s, off_centre_s)]
        given, found = given[chosen], found[chosen]
        return {"r2": r2_weighted(found, given), "r2_uniform": r2_uniform(found, given)}
    # what was not hidden is no question
    return {MODES[protocol][1]: bits_per_spike(given, found)}


def once(ids: np.ndarray, time_s: np.ndarray, off_centre_s: np.ndarray) -> np.ndarray:
    """Choose each sample once where windows overlap: in the window whose middle is nearest.

    Parameters
    ----------
    ids, time_s, off_centre_s : array, shape (sample,)
        Recording, time in it, and distance from the middle of the window in which the sample was read.

    Returns
    -------
    array of int
        In order of recording and time.
    """
    order = np.lexsort((off_centre_s, np.round(time_s, 6), ids))
    key = list(zip(ids[order].tolist(), np.round(time_s[order], 6).tolist(), strict=True))
    return order[[i for i in range(len(key)) if i == 0 or key[i] != key[i - 1]]]


def _times(objective: Any, batch: NeuralBatch, mine: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recording, time in it and distance from its window's middle of every sample of the windows `mine`."""
    time_s = objective.wanted(batch).time_s.double()[mine]
    start_s = torch.zeros(len(batch)) if batch.start_s is None else batch.start_s
    names = np.array(batch.recording_id)[mine.numpy()]
    off = (time_s - batch.signal.shape[-1] / batch.rate_hz / 2).abs()
    absolute = start_s.to(time_s)[mine][:, None] + time_s
    return np.repeat(names, time_s.shape[1]), absolute.flatten().numpy(), off.flatten().numpy()


def _batches(decoder: Decoder) -> Any:
    facts = decoder.loaded.facts
    loader = decoder.corpus.loader("test", facts, batch_size=CHUNK, seed=0, training=False)
    yield from loader
    if loader.skipped:
        raise DataError(f"part 'test' cannot be scored whole: {loader.skipped[0]}")


def _behaviour(
    objective: Any, decoder: Decoder, batch: NeuralBatch, protocol: str, session: Session
) -> tuple[np.ndarray, np.ndarray]:
    """Behaviour said and true, (window, sample, dimension); true is NaN where there is none."""
    wanted = objective.wanted(batch)
    given = objective.predict(decoder.loaded.model, batch).double().numpy()
    return given, np.where(wanted.mask.numpy()[..., None], wanted.values.double().numpy(), np.nan)


def _counts(
    objective: Any, decoder: Decoder, batch: NeuralBatch, protocol: str, session: Session
) -> tuple[np.ndarray, np.ndarray]:
    """Expected and true counts, (window, bin, unit); true is NaN where nothing was hidden."""
    rates, hidden = objective.rates(decoder.loaded.model, batch, mode=MODES[protocol][0])
    if protocol == "co_smoothing":
        n = len(session.held_out)
        asked = hidden.any(-1)[:, :n].numpy()
        there = np.array([r in {t.span.recording_id for t in session.test} for r in batch.recording_id or []])
        if (asked[there] != session.held_out).any():
            raise ConfigError(
                f"session '{session.name}': the decoder hides other units than the {session.held_out.sum()} that the "
                "benchmark holds out; set objective.held_out"
            )
    counts = torch.where(hidden, batch.signal, torch.nan)
    if bool((batch.signal != batch.signal.round()).any()):
        raise ConfigError("the decoder's transforms change counts; bits per spike need the counts themselves")
    # unit last; rates where nothing is asked only have to be numbers
    return rates.mT.double().numpy(), counts.mT.double().numpy()
