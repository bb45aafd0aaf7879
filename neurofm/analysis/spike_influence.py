"""What a spike does to the spikes that a trained Neuroformer expects next: directed and signed, unlike attention.

A spike of the recent past is hidden from the model and the chances of all units are compared with and without it, with
everything else as it was recorded: the model's own coupling. (Attention says where a prediction looks, not which way it
then goes, so an inhibiting cell is not told from an exciting one.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from neurofm.adapt.rows import select
from neurofm.models.neuroformer import Neuroformer
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError


@torch.no_grad()
def influence(
    model: Neuroformer, objective: Any, batches: Iterable[NeuralBatch], *, n_units: int, steps: int = 2, ahead: int = 1,
    skip: int = 0,
) -> Tensor:  # fmt: skip
    """Relative change of the chance of a unit's next spike that hiding another's recent spikes undoes.

    Parameters
    ----------
    model : Neuroformer
        Used in evaluation mode, and left as it was.
    objective : SpikeSequence
        Holds the heads.
    batches : iterable of NeuralBatch
        Windows to average over.
    n_units : int
        U, the size of the vocabulary.
    steps : int
        A source's spikes in so many last time steps of the history are hidden, all at once.
    ahead : int
        States of the start and of spikes in the first so many steps of the current part are asked.
    skip : int
        So many of the very last steps of the history stay seen: what conduction is too slow for adds only noise.

    Returns
    -------
    Tensor, shape (U, U), float64
        [source, target]: (chance seen − chance unseen) / chance unseen, with the chances added up over all states asked;
        above 0 excites. NaN where the source never fired so. Rows and columns in the order of the vocabulary.
    """
    if not 0 <= skip < steps:
        raise ConfigError(f"influence: skip={skip} must be 0 to {steps - 1}, fewer than steps={steps}")
    if not 1 <= steps <= model.n_history or not 1 <= ahead <= model.n_steps:
        raise ConfigError(
            f"influence: steps={steps} must be 1 to {model.n_history} (history) and ahead={ahead} 1 to {model.n_steps}"
        )
    was_training = model.training
    model.eval()
    seen, unseen = (torch.zeros(n_units + 1, n_units + 1, dtype=torch.float64) for _ in range(2))
    for batch in batches:
        past = model.past(batch)
        assert batch.channel_ids is not None
        recent = past.mask & (past.step >= model.n_history - steps) & (past.step < model.n_history - skip)
        for channel in past.channel[recent].unique().tolist():
            hidden = recent & (past.channel == channel)
            rows = hidden.any(1).nonzero().flatten()
            mine = select(batch, rows)
            width = int(past.mask[rows].sum(1).max())
            with_it = _chances(model, objective, mine, None, ahead)
            without = _chances(model, objective, mine, hidden[rows][:, :width], ahead)
            ids = mine.channel_ids
            assert ids is not None
            source = ids[:, channel]
            for total, chance in ((seen, with_it), (unseen, without)):
                total.view(-1).index_add_(0, (source[:, None] * (n_units + 1) + ids).flatten(), chance.flatten())
    model.train(was_training)
    return ((seen - unseen) / unseen)[1:, 1:]


def _chances(
    model: Neuroformer, objective: Any, batch: NeuralBatch, unseen: Tensor | None, ahead: int
) -> Tensor:  # fmt: skip
    """Chances of every channel to be next, added up over the states that are asked, (B, C), float64."""
    states = model.run(batch, unseen=unseen)
    logits, _ = objective.logits(states, batch)
    chance = logits.double().softmax(-1)[..., 1:]
    asked = torch.nn.functional.pad(states.current.mask & (states.current.step < ahead), (1, 0), value=True)
    return (chance * asked[..., None]).sum(1).cpu()
