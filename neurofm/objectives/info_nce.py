"""InfoNCE among sampled candidates: which tokens compete, and the loss.

Shape legend: A anchors (predictions), N negatives, V valid tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

# candidates are gathered as (A, N, D); above this many numbers the anchors are taken in parts
_CHUNK_NUMBERS = 1 << 26


def draw_negatives(
    positive: Tensor, n_valid: int, n_negatives: int, *, n_candidates: int, generator: torch.Generator | None
) -> Tensor:
    """Draw negatives with replacement, uniformly over the first candidates that are not the positive itself.

    Parameters
    ----------
    positive : Tensor, shape (A,), long
        Rank of each anchor's positive among the valid tokens.
    n_valid, n_negatives : int
        V and N.
    n_candidates : int
        Draw from this many ranks, counted after leaving out the positive; at most V − 1.
    generator : torch.Generator, optional
        On the CPU, so that every device draws the same.

    Returns
    -------
    Tensor, shape (A, N), long
        Ranks among the valid tokens, never the anchor's positive.
    """
    limit = max(1, min(n_candidates, n_valid - 1))
    drawn = torch.randint(limit, (len(positive), n_negatives), generator=generator).to(positive.device)
    return drawn + (drawn >= positive[:, None])


def info_nce(
    predicted: Tensor, positive: Tensor, bank: Tensor, negatives: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of picking the positive by cosine similarity among positive and negatives.

    Negatives nearer to the positive than 1e-8 + 1e-5·‖positive‖ are taken out: they are the same token by
    another name (a repeated window, a silent channel).

    Parameters
    ----------
    predicted, positive : Tensor, shape (A, D)
        Predictions and what each should match.
    bank : Tensor, shape (V, D)
        All candidates; gets no gradient.
    negatives : Tensor, shape (A, N), long
        Rows of `bank`.
    temperature : float
        Divides the cosine.

    Returns
    -------
    loss : Tensor, shape (A,)
    hit : Tensor, shape (A,), bool
        Whether the positive beats every negative.
    """
    bank = bank.detach()
    size = max(1, _CHUNK_NUMBERS // (negatives.shape[1] * predicted.shape[1]))
    if len(predicted) <= size:
        return _info_nce(predicted, positive, bank, negatives, temperature)
    parts = [
        checkpoint(_info_nce, p, q, bank, n, temperature, use_reentrant=False)
        for p, q, n in zip(predicted.split(size), positive.split(size), negatives.split(size), strict=True)
    ]
    return torch.cat([loss for loss, _ in parts]), torch.cat([hit for _, hit in parts])


def _info_nce(
    predicted: Tensor, positive: Tensor, bank: Tensor, negatives: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    candidates = bank[negatives]
    with torch.no_grad():
        gap = (candidates - positive[:, None]).norm(dim=-1)
        same = gap < 1e-8 + 1e-5 * positive.norm(dim=-1, keepdim=True)
    p = F.normalize(predicted, dim=-1)
    right = (p * F.normalize(positive, dim=-1)).sum(-1, keepdim=True)
    wrong = torch.einsum("ad,and->an", p, F.normalize(candidates, dim=-1)).masked_fill(same, -torch.inf)
    logits = torch.cat([right, wrong], dim=1) / temperature
    return torch.logsumexp(logits, dim=1) - logits[:, 0], logits.argmax(dim=1) == 0
