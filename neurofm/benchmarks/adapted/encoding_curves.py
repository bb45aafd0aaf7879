"""How well a person's responses to new stimuli are predicted, against the number of trials known of that person.

Every decoder that holds a context (adapt=in_context) beside ridge from the embedding to the responses, and banded ridge from all
embeddings that the data name, a band each; both fitted on the very same trials. A score is Pearson's correlation over test trials, averaged over channels.

Shape legend: n trials, C channel, E embedding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurofm.benchmarks.adapted.decoders import CHUNK, Decoder, audit_decoder, by_strategy, open_decoder
from neurofm.benchmarks.adapted.trial_curves import OWN, TrialCurves, budget_of, common_of
from neurofm.benchmarks.adapted.trials import MODEL
from neurofm.benchmarks.baselines.banded_ridge import BandedRidge
from neurofm.benchmarks.baselines.ridge_embedding import EmbeddingRidge
from neurofm.benchmarks.guards.audit import refuse_on_leak
from neurofm.benchmarks.results import append_results, record_look
from neurofm.benchmarks.stats.intervals import bootstrap
from neurofm.schema.errors import ConfigError

RIDGE, BANDED = "ridge on the same trials", "banded ridge on the same trials"
# of the cross-validation of banded ridge
FOLDS = 5
Array = NDArray[np.float64]


def score_encoding(
    *, name: str, runs: str, results: str, run_id: str, task: str, dataset: str | None = None, allow_leak: str = "",
    allow_import: bool = False, versions: str = "",
) -> Iterator[tuple[str, TrialCurves]]:  # fmt: skip
    """Score every decoder of `task` under `runs`; arguments as of `trial_curves.score_trial_curves`.

    Seeds of one strategy are averaged. The tested stimuli must be new to pretraining and calibration.
    """
    out, done = TrialCurves(unit="trials of the new person"), set()
    found = by_strategy(runs, task=task, dataset=dataset)
    for folder in (f for folders in found.values() for f in folders):
        decoder = open_decoder(folder, allow_import=allow_import)
        if not decoder.loaded.objective.held:
            raise ConfigError(
                f"{folder}: holds no context of its person; adapt with adapt=in_context from_scratch=false"
            )
        findings = audit_decoder(decoder, new_subject=True, new_stimulus=True)
        refuse_on_leak(findings, allow_leak=allow_leak)
        out.findings += [f for f in findings if f not in out.findings]
    for strategy, folders in found.items():
        scores: dict[tuple[str, float], list[float]] = {}
        for folder in folders:
            decoder = open_decoder(folder, allow_import=allow_import)
            budget, person = budget_of(decoder), decoder.subject
            common = common_of(name, decoder, run_id, versions, allow_leak, budget, out.unit, kind="encoding")
            if person not in out.looks:
                out.looks[person] = record_look(results, **{k: v for k, v in common.items() if k not in OWN})
            bands, measured, said = answers(decoder, "test")
            if (person, budget) not in done:
                done.add((person, budget))
                x, y, _ = answers(decoder, decoder.loaded.card["provenance"]["split"]["part"])
                own = next(iter(x))
                bars = {RIDGE: EmbeddingRidge().fit(x[own], y).predict(bands[own])}
                if len(y) >= FOLDS:
                    bars[BANDED] = BandedRidge(n_folds=FOLDS).fit(x, y).predict(bands)
                for bar, estimate in bars.items():
                    about = {**common, "model": bar, "baseline": True}
                    out.add(bar, person, budget, {"r": _write(out, results, about, estimate, measured)})
            about = {
                **common, "model": MODEL, "strategy": strategy, "seed": decoder.seed,
                "checkpoint_hash": decoder.loaded.card["weights"]["sha256"],
            }  # fmt: skip
            scores.setdefault((person, budget), []).append(_write(out, results, about, said, measured))
            out.add(strategy, person, budget, {"r": float(np.mean(scores[person, budget]))})
            yield f"{person}  {budget:>6g} trials  {strategy:<14} r {scores[person, budget][-1]:.3f}", out


@torch.inference_mode()
def answers(decoder: Decoder, part: str) -> tuple[dict[str, Array], Array, Array]:
    """Embeddings (n, E) of the trials of a part, the model's own first, responses measured and said (n, C)."""
    objective: Any = decoder.loaded.objective
    loader = decoder.corpus.loader(part, decoder.loaded.facts, batch_size=CHUNK, seed=0, training=False)
    bands: dict[str, list[Array]] = defaultdict(list)
    measured, told = [], []
    for batch in loader:
        there = batch.channel_mask.all(0)
        embedding, response = objective.trials(batch)
        said = objective.predict(decoder.loaded.model, batch)[..., 0]
        own = objective.embedding or next(iter(batch.stimulus_embedding))
        others = {n: e.flatten(1) for n, e in batch.stimulus_embedding.items() if n != own}
        for name, values in {own: embedding, **others}.items():
            bands[name].append(values.double().numpy())
        measured.append(response[:, there].double().numpy())
        told.append(said[:, there].double().numpy())
    return {n: np.concatenate(x) for n, x in bands.items()}, np.concatenate(measured), np.concatenate(told)


def correlation(one: Array, other: Array) -> float:
    """Pearson's correlation over trials, averaged over channels; a channel that does not vary counts as 0."""
    a, b = one - one.mean(0), other - other.mean(0)
    spread = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return float(np.where(spread > 0, (a * b).sum(0) / np.where(spread > 0, spread, 1.0), 0.0).mean())


def _write(out: TrialCurves, results: str, about: dict[str, Any], said: Array, measured: Array) -> float:
    value = bootstrap(len(said), lambda rows: correlation(said[rows], measured[rows]), n_draws=200)
    row = {**about, "metric": "r", "value": value.value, "low": value.low, "high": value.high, "n": len(said)}
    out.rows += append_results(results, [row])
    return float(value.value)
