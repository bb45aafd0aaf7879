"""Contrastive losses between predicted and true embeddings, as plain functions.

Shape legend: N pairs (predicted i belongs to target i), D numbers of an embedding, flattened.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError, nearest

NORMALISE = ("both", "target", "none")


def scores(predicted: Tensor, target: Tensor, *, normalise: str = "both") -> Tensor:
    """Dot products of predictions and targets, (N, D) × (M, D) → (N, M).

    `normalise` "both" gives cosines; "target" leaves the length of a prediction to be learned, as speech decoding does
    in place of a temperature; "none" leaves both.
    """
    if normalise not in NORMALISE:
        raise ConfigError(f"alignment: unknown normalise '{normalise}': {nearest(normalise, NORMALISE)}")
    if normalise == "both":
        predicted = F.normalize(predicted, dim=-1)
    if normalise != "none":
        target = F.normalize(target, dim=-1)
    return predicted @ target.T


def same_stimulus(stimulus: Tensor | None, n: int, device: torch.device) -> Tensor:
    """Return which other pairs show the same stimulus, (N, N), bool; the diagonal is False, unknown ones (< 0) differ."""
    if stimulus is None:
        return torch.zeros(n, n, dtype=torch.bool, device=device)
    same = (stimulus[:, None] == stimulus) & (stimulus >= 0)
    return same & ~torch.eye(n, dtype=torch.bool, device=device)


def same_target(same: Tensor, target: Tensor) -> Tensor:
    """Keep of the pairs (N, N) those whose targets (N, D) are equal.

    Windows of one passage of speech share their stimulus, yet each has its own piece of it: they are negatives.
    """
    if not bool(same.any()):
        return same
    row = target.unique(dim=0, return_inverse=True)[1]
    return same & (row[:, None] == row)


def cross_entropy(logits: Tensor, label: Tensor, *, both: bool) -> Tensor:
    """Mean of −Σ_j label_ij log softmax_j(logits)_ij; with `both`, averaged with that of the transposed problem."""
    # a pair that is out of the contest has weight 0 and logit −∞
    brain = -(label * _finite(logits.log_softmax(1))).sum(1).mean()
    if not both:
        return brain
    return 0.5 * (brain - (label.T * _finite(logits.T.log_softmax(1))).sum(1).mean())


def _finite(log_probability: Tensor) -> Tensor:
    return log_probability.masked_fill(log_probability == -torch.inf, 0.0)


def info_nce(logits: Tensor, same: Tensor, *, both: bool = True) -> Tensor:
    """Cross-entropy of finding the own partner (van den Oord et al. 2018; Radford et al. 2021).

    Parameters
    ----------
    logits : Tensor, shape (N, N)
        Scores divided by the temperature; the own partner is on the diagonal.
    same : Tensor, shape (N, N), bool
        Pairs of one stimulus, which are no negatives of each other.
    both : bool
        Whether the stimulus finds its response as well.

    Returns
    -------
    Tensor, shape ()
    """
    eye = torch.eye(len(logits), dtype=logits.dtype, device=logits.device)
    return cross_entropy(logits.masked_fill(same, -torch.inf), eye, both=both)


def soft_clip(logits: Tensor, target_logits: Tensor, *, both: bool = True) -> Tensor:
    """Labels are the targets' own similarity (Scotti et al. 2023, arXiv:2305.18274, eq. 1).

    Both directions take the rows of softmax(t tᵀ/τ) as labels: row i says what belongs to i, whichever side asks. Pairs
    of one stimulus share their label by themselves.

    Parameters
    ----------
    logits, target_logits : Tensor, shape (N, N)
        p tᵀ/τ and t tᵀ/τ.
    both : bool
        As in `info_nce`.
    """
    label = target_logits.softmax(1)
    brain = -(label * logits.log_softmax(1)).sum(1).mean()
    return 0.5 * (brain - (label * logits.T.log_softmax(1)).sum(1).mean()) if both else brain


def sigmoid_pairs(logits: Tensor, same: Tensor) -> Tensor:
    """−1/N Σ_ij log σ(z_ij · logit_ij), z = 1 for partners and −1 otherwise (SigLIP, Zhai et al. 2023, arXiv:2303.15343).

    Each pair is judged alone; pairs of one stimulus are not judged.
    """
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return -(F.logsigmoid(sign * logits) * ~same).sum() / len(logits)


def bi_mix_co(logits: Tensor, partner: Tensor, share: Tensor, same: Tensor, *, both: bool = True) -> Tensor:
    """Mixed responses find both their stimuli, by their shares (Scotti et al. 2023, eq. 2, after Kim et al. 2020).

    Parameters
    ----------
    logits : Tensor, shape (N, N)
        Of the mixed responses with the unmixed targets.
    partner : Tensor, shape (N,), long
        Whose response was mixed in.
    share : Tensor, shape (N,)
        β: the own share; the partner's is 1 − β.
    same : Tensor, shape (N, N), bool
        Pairs of one stimulus. What shows either of the two stimuli, but is neither of the two, is no negative.
    both : bool
        As in `info_nce`; the other direction takes the transposed labels.
    """
    n = len(logits)
    eye = torch.eye(n, dtype=torch.bool, device=logits.device)
    theirs = F.one_hot(partner, n).bool()
    label = share[:, None] * eye + (1 - share)[:, None] * theirs
    mixed = share[:, None] < 1
    outside = (same | (same[partner] & mixed)) & ~eye & ~(theirs & mixed)
    return cross_entropy(logits.masked_fill(outside, -torch.inf), label.to(logits.dtype), both=both)


@torch.no_grad()
def retrieval_hits(logits: Tensor, same: Tensor) -> Tensor:
    """Share of responses whose best target in the batch is their own or shows the same stimulus, shape ()."""
    best = logits.argmax(1)
    row = torch.arange(len(logits), device=logits.device)
    return ((best == row) | same[row, best]).float().mean()
