"""Directed functional connectivity from attention between spikes.

Source: Neuroformer (arXiv:2311.00136): attention is rolled out over the layers (Abnar and Zuidema 2020,
arXiv:2005.00928): in each layer a token is half itself and half what it attends to, by the largest weight over heads,
normed. The state of an input predicts the spike after it, so what that state came from is credited to that spike.

Shape legend: B batch, S = 1 + current tokens, K = 1 + history tokens, U units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neurofm.schema.batch import NeuralBatch


@dataclass
class Attended:
    """Attention weights of one run, layer by layer, and rows of the vocabulary (0 = padding) of the spikes."""

    own: list[Tensor] = field(default_factory=list)
    past: list[Tensor] = field(default_factory=list)
    own_late: list[Tensor] = field(default_factory=list)
    current: Tensor | None = None
    history: Tensor | None = None


def roll_out(attended: Attended) -> tuple[Tensor, Tensor]:
    """Return how much of each final state comes from each current input, (B, S, S), and each past one, (B, S, K)."""
    layers = [(w, True) for w in attended.own] + [(w, False) for w in attended.past]
    layers += [(w, True) for w in attended.own_late]
    B, _, S, _ = layers[0][0].shape
    K = attended.past[0].shape[-1] if attended.past else 1
    own = torch.eye(S, dtype=layers[0][0].dtype, device=layers[0][0].device).expand(B, S, S)
    past = own.new_zeros(B, S, K)
    for weight, is_own in layers:
        w = weight.amax(1)
        w = w / w.sum(-1, keepdim=True).clamp(min=1e-12)
        if is_own:
            own, past = (own + w @ own) / 2, (past + w @ past) / 2
        else:
            own, past = own / 2, (past + w) / 2
    return own, past


@torch.no_grad()
def connectivity(model: Any, batches: Iterable[NeuralBatch], *, n_units: int, current: bool = True) -> Tensor:
    """Average the rolled-out attention over windows.

    Parameters
    ----------
    model : Neuroformer
        Used in evaluation mode, and left as it was.
    batches : iterable of NeuralBatch
        Windows to average over.
    n_units : int
        U, the size of the vocabulary.
    current : bool
        Whether attention to earlier spikes of the current part counts beside that to history. (Published: history.)

    Returns
    -------
    Tensor, shape (U, U), float64
        [source, target]: mean weight that the prediction of a spike of the target gives a spike of the source, over all
        pairs of spikes of which the first was there to be seen. Rows and columns in the order of the vocabulary
        (`facts.channels`); NaN for a pair that never occurred. The diagonal is a unit's dependence on itself.
    """
    was_training = model.training
    model.eval()
    total = torch.zeros(n_units + 1, n_units + 1, dtype=torch.float64)
    seen = torch.zeros_like(total)
    for batch in batches:
        attended = Attended()
        model.run(batch, attended=attended)
        assert attended.current is not None
        assert attended.history is not None
        own, past = roll_out(attended)
        target = attended.current
        # the state of input i (0 = start) predicts spike i; inputs 1 … i are spikes 0 … i − 1
        n = target.shape[1]
        parts: list[tuple[Tensor, Tensor, Tensor | None]] = [(past[:, :n, 1:], attended.history, None)]
        if current:
            parts.append((own[:, :n, 1:], target, torch.ones(n, n, dtype=torch.bool).tril(-1)))
        for weight, source, earlier in parts:
            there = (target[:, :, None] > 0) & (source[:, None, :] > 0)
            if earlier is not None:
                there &= earlier.to(there.device)
            pair = (source[:, None, :] * (n_units + 1) + target[:, :, None])[there].cpu()
            total.view(-1).index_add_(0, pair, weight[there].double().cpu())
            seen.view(-1).index_add_(0, pair, torch.ones(len(pair), dtype=torch.float64))
    model.train(was_training)
    return (total / seen)[1:, 1:]
