"""Does averaging repetitions raise retrieval as theory says? Predicted from the spread of single answers, beside what is measured.

neurofm train experiment=sim_image_eeg data.split.subject=01 name=within/01
python scripts/averaging_theory.py runs/within [folder of results.parquet, default runs]

If an answer is the stimulus's own one plus noise of covariance Σ, the answer to the mean of n trials has covariance Σ / n. Σ is that of a
stimulus's single answers about their mean over all R; so n answers are predicted by that mean plus noise of covariance Σ (1/n − 1/R).
Measured: signals averaged before decoding. One look at the test part, written down.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from neurofm.benchmarks.guards.audit import refuse_on_leak
from neurofm.benchmarks.results import record_look, span_hash
from neurofm.benchmarks.retrieval.curves import curve_over_repetitions
from neurofm.benchmarks.retrieval.gallery import build_gallery
from neurofm.benchmarks.retrieval.ranks import retrieve
from neurofm.benchmarks.retrieval.scores import audit_retriever
from neurofm.benchmarks.retrieval.trials import model_decoder, trials_of_part
from neurofm.hub.load import load_model
from neurofm.training.reopen import corpus_of

DRAWS = 10
runs, results = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "runs"
run_id = f"averaging_theory-{datetime.now(UTC):%Y%m%dT%H%M%S}"
for card in sorted(Path(runs).glob("**/card.json")):
    loaded = load_model(card.parent)
    corpus, origin = corpus_of(loaded), loaded.card["provenance"]
    refuse_on_leak(audit_retriever(loaded, corpus))
    looks = record_look(
        results, run_id=run_id, benchmark="averaging_theory", dataset=corpus.dataset.id, task=origin["task"]["name"],
        part="test", split_hash=corpus.split.hash, test_hash=span_hash([s._asdict() for s in corpus.split["test"]]),
    )  # fmt: skip
    encoder = origin["data"]["embedding"]
    decode, place, compared, _ = model_decoder(loaded, corpus)
    test = trials_of_part(corpus, "test", loaded.facts, encoder).placed(place)
    assert corpus.stimuli is not None
    gallery = build_gallery(corpus.stimuli, encoder, test.stimulus).placed(place, compared)
    row = {k: i for i, k in enumerate(gallery.keys)}
    measured = curve_over_repetitions(decode, test, gallery, row, seed=0)
    # only the direction of an answer counts, and NICE's have nearly one length
    said, which = decode(test.values, test.recording), np.array([row[s] for s in test.stimulus])
    counts = np.bincount(which)
    mean = np.stack([said[which == i].mean(axis=0) for i in range(len(counts))])
    left = said - mean[which]
    root = np.linalg.cholesky(left.T @ left / (len(said) - len(counts)) + 1e-9 * np.eye(said.shape[1]))
    rng, line = np.random.default_rng(0), []
    for n, (top1, top5) in measured.items():
        extra = max(0.0, 1 / n - 1 / counts.min()) ** 0.5
        tops = [
            retrieve(mean + extra * rng.standard_normal(mean.shape) @ root.T, gallery.vectors, np.arange(len(mean))).top
            for _ in range(DRAWS)
        ]
        predicted = (np.mean([t[k].value for t in tops]) for k in (1, 5))
        line.append(f"{n}: {top1:.3f}/{top5:.3f}, predicted {'/'.join(f'{p:.3f}' for p in predicted)}")
    print(f"{card.parent.parent}  {'; '.join(line)}  look {looks}", flush=True)
