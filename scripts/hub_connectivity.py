"""What a Neuroformer that was trained on sim_hub knows of the circuit: python scripts/hub_connectivity.py RUN [n_windows].

Prints the surprise of the next unit beside rates (unigram) and rates with the order of the list, on the validation part;
and how well attention and the influence of single spikes tell who is connected to whom, beside the correlogram (.979), a
coupled GLM (.908) and chance (.5). The windows that are read are the first of the training part; the truth is not used.
"""

from __future__ import annotations

import sys
from itertools import islice

import numpy as np
import torch

from neurofm.analysis.spike_influence import influence
from neurofm.benchmarks.baselines.correlogram import score_connectivity
from neurofm.benchmarks.baselines.spike_order import OrderedUnigram
from neurofm.hub.load import load_model
from neurofm.nn.ragged import pad_rows
from neurofm.training.reopen import corpus_of


def main(run: str, n_windows: int = 1500) -> None:
    """Print the figures."""
    loaded = load_model(run)
    model, objective, facts = loaded.model, loaded.objective, loaded.facts
    corpus = corpus_of(loaded)
    (recording,) = sorted(corpus.dataset.recordings)
    truth, _ = corpus.dataset.read_stream(recording, 0.0, 1e9, stream="true_connectivity")
    n = len(facts.channels)
    true = np.asarray(truth).reshape(n, n)

    def batches(part: str):
        return corpus.loader(part, facts, batch_size=64, seed=0, training=False)

    def tokens(part: str) -> list[np.ndarray]:
        found = [model.current(b) for b in batches(part)]
        count = torch.cat([t.mask.sum(1) for t in found])
        row = torch.arange(len(count)).repeat_interleave(count)
        flat = torch.cat([torch.stack([t.channel, t.step], -1)[t.mask] for t in found])
        padded, mask = pad_rows(flat, row, len(count))
        return [padded[..., 0].numpy(), padded[..., 1].numpy(), mask.numpy()]

    null = OrderedUnigram(n_units=n, n_steps=model.n_steps).fit(*tokens("pretrain"))
    ordered, unigram = null.nats(*tokens("validation"))
    model.eval()
    objective.eval()
    total = spikes = 0.0
    with torch.inference_mode():
        for batch in batches("validation"):
            states = model.run(batch)
            t = states.current
            logits = objective.logits(states, batch)[0][:, :-1, 1:].double().log_softmax(-1)
            total -= float(logits.gather(2, t.channel[..., None])[..., 0][t.mask].sum())
            spikes += float(t.mask.sum())
    print(
        f"next unit, nats: rates {unigram:.3f}, rates and order {ordered:.3f}, model {total / spikes:.3f}", flush=True
    )

    def few():
        return islice(batches("pretrain"), -(-n_windows // 64))

    for name, said in (
        ("attention to history", model.connectivity(few(), current=False)),
        ("attention to history and current spikes", model.connectivity(few())),
    ):
        told(name, said, true, signed=False)
    told("influence of a spike", influence(model, objective, few(), n_units=n), true, signed=True)


def told(name: str, said: torch.Tensor, true: np.ndarray, *, signed: bool) -> None:
    """Print the scores of one reading; turned round, the direction should be worth less."""
    a = np.nan_to_num(said.numpy())
    scores, turned = (score_connectivity(x, true, signed=signed) for x in (a, a.T))
    line = "  ".join(f"{k} {v:.3f}" for k, v in scores.items())
    print(f"{name}: {line}  (direction turned round: auroc {turned['auroc']:.3f})", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
