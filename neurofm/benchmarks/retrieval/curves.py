"""Accuracy over averaged repetitions and over parts of the signal, and some queries with what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from neurofm.benchmarks.retrieval.average import counts_up_to, draw_repetitions
from neurofm.benchmarks.retrieval.gallery import Gallery
from neurofm.benchmarks.retrieval.ranks import cosine, ranks_of, retrieve
from neurofm.benchmarks.retrieval.resolved import views
from neurofm.benchmarks.retrieval.trials import Decode, Decoder, Trials

# draws of the repetitions that are averaged
DRAWS = 3
# top-1 and top-5
Tops = tuple[float, float]


def curve_over_repetitions(
    decode: Decode, own: Trials, gallery: Gallery, answer: Mapping[str, int], *, seed: int
) -> dict[int, Tops]:
    """Number of averaged repetitions → top-1 and top-5, means over `DRAWS` draws of which are averaged."""
    found = {}
    for n in counts_up_to(own.stimulus, own.subject):
        scores = []
        for draw in range(DRAWS):
            rows = draw_repetitions(own.stimulus, own.subject, n, np.random.default_rng([seed, n, draw]))
            mean = own.only(rows).averaged("subject")
            target = np.array([answer[s] for s in mean.stimulus])
            top = retrieve(decode(mean.values, mean.recording), gallery.vectors, target).top
            scores.append((top[1].value, top[5].value))
        top1, top5 = np.mean(scores, axis=0).tolist()
        found[n] = (top1, top5)
    return found


def parts_of_signal(
    decode: Decode, test: Trials, gallery: Gallery, answer: Mapping[str, int], *, names: Sequence[str], rate_hz: float, width_s: float,
    step_s: float, taught: Trials | None = None, teach: Callable[[Trials], Decoder] | None = None,
) -> dict[tuple[str, str], float]:  # fmt: skip
    """Top-1 on parts of the signal: a model sees zeros elsewhere; `teach` makes one anew of the training trials `taught` on each part.

    Parameters
    ----------
    names : sequence of str
        Of the channels.
    rate_hz : float
        Of the signal.
    width_s, step_s : float
        Of the parts of time.
    """
    mean = test.averaged("subject")
    target = np.array([answer[s] for s in mean.stimulus])
    seen = views(mean.values, rate_hz, names, width_s=width_s, step_s=step_s)
    if teach is not None and taught is not None:
        taught = taught.averaged("subject")
        learned = views(taught.values, rate_hz, names, width_s=width_s, step_s=step_s)
    found = {}
    for part, values in seen.items():
        if teach is not None and taught is not None:
            decode = teach(replace(taught, values=learned[part])).answer
        found[part] = retrieve(decode(values, mean.recording), gallery.vectors, target).top[1].value
    return found


def examples(
    decode: Decode, mean: Trials, gallery: Gallery, answer: Mapping[str, int], *, n: int
) -> list[tuple[str, list[str]]]:
    """Pick `n` queries with the first five found: evenly over ranks, so that failures are shown as well."""
    similarity = cosine(decode(mean.values, mean.recording), gallery.vectors)
    ranks = ranks_of(similarity, np.array([answer[s] for s in mean.stimulus]))
    order = np.argsort(ranks, kind="stable")[np.linspace(0, len(ranks) - 1, min(n, len(ranks))).round().astype(int)]
    return [
        (mean.stimulus[i], [gallery.keys[k] for k in np.argsort(-similarity[i], kind="stable")[:5]])
        for i in order.tolist()
    ]
