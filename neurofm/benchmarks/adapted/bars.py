"""The classical bars of a new-subject benchmark on regions × volumes, all computed in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.adapted.normalise import (
    Normaliser,
    fit_normaliser,
    held_out_normaliser,
    transductive_normaliser,
)
from neurofm.benchmarks.adapted.protocols import (
    TraceScores,
    every_third_region,
    masked_region_scores,
    next_volume_scores,
)
from neurofm.benchmarks.baselines.lagged_ridge import Gram, add_up, gram
from neurofm.benchmarks.baselines.masked_ridge import LAGS, MaskedRegionRidge
from neurofm.benchmarks.baselines.var import VAR, predict_persistence
from neurofm.schema.errors import ConfigError, nearest

# Chosen on volumes 330–599 of the held-out people; never on the test span
OWN_ONLY_PENALTY = 300.0
VAR_PENALTIES = {1: (1000.0, 1000.0), 2: (1000.0, 3000.0)}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One baseline's score on one held-out person at one budget."""

    task: str
    model: str
    subject: str
    budget: int
    transductive: bool
    normalised_by: str
    scores: TraceScores


class FoldBars:
    """Bars for every person of a corpus held out in turn; Gram matrices are made once per person.

    Parameters
    ----------
    runs : mapping of str to array_like, shape (time, region)
        Person → run, in the recording's unit. Other people give their whole run.
    test : tuple of int
        First and one-past-last volume that is scored, of the held-out person.
    targets : sequence of int, optional
        Masked regions; default every third.
    unlabelled : int
        At budget 0, the mean and standard deviation come from this many first volumes (no weights are fitted on them).
    context : int
        Volumes before the first scored one in the next-volume task.
    """

    def __init__(
        self,
        runs: Mapping[str, ArrayLike],
        *,
        test: tuple[int, int],
        targets: Sequence[int] | None = None,
        unlabelled: int = 50,
        context: int = 8,
    ) -> None:
        self.runs = {name: np.asarray(run, dtype=np.float64) for name, run in runs.items()}
        if len(self.runs) < 2:
            raise ConfigError("bars: a held-out person needs at least one other person; give two or more runs")
        n_regions = next(iter(self.runs.values())).shape[1]
        self.targets = every_third_region(n_regions) if targets is None else list(targets)
        self.test, self.unlabelled, self.context = test, unlabelled, context
        self._grams: dict[tuple[str, tuple[int, ...]], Gram] = {}

    def _gram(self, person: str, lags: tuple[int, ...]) -> Gram:
        if (person, lags) not in self._grams:
            run = self.runs[person]
            self._grams[person, lags] = gram(fit_normaliser(run, source="whole run").apply(run), lags)
        return self._grams[person, lags]

    def _population(self, held_out: str, lags: tuple[int, ...]) -> Gram:
        return add_up(self._gram(person, lags) for person in self.runs if person != held_out)

    def normaliser(self, held_out: str, budget: int, *, transductive: bool = False) -> Normaliser:
        """Return the figures that the held-out person's values are expressed in at this budget.

        Raises
        ------
        ConfigError
            When the person is unknown or the calibration would reach into the test span.
        """
        if held_out not in self.runs:
            raise ConfigError(f"unknown subject '{held_out}': {nearest(held_out, self.runs)}")
        if max(budget, 0 if budget else self.unlabelled) > self.test[0]:
            raise ConfigError(
                f"budget {budget}: calibration would reach into the test span, which starts at {self.test[0]}"
            )
        run = self.runs[held_out]
        if transductive:
            return transductive_normaliser(run[: self.test[1]])
        return held_out_normaliser(run[:budget], unlabelled=run[: self.unlabelled])

    def spans(self, held_out: str, budget: int, *, transductive: bool = False) -> tuple[NDArray, NDArray, Normaliser]:
        """Return normalised calibration (budget, region) and test (time, region) values, and the normaliser.

        A model under comparison is scored on exactly these.
        """
        normaliser = self.normaliser(held_out, budget, transductive=transductive)
        run = self.runs[held_out]
        return normaliser.apply(run[:budget]), normaliser.apply(run[slice(*self.test)]), normaliser

    def masked(self, held_out: str, budget: int, *, transductive: bool = False) -> Iterator[Bar]:
        """Yield the masked-region bars: `ridge` (population, shrunk towards) and, with calibration, `ridge_own`."""
        calibration, test, normaliser = self.spans(held_out, budget, transductive=transductive)
        models = {"ridge": MaskedRegionRidge(targets=self.targets).fit_gram(self._population(held_out, LAGS))}
        if budget:
            models["ridge_own"] = MaskedRegionRidge(targets=self.targets, penalty_own=OWN_ONLY_PENALTY)
        for name, model in models.items():
            scores = masked_region_scores(model.adapt(calibration).predict_masked, test, targets=self.targets)
            yield self._bar("masked_region", name, held_out, budget, normaliser, scores)

    def next_volume(self, held_out: str, budget: int, *, transductive: bool = False) -> Iterator[Bar]:
        """Yield the next-volume bars: `persistence`, `var1`, `var2` (shrunk) and, with calibration, `var1_own`."""
        calibration, test, normaliser = self.spans(held_out, budget, transductive=transductive)
        predictors = {"persistence": predict_persistence}
        for order, (penalty, penalty_own) in VAR_PENALTIES.items():
            model = VAR(order=order, penalty=penalty, penalty_own=penalty_own)
            model = model.fit_gram(self._population(held_out, model.lags))
            predictors[f"var{order}"] = model.adapt(calibration).predict_next
        if budget:
            predictors["var1_own"] = VAR(penalty_own=OWN_ONLY_PENALTY).adapt(calibration).predict_next
        for name, predict in predictors.items():
            scores = next_volume_scores(predict, test, context=self.context)
            yield self._bar("next_volume", name, held_out, budget, normaliser, scores)

    def _bar(
        self, task: str, model: str, held_out: str, budget: int, normaliser: Normaliser, scores: TraceScores
    ) -> Bar:
        return Bar(
            task=task, model=model, subject=held_out, budget=budget, transductive=normaliser.transductive,
            normalised_by=normaliser.source, scores=scores,
        )  # fmt: skip
