"""Stretches of consecutive labelled windows, and what detectors say of them.

Only the labelled end of a window is claimed: a detection spans the last `label_s` seconds of its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from neurofm.benchmarks.adapted.decoders import Decoder, said_of
from neurofm.benchmarks.detection.events import Event
from neurofm.data.corpus import Corpus
from neurofm.data.windows import Window
from neurofm.schema.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Consecutive windows of one recording.

    Attributes
    ----------
    subject, recording_id : str
    index : array, shape (W,), int
        Of the windows in their part.
    starts_s : array, shape (W,)
        Where each window's labelled end begins, from the stretch's start.
    label_s : float
        Length of the labelled ends.
    ictal : array, shape (W,), bool
        Whether the window is labelled so.
    reference : tuple of (start_s, stop_s)
        Annotated events inside the stretch, from its start.
    first_s, duration_s : float
        Start on the recording's clock, and length.
    """

    subject: str
    recording_id: str
    index: NDArray[np.int64]
    starts_s: NDArray[np.float64]
    label_s: float
    ictal: NDArray[np.bool_]
    reference: tuple[Event, ...]
    first_s: float
    duration_s: float


def stretches_of(corpus: Corpus, windows: Sequence[Window], *, positive: int, label: str) -> list[Stretch]:
    """Group a part's windows into stretches without a gap.

    Parameters
    ----------
    corpus : Corpus
        Of a task with ``windows: labelled``.
    windows : sequence of Window
        As `Corpus.cut` gave them.
    positive : int
        Target of a window that is ictal.
    label : str
        Label of the events that are the reference.

    Raises
    ------
    ConfigError
        When the labelled ends leave time between them that nobody would score.
    """
    task = corpus.task
    label_s = task.window_s if task.label_s is None else task.label_s
    stride_s = task.window_s if task.stride_s is None else task.stride_s
    if task.windows != "labelled" or stride_s > label_s + 1e-6:
        raise ConfigError(
            f"seizures are scored on a task with windows=labelled and a stride_s of at most label_s ({label_s:g} s), "
            f"not {stride_s:g} s: time between the labelled ends would go unscored"
        )
    groups: list[list[int]] = []
    for i, w in enumerate(windows):
        before = windows[i - 1] if i else None
        joins = before is not None and before.recording_id == w.recording_id
        if joins and before is not None and 0 < w.start_s - before.start_s < 1.5 * stride_s:
            groups[-1].append(i)
        else:
            groups.append([i])
    made = []
    for group in groups:
        first = windows[group[0]]
        # the labelled end of the first window is where scoring starts
        begin = first.start_s + task.window_s - label_s
        starts = np.array([windows[i].start_s for i in group]) - first.start_s
        duration = float(starts[-1]) + label_s
        events = [
            (max(0.0, e["onset_s"] - begin), min(duration, e["onset_s"] + e["duration_s"] - begin))
            for e in corpus.dataset.events(first.recording_id)
            if e["kind"] == task.label_kind and e["label"] == label
        ]
        made.append(
            Stretch(
                subject=corpus.dataset.subject(first.recording_id), recording_id=first.recording_id,
                index=np.array(group), starts_s=starts, label_s=label_s,
                ictal=np.array([windows[i].target == positive for i in group]),
                reference=tuple((a, b) for a, b in events if b > a), first_s=begin, duration_s=duration,
            )
        )  # fmt: skip
    return made


def read_ends(corpus: Corpus, stretch: Stretch, *, stream: str | None = None) -> NDArray[np.float32]:
    """Labelled ends of a stretch's windows as stored, (W, T, C), of the signal or of another stream."""
    rate = corpus.dataset.rate_hz(stretch.recording_id, stream)
    n = round(stretch.label_s * rate)
    whole = corpus.dataset.read(
        stretch.recording_id, stretch.first_s, round(float(stretch.starts_s[-1]) * rate) + n, stream=stream
    )
    first = np.round(stretch.starts_s * rate).astype(int)
    return np.stack([whole[a : a + n] for a in first])


@torch.inference_mode()
def probabilities(decoder: Decoder, part: str) -> NDArray[np.float64]:
    """Class probabilities of a part's windows in the order of `Corpus.cut`, (W, class)."""
    out = said_of(decoder, part)[0].softmax(-1).double().numpy()
    if np.isnan(out).any():
        raise DataError(f"part '{part}' cannot be scored whole: a probability is not a number; the decoder diverged")
    return out
