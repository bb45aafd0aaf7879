"""One line of a retrieval result: a decoder on one person, gallery and averaging, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurofm.benchmarks.retrieval.average import WORDS
from neurofm.benchmarks.retrieval.controls import Control, controls_of, verdict
from neurofm.benchmarks.retrieval.gallery import Gallery
from neurofm.benchmarks.retrieval.ranks import Retrieval, retrieve, subsets_of_k, two_way
from neurofm.benchmarks.retrieval.trials import Decoder, Trials
from neurofm.hub.load import LoadedModel
from neurofm.schema.hashing import hash_of

RIDGE, ENCODING = "ridge", "encoding model"
BARS = (RIDGE, ENCODING)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One decoder on one person, gallery and averaging.

    Attributes
    ----------
    model, subject, rule : str
        `rule` says whether the person was trained on.
    gallery : Gallery
    mode : str
        "trial" or "subject": what was averaged before decoding.
    scores : Retrieval
    two_way : float
        Mean two-way identification of embeddings; nan where answers are none.
    controls : dict of str to Control
    verdict : str
        "" or which control it does not beat.
    ceiling : float
        Top-1 with the stimuli's own embeddings; nan where answers are none.
    backward : Retrieval, optional
        Of all answers, which one is to this stimulus? Where each tested stimulus has one answer.
    """

    model: str
    subject: str
    rule: str
    gallery: Gallery
    mode: str
    scores: Retrieval
    two_way: float
    controls: dict[str, Control]
    verdict: str
    ceiling: float
    backward: Retrieval | None = None


def line_of(
    decoder: Decoder, trials: Trials, gallery: Gallery, answer: Mapping[str, int], *, model: str, subject: str,
    rule: str, mode: str, train: Trials, seed: int,
) -> Line:  # fmt: skip
    """Score a decoder on a person's (averaged) trials, its controls beside it."""
    target = np.array([answer[s] for s in trials.stimulus])
    decode, candidates = decoder.answer, gallery.vectors
    said = decode(trials.values, trials.recording)
    scores = retrieve(said, candidates, target, unit=np.array(trials.stimulus))
    controls = controls_of(
        decode, trials, candidates, target, train=None if decoder.by_likelihood else train, seed=seed
    )
    two, ceiling = float("nan"), float("nan")
    if not decoder.by_likelihood:
        # with many trials of one stimulus the distractors would be the same item
        mean = trials.averaged("everybody")
        alone = len(set(mean.stimulus)) < 2
        two = 0.5 if alone else float(np.mean(two_way(decode(mean.values, mean.recording), mean.own)))
        ceiling = retrieve(mean.own, candidates, np.array([answer[s] for s in mean.stimulus])).top[1].value
    once = gallery.source == "stimulus" and len(set(trials.stimulus)) == len(trials.stimulus) > 1
    return Line(
        backward=retrieve(candidates[target], said, np.arange(len(said))) if once else None,
        model=model, subject=subject, rule=rule, gallery=gallery, mode=mode, scores=scores, controls=controls,
        two_way=two, verdict=verdict(scores.top[1].low, controls), ceiling=ceiling,
    )  # fmt: skip


def _about(common: Mapping[str, Any], line: Line, centred: bool, loaded: LoadedModel, averaged: str) -> dict[str, Any]:
    bar = line.model in BARS
    return {
        **common, "subject": line.subject, "model": line.model, "strategy": line.rule, "baseline": bar,
        "seed": -1 if bar else int(loaded.card["provenance"].get("seed", 0)), "n": len(line.scores.ranks),
        "checkpoint_hash": "" if bar else loaded.card["weights"]["sha256"],
        "protocol_hash": hash_of([line.gallery.hash, line.mode, centred]),
        "note": f"{line.gallery.sentence()}; {averaged}",
    }  # fmt: skip


def rows_of(
    common: Mapping[str, Any], line: Line, centred: bool, loaded: LoadedModel, ways: Sequence[int],
    best: tuple[float, float] = (float("nan"), float("nan")),
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of results.parquet; `best` is top-1 and top-5 of the best possible decoder, where it is known."""
    about = _about(common, line, centred, loaded, WORDS[line.mode])
    # known for the gallery of the tested stimuli alone
    ceilings = dict(zip((1, 5), best, strict=True)) if line.gallery.source == "stimulus" else {}
    rows = [
        {**about, "metric": f"top{k}", "value": i.value, "low": i.low, "high": i.high, "ceiling": ceilings.get(k, float("nan"))}
        for k, i in line.scores.top.items()
    ]  # fmt: skip
    for direction, found in (("", line.scores), ("backward_", line.backward)):
        if found is None:
            continue
        for k in ways:
            draws = subsets_of_k(found.ranks, found.n_candidates, k=k)
            low, high = np.quantile(draws, [0.025, 0.975])
            value = float(draws.mean())
            rows.append({**about, "metric": f"{direction}top1_of_{k}", "value": value, "low": low, "high": high})
    if line.backward is not None:
        i = line.backward.top[1]
        rows.append({**about, "metric": "backward_top1", "value": i.value, "low": i.low, "high": i.high})
    for metric, value in (
        ("median_rank", line.scores.median_rank), ("mrr", line.scores.mrr), ("two_way", line.two_way),
        ("hubness", line.scores.hubness), ("feature_ceiling", line.ceiling),
        *((f"control: {k}", c.top1) for k, c in line.controls.items()),
    ):  # fmt: skip
        if np.isfinite(value):
            rows.append({**about, "metric": metric, "value": value})
    return rows


def curve_rows(
    common: Mapping[str, Any], line: Line, points: Mapping[int, tuple[float, float]],
    best: Mapping[int, tuple[float, float]], centred: bool, loaded: LoadedModel,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of results.parquet for the curve over averaged repetitions: ``top1_of_mean_5`` and so on."""
    about = _about(common, line, centred, loaded, "means over as many repetitions as the metric says, three draws")
    return [
        {**about, "metric": f"top{k}_of_mean_{n}", "value": tops[i], "ceiling": best.get(n, (float("nan"),) * 2)[i]}
        for n, tops in points.items()
        for i, k in enumerate((1, 5))
    ]


def sentence_of(line: Line) -> str:
    """What is printed while an evaluation runs."""
    top = "  ".join(f"top-{k} {i.value:.3f}" for k, i in line.scores.top.items())
    lost = f"  [{line.verdict}]" if line.verdict else ""
    return (
        f"sub-{line.subject:<6} {line.rule:<10} {line.model:<24} {line.gallery.source}, {len(line.gallery.keys)} candidates, "
        f"{line.mode:<8} {top}  median rank {line.scores.median_rank:g}{lost}"
    )


def shown_as(model: str, rule: str) -> str:
    """Name in figures: within people and for new ones are two stories."""
    return f"{model}, new person" if rule == "new person" else model
