"""Choosing a learning rate on the calibration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurofm.adapt.crossval import cross_validate, decoder, folds_of
from neurofm.adapt.finetune import finetune
from neurofm.data.corpus import Corpus
from neurofm.hub.load import LoadedModel
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


def choose_lr(
    loaded: LoadedModel,
    corpus: Corpus,
    part: str,
    calibration: NeuralBatch,
    *,
    rates: Sequence[float],
    n_folds: int,
    loop: Mapping[str, Any],
    facts: Facts,
    **how: Any,
) -> dict[str, float]:
    """Return the best of `rates` and how each of them did, for the model card.

    With labelled trials, as many of every class as folds: by balanced accuracy over folds within the calibration.
    Otherwise by the lowest loss on the calibration's last part, which early stopping watches anyway. Among equals the
    smallest rate: it stays nearest to the pretrained model. With too little to choose by, the rate of `loop` stays. No
    other part is opened.

    Parameters
    ----------
    loaded, corpus, part
        The checkpoint, the data, and the part that calibrates.
    calibration : NeuralBatch
        Windows of that part.
    rates : sequence of float
        Peak learning rates.
    n_folds : int
        Of the cross-validation; fewer where a class has fewer trials.
    loop, facts, **how
        As for `finetune`: strategy, strategy_choices, objective, seed.

    Returns
    -------
    dict of str to float
        ``search/lr_peak``, and ``search/accuracy@<rate>`` or ``search/tail_loss@<rate>`` of each.
    """
    if not rates or any(not rate > 0 for rate in rates):
        raise ConfigError(f"lr_search={list(rates)}: learning rates are above 0")
    ordered = sorted(float(rate) for rate in rates)
    folds = _folds(corpus, part, facts, calibration, n_folds, int(how["seed"]))
    scores = []
    for rate in ordered:
        tried = {**loop, "lr_peak": rate}
        if folds:
            fit_predict = decoder(loaded, facts=facts, loop=tried, **how)
            scores.append(float(np.mean(cross_validate(folds, fit_predict).balanced_accuracy)))
            continue
        found = finetune(
            loaded,
            calibration,
            stretches=corpus.stretches(part, facts),
            facts=facts,
            **how,
            **{**tried, "refit": False},
        )
        seen = [h["tail_loss"] for h in found.history if "tail_loss" in h]
        scores.append(-min(seen) if seen else -np.inf)
    if not np.isfinite(scores).any():
        # a trial or two of each class: nothing can be spared to choose by
        return {"search/lr_peak": float(loop["lr_peak"])}
    best = ordered[int(np.argmax(scores))]
    name, sign = ("accuracy", 1.0) if folds else ("tail_loss", -1.0)
    tried_all = {f"search/{name}@{rate:g}": sign * score for rate, score in zip(ordered, scores, strict=True)}
    return {"search/lr_peak": best, **tried_all}


def _folds(corpus: Corpus, part: str, facts: Facts, calibration: NeuralBatch, n_folds: int, seed: int) -> list[Any]:
    """Folds over labelled trials; none where there are no labels, or a class has a single trial."""
    if corpus.task.windows != "trial" or not facts.classes or calibration.target is None:
        return []
    fewest = int(calibration.target.unique(return_counts=True)[1].min())
    if fewest < 2:
        return []
    return list(folds_of(corpus, part, facts, n_folds=min(n_folds, fewest), seed=seed))
