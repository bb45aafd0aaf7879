"""Print single-trial retrieval of a new person's test images by every adapted model under a folder of runs.

neurofm finetune checkpoint=runs/sim_fmri/mindeye-seed0 adapt=subject_layer run_dir=runs/sim_fmri/mean …
python scripts/new_person_table.py runs/sim_fmri [folder of results.parquet, default runs]

Each table is one look at the test set and is written down as such, before anything is scored.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from neurofm.benchmarks.guards.audit import refuse_on_leak
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.benchmarks.retrieval.ranks import retrieve
from neurofm.benchmarks.retrieval.scores import audit_retriever
from neurofm.benchmarks.retrieval.trials import model_decoder, teach_new_people, trials_of_part
from neurofm.hub.load import load_model
from neurofm.schema.hashing import hash_of
from neurofm.training.reopen import corpus_of

PROTOCOL = (
    "candidates: the tested stimuli themselves; single trials; negatives: all other candidates; similarity: cosine"
)
runs, results = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "runs"
run_id = f"new_person_table-{datetime.now(UTC):%Y%m%dT%H%M%S}"
print(PROTOCOL)
for card in sorted(Path(runs).glob("**/card.json")):
    loaded = load_model(card.parent)
    corpus, origin = corpus_of(loaded), loaded.card["provenance"]
    refuse_on_leak(audit_retriever(loaded, corpus))
    encoder, name = origin["data"]["embedding"], str(card.parent.parent.relative_to(runs))
    common = {
        "run_id": run_id, "benchmark": "new_person_table", "dataset": corpus.dataset.id, "task": origin["task"]["name"],
        "part": "test", "split_hash": corpus.split.hash,
        "test_hash": span_hash([s._asdict() for s in corpus.split["test"]]),
    }  # fmt: skip
    looks = record_look(results, **common)
    # the pretrained model has met nobody of the test part: its scaling learns them without labels
    teach_new_people(corpus, [s.rpartition("/")[2] for s in origin["subjects"]])
    test = trials_of_part(corpus, "test", loaded.facts, encoder)
    decoder = model_decoder(loaded, corpus)
    said = decoder.answer(test.values, test.recording)
    r = retrieve(said, decoder.place(test.own), np.arange(len(test.own)))
    about = {
        **common, "model": loaded.card["model"]["name"], "strategy": name, "seed": int(origin.get("seed", 0)),
        "checkpoint_hash": loaded.card["weights"]["sha256"], "n": len(r.ranks),
        "protocol_hash": hash_of([PROTOCOL, encoder]), "note": PROTOCOL,
    }  # fmt: skip
    append_results(results, [{**about, "metric": f"top{k}", "value": i.value, "low": i.low, "high": i.high}
                             for k, i in r.top.items()])  # fmt: skip
    print(
        f"{name:<32} top-1 {r.top[1].value:.3f}  top-5 {r.top[5].value:.3f}  of {r.n_candidates}  look {looks}",
        flush=True,
    )
