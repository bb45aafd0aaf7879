"""Score retrievers on training concepts that were held out, to choose by: of their own people, or of the one held out.

neurofm train experiment=sim_image_eeg data.split.subject=01 data.split.validation_fraction=0.1667 …
python scripts/retrieval_development.py runs/sim_image_eeg/within-01

The test images are never opened. The concepts are those of the split's part "validation"; of a held-out person they are
found among their training recordings, which taught nothing but the transforms (without labels). Ridge stands beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from neurofm.benchmarks.retrieval.ranks import retrieve
from neurofm.benchmarks.retrieval.trials import (
    encoding_decoder,
    model_decoder,
    ridge_decoder,
    teach_new_people,
    trials_of_part,
)
from neurofm.data.splits.parts import whole
from neurofm.data.splits.spans import Split
from neurofm.hub.load import load_model
from neurofm.training.reopen import corpus_of

cards = [c for run in sys.argv[1:] for c in sorted(Path(run).glob("**/card.json"))]
told: set[str] = set()
for card in cards:
    loaded = load_model(card.parent)
    corpus, origin = corpus_of(loaded), loaded.card["provenance"]
    encoder, split = origin["data"]["embedding"], corpus.split
    shown = {s.stimulus_id for s in split["validation"]}
    asked = split["validation"]
    new = teach_new_people(corpus, [s.rpartition("/")[2] for s in origin["subjects"]])
    if new:
        own = corpus.dataset.select(subject=new, part="train")
        asked = [s for s in whole(corpus.dataset, own) if s.stimulus_id in shown]
    corpus.split = Split(parts={"train": split["train"], "asked": asked}, rule="development", seed=split.seed)
    trials = trials_of_part(corpus, "asked", loaded.facts, encoder)
    key = f"{split.hash} {[t['choices'] for t in loaded.transforms]}"
    decoders = {str(card.parent.parent): model_decoder(loaded, corpus)}
    if key not in told:
        told.add(key)
        decoders["ridge"] = ridge_decoder(trials_of_part(corpus, "train", loaded.facts, encoder))
        decoders["encoding model"] = encoding_decoder(trials_of_part(corpus, "train", loaded.facts, encoder))
    for name, (decode, place, *_) in decoders.items():
        said = []
        for subject in sorted(set(trials.subject)):
            mean = trials.of(subject).averaged("subject")
            names = sorted(set(mean.stimulus))
            gallery = place(np.stack([mean.own[mean.stimulus.index(s)] for s in names]))
            target = np.array([names.index(s) for s in mean.stimulus])
            top = retrieve(decode(mean.values, mean.recording), gallery, target).top
            said.append((top[1].value, top[5].value))
        top1, top5 = np.mean(said, axis=0)
        who = f"new person {new[0]}" if new else f"{len(said)} people"
        print(f"{name:<44} {who:<14} top-1 {top1:.3f}  top-5 {top5:.3f}  of {len(names)}, means of two", flush=True)
