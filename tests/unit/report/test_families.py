"""Families in one table: claims follow from the scores, and few people are no verdict."""

from __future__ import annotations

import numpy as np
import pytest

from neurofm.benchmarks.adapted.new_subject import MODEL, Scored
from neurofm.benchmarks.adapted.trial_decoders import classification_scores
from neurofm.benchmarks.adapted.trials import ENSEMBLE, TrialScores
from neurofm.benchmarks.results import row
from neurofm.report.families import claims_of, section_of

CLASSES = np.array(list("abcd"))


def regions(n_people):
    rng = np.random.default_rng(0)
    about = {"metric": "r2", "seed": 0}
    rows = []
    for person in range(n_people):
        for budget in (100.0, 400.0):
            for strategy, value in {"full": 0.3, "probe": 0.3, "scratch": 0.1}.items():
                noise = 0.02 * rng.normal()
                rows.append(row(model=MODEL, strategy=strategy, subject=str(person), budget=budget, value=value + noise, **about))  # fmt: skip
            rows.append(row(model="ridge", subject=str(person), budget=budget, value=0.55, baseline=True, **about))
    return Scored(rows=rows)


def trials():
    rng = np.random.default_rng(1)
    truth = np.repeat(CLASSES, 18)
    gains = {(ENSEMBLE, "full"): 3.0, ("shrinkage LDA, same transforms", ""): 1.0}
    scores = {
        k: classification_scores(rng.normal(size=(72, 4)) + g * (truth[:, None] == CLASSES), truth, classes=CLASSES)
        for k, g in gains.items()
    }
    return TrialScores(task="movement_direction", classes=tuple(CLASSES), scores=scores)


@pytest.mark.parametrize(("n_people", "verdicts"), [(7, [True, False, False]), (3, [None, None, None])])
def test_claims_follow_from_scores_and_from_how_many_people(n_people, verdicts):
    claims = claims_of({"A": regions(n_people)}, {"A": trials()}, "masked_region", "full")
    # helps against scratch; no better than the probe; far below the ridge
    assert [c.held for c in claims[:3]] == verdicts
    assert f"over {n_people} people, 1 seed;" in claims[0].detail
    assert claims[3].held
    assert "LDA" in claims[3].text


def test_one_table_has_every_family_strategy_and_bar():
    section = section_of({"A": regions(7)}, {"A": trials(), "B": trials()}, "masked_region", "Families")
    (table,) = section.tables
    names = [r[0] for r in table.rows]
    assert names[:3] == ["A: full fine-tuning", "A: frozen probe", "A: same network from scratch"]
    assert "B: full fine-tuning" in names
    assert "bar: population ridge, shrunk" in names
    assert "bar: shrinkage LDA, same transforms" in names
    assert all(len(r) == len(table.columns) for r in table.rows)
    assert "[" in table.rows[0][1]
