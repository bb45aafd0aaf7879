"""Cross-validation over the trials of a training part: what choices are made by, so that the test part stays closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from neurofm.adapt.finetune import finetune
from neurofm.adapt.rows import join
from neurofm.data.corpus import Corpus
from neurofm.data.splits.parts import kfold_trials
from neurofm.hub.load import LoadedModel
from neurofm.objectives.scores import balanced_accuracy
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

FitPredict = Callable[[NeuralBatch, NeuralBatch], ArrayLike | Tensor]
"""Training windows, validation windows without their targets → scores (validation window, class)."""


@dataclass(frozen=True)
class Fold:
    """Windows of one fold after transforms that were fitted on `train` alone, and the classes of `validation`."""

    train: NeuralBatch
    validation: NeuralBatch
    truth: Tensor


@dataclass(frozen=True)
class CrossValidated:
    """What cross-validation found.

    Attributes
    ----------
    balanced_accuracy : list of float
        One per fold.
    scores : list of Tensor, each (window, class)
        What was predicted, fold by fold; averaging those of several seeds gives the score of their ensemble.
    """

    balanced_accuracy: list[float]
    scores: list[Tensor]

    @property
    def metrics(self) -> dict[str, float]:
        """Mean and standard deviation (population) over folds, for the model card."""
        values = torch.tensor(self.balanced_accuracy, dtype=torch.float64)
        return {
            "cv/balanced_accuracy": float(values.mean()),
            "cv/balanced_accuracy_sd": float(values.std(correction=0)),
            "cv/folds": float(len(values)),
        }


def folds_of(
    corpus: Corpus,
    part: str,
    facts: Facts,
    *,
    n_folds: int,
    seed: int,
    transforms: Sequence[Mapping[str, Any]] | None = None,
) -> list[Fold]:
    """Read the folds of one part, stratified by class; no other part is opened.

    Parameters
    ----------
    corpus : Corpus
        Of a task with one labelled window per trial.
    part : str
        Usually "train".
    facts : Facts
        Vocabulary and classes.
    n_folds, seed : int
        How many; key of who is dealt into which.
    transforms : sequence of mapping, optional
        ``{"name": …, **choices}``, such as none for a plain baseline; default: the corpus's. They are fitted anew in
        every fold.

    Raises
    ------
    ConfigError
        When the task is not one of labelled trials, or has fewer trials of a class than folds.
    """
    if corpus.task.windows != "trial" or not facts.classes:
        raise ConfigError("cross_validate needs a task of labelled trials (windows: trial, with a label_kind)")
    if transforms is None:
        raw = [t.to_json() for t in corpus.transform.transforms]
        transforms = [{"name": t["name"], **t["choices"]} for t in raw]
    spans = corpus.split[part]
    labels = [w.target for w in corpus.cut(part, facts)]
    folds = []
    for split in kfold_trials(spans, n_folds=n_folds, seed=seed, labels=labels):
        inner = Corpus(
            path=corpus.dataset, split=split, task=corpus.task, transforms=transforms, preload=corpus.preload
        )
        inner.fit_transforms("train")
        train, validation = (
            join(inner.loader(name, facts, batch_size=256, seed=seed, training=False))
            for name in ("train", "validation")
        )
        if validation.target is None:
            raise DataError(f"{corpus.dataset.path}: the trials of part '{part}' have no labels to cross-validate by")
        folds.append(Fold(train, replace(validation, target=None), validation.target))
    return folds


def cross_validate(folds: Sequence[Fold], fit_predict: FitPredict) -> CrossValidated:
    """Fit on each fold's training windows and score on the others; the same path for networks and baselines.

    `fit_predict` gives scores (window, class), classes in the order of the facts; it never gets a validation label.
    """
    accuracies, scores = [], []
    for fold in folds:
        said = torch.as_tensor(fit_predict(fold.train, fold.validation)).detach().cpu()
        if said.ndim != 2 or len(said) != len(fold.truth):
            raise DataError(f"cross_validate: expected scores of {len(fold.truth)} windows, got {tuple(said.shape)}")
        accuracies.append(float(balanced_accuracy(said.argmax(1), fold.truth, said.shape[1])))
        scores.append(said)
    return CrossValidated(accuracies, scores)


def decoder(
    loaded: LoadedModel,
    *,
    facts: Facts,
    strategy: str,
    strategy_choices: Mapping[str, Any] | None = None,
    objective: Mapping[str, Any] | None = None,
    loop: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> FitPredict:
    """Return what fine-tunes `loaded` and gives log-probabilities; arguments as those of `finetune`.

    A pretrained model may have seen the signals of the validation trials in pretraining, never their labels; from
    scratch it has not.
    """

    def fit_predict(train: NeuralBatch, validation: NeuralBatch) -> Tensor:
        result = finetune(
            loaded, train, strategy=strategy, strategy_choices=strategy_choices, objective=objective, facts=facts,
            seed=seed, **(loop or {}),
        )  # fmt: skip
        predict: Callable[..., Tensor] = result.loaded.objective.predict
        with torch.no_grad():
            return predict(result.loaded.model, validation).log_softmax(1)

    return fit_predict
