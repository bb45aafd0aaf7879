"""Print single-trial retrieval of a new person's test images by every adapted model under a folder of runs.

neurofm finetune checkpoint=runs/sim_fmri/mindeye-seed0 adapt=subject_layer run_dir=runs/sim_fmri/mean …
python scripts/new_person_table.py runs/sim_fmri
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from neurofm.benchmarks.retrieval import retrieve
from neurofm.benchmarks.retrieval_trials import model_decoder, teach_new_people, trials_of_part
from neurofm.hub.load import load_model
from neurofm.training.reopen import corpus_of

for card in sorted(Path(sys.argv[1]).glob("**/card.json")):
    loaded = load_model(card.parent)
    corpus, origin = corpus_of(loaded), loaded.card["provenance"]
    # the pretrained model has met nobody of the test part: its scaling learns them without labels
    teach_new_people(corpus, [s.rpartition("/")[2] for s in origin["subjects"]])
    test = trials_of_part(corpus, "test", loaded.facts, origin["data"]["embedding"])
    said = model_decoder(loaded, corpus)(test.values, test.recording)
    r = retrieve(said, test.own, np.arange(len(test.own)))
    name = card.parent.parent.relative_to(sys.argv[1])
    print(f"{name!s:<32} top-1 {r.top[1].value:.3f}  top-5 {r.top[5].value:.3f}  of {r.n_candidates}", flush=True)
