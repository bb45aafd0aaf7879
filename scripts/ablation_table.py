"""Print the table of scripts/ablation_hcp7.sh: python scripts/ablation_table.py RUNS.

Every model is scored on volumes 330 to 599 of the person it did not see, in that person's mean and standard deviation of
the first 200 volumes; nothing else is adapted. The bars are of other people too, shrunk to those 200 volumes.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from neurofm.benchmarks.adapted.bars import FoldBars
from neurofm.benchmarks.adapted.decoders import Decoder, RegionPredictor
from neurofm.benchmarks.adapted.protocols import every_third_region, masked_region_scores, next_volume_scores
from neurofm.data.splits.spans import Span
from neurofm.hub.load import load_model
from neurofm.training.reopen import corpus_of

DEVELOPMENT = (330, 600)  # volumes of a held-out person
BUDGET = 200  # volumes that the normalisation, and the bars, may know
CONTEXT = 8  # volumes of history
TASKS = {"masked_region": "hidden regions", "next_state": "next volume"}
Scores = dict[str, dict[str, list[float]]]


def score(folder: Path) -> tuple[str, float, Decoder]:
    """Return the person a model did not see, its mean R² over regions, and the model with its data."""
    loaded = load_model(folder)
    corpus = corpus_of(loaded, transforms="fitted")
    corpus.fit_transforms(f"calibration-{BUDGET}")
    whole = corpus.split["test"][0]
    subject = corpus.dataset.subject(whole.recording_id)
    decoder = Decoder(loaded=loaded, corpus=corpus, subject=subject, strategy="none", budget=str(BUDGET), seed=0)
    values = corpus.values(development(decoder))
    predictor = RegionPredictor(decoder, whole.recording_id)
    if loaded.card["objective"]["name"] == "masked_region":
        window = loaded.facts.window_samples
        return subject, masked_region_scores(predictor.masked, values, window=window, margin=2).mean_r2, decoder
    return subject, next_volume_scores(predictor.next, values, context=CONTEXT).mean_r2, decoder


def development(decoder: Decoder) -> Span:
    """Return the volumes that may be looked at; never the test part."""
    test = decoder.corpus.split["test"][0]
    dataset = decoder.corpus.dataset
    rate_hz, origin_s = dataset.rate_hz(test.recording_id), dataset.valid(test.recording_id)[0][0]
    span = Span(test.recording_id, *(origin_s + volume / rate_hz for volume in DEVELOPMENT))
    if span.stop_s > test.start_s + 1e-6:
        sys.exit(f"{dataset.path}: volumes {DEVELOPMENT} reach into the test part, which begins at {test.start_s:g} s")
    return span


def bars(decoder: Decoder) -> dict[str, dict[str, float]]:
    """Return what the classical models reach on the same volumes; task → model → R²."""
    dataset = decoder.corpus.dataset
    # the runs of other people are whole; the held-out person's ends before the test part
    runs = {dataset.subject(r): dataset.read_interval(r, 0) for r in sorted(dataset.recordings)}
    runs[decoder.subject] = runs[decoder.subject][: DEVELOPMENT[1]]
    fold = FoldBars(runs, test=DEVELOPMENT, targets=every_third_region(runs[decoder.subject].shape[1]), context=CONTEXT)
    return {
        "masked_region": {b.model: b.scores.mean_r2 for b in fold.masked(decoder.subject, BUDGET)},
        "next_state": {b.model: b.scores.mean_r2 for b in fold.next_volume(decoder.subject, BUDGET)},
    }


def main(runs: str) -> None:
    """Score everything under a folder and print one table in Markdown."""
    found: Scores = defaultdict(lambda: defaultdict(list))
    known: dict[str, dict[str, dict[str, float]]] = {}
    for task in TASKS:
        for card in sorted(Path(runs, task).glob("*/*/model/card.json")):
            subject, r2, decoder = score(card.parent)
            found[card.parts[-4]][task].append(r2)
            if subject not in known:
                known[subject] = bars(decoder)
    if not found:
        sys.exit(f"{runs}: holds no models; make them with scripts/ablation_hcp7.sh")
    for of_person in known.values():
        for task, models in of_person.items():
            for model, r2 in models.items():
                found[f"bar: {model}"][task].append(r2)
    first = found.get("full", {})
    print(
        f"R² on volumes {DEVELOPMENT[0]} to {DEVELOPMENT[1] - 1} of {', '.join(sorted(known))}, who were not trained on\n"
    )
    print("| row | " + " | ".join(f"{title}, difference to full" for title in TASKS.values()) + " |")
    print("| --- |" + " --- |" * len(TASKS))
    for row in sorted(found, key=lambda name: (name.startswith("bar"), name != "full", name)):
        print(f"| {row} | " + " | ".join(_cell(found[row][task], first.get(task), row) for task in TASKS) + " |")


def _cell(r2: list[float], full: list[float] | None, row: str) -> str:
    """Mean, and where there is something to compare with the difference for each person."""
    if not r2:
        return ""
    if row == "full" or row.startswith("bar") or not full or len(full) != len(r2):
        return f"{np.mean(r2):.3f}"
    change = np.subtract(r2, full)
    return f"{np.mean(r2):.3f}, {change.mean():+.3f} (" + ", ".join(f"{x:+.3f}" for x in change) + ")"


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["runs/ablation"])
