"""One linear classifier per codebook, without ever holding the logits of more than some tokens of one codebook.

Shape legend: n token, D width, G branch, K codebook, V entries of a codebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neurofm.schema.errors import ConfigError

# logits held at a time
_LOGITS = 2**22


class CodeHeads(nn.Module):
    """Cross-entropy of every codebook's code, from one vector per branch.

    Logits are made for some tokens of one codebook at a time, in the forward pass and again in the backward pass, so the
    memory of a step does not grow with the number of codebooks (32 · 8192 logits are a megabyte per token).

    Parameters
    ----------
    dim : int
        D of a whole token.
    sizes : sequence of int
        V of each codebook.
    n_branches : int
        G; a token is G vectors side by side, and each serves an equal share of the codebooks, in order.
    """

    def __init__(self, dim: int, *, sizes: Sequence[int], n_branches: int = 1) -> None:
        super().__init__()
        if dim % n_branches or len(sizes) % n_branches:
            raise ConfigError(
                f"{len(sizes)} codebooks and tokens of {dim} numbers do not fall into {n_branches} equal branches: the "
                "model and the tokenizer must have the same branches, or the model one"
            )
        self.sizes, self.n_branches = tuple(sizes), n_branches
        # the classifiers below one another
        self.weight = nn.Parameter(torch.empty(sum(sizes), dim // n_branches))
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, tokens: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Compare predictions from `tokens` (n, D) with `code` (n, K).

        Returns
        -------
        loss : Tensor, shape (K,), float32
            Mean cross-entropy over the tokens; 0 without tokens.
        accuracy : Tensor, shape (K,)
            Share of tokens whose likeliest code is the right one; no gradient.
        """
        x = tokens.unflatten(-1, (self.n_branches, -1))
        return _Heads.apply(x, self.weight, self.bias, code, self.sizes)

    def logits(self, tokens: Tensor, number: int) -> Tensor:
        """Return the logits of codebook `number`, shape (…, V)."""
        x = tokens.unflatten(-1, (self.n_branches, -1))[..., number * self.n_branches // len(self.sizes), :]
        start = sum(self.sizes[:number])
        rows = slice(start, start + self.sizes[number])
        return nn.functional.linear(x, self.weight[rows], self.bias[rows])


class _Heads(torch.autograd.Function):
    """Mean cross-entropy per codebook; logits are made anew in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, code: Tensor, sizes: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight, bias, code)
        ctx.sizes = sizes
        loss = x.new_zeros(len(sizes), dtype=_exact(x))
        right = torch.zeros_like(loss)
        for k, _, tokens, logits in _parts(x, weight, bias, sizes):
            truth = code[tokens, k]
            loss[k] += (logits.logsumexp(1) - logits.gather(1, truth[:, None])[:, 0]).sum()
            right[k] += (logits.argmax(1) == truth).sum()
        n = max(1, len(x))
        ctx.mark_non_differentiable(right)
        return loss / n, right.div_(n)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, code = ctx.saved_tensors
        d_x, d_weight, d_bias = torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        for k, rows, tokens, logits in _parts(x, weight, bias, ctx.sizes):
            # softmax less the right answer, in place of the logits
            excess = logits.sub_(logits.logsumexp(1, keepdim=True)).exp_()
            excess[torch.arange(len(excess), device=x.device), code[tokens, k]] -= 1
            excess = excess.mul_(grad[k] / len(x)).to(x.dtype)
            branch = _branch(k, x, ctx.sizes)
            d_x[tokens, branch] += excess @ weight[rows].to(x.dtype)
            d_weight[rows] += (excess.T @ x[tokens, branch]).to(weight.dtype)
            d_bias[rows] += excess.sum(0).to(bias.dtype)
        return d_x, d_weight, d_bias, None, None


def _parts(x: Tensor, weight: Tensor, bias: Tensor, sizes: tuple[int, ...]) -> Any:
    """Codebook, its rows, some tokens, and their logits in full precision; one after the other."""
    start = 0
    for k, size in enumerate(sizes):
        rows = slice(start, start + size)
        start += size
        table, offset = weight[rows].to(x.dtype), bias[rows].to(x.dtype)
        step = max(1, _LOGITS // size)
        for first in range(0, len(x), step):
            tokens = slice(first, min(first + step, len(x)))
            logits = torch.addmm(offset, x[tokens, _branch(k, x, sizes)], table.T)
            yield k, rows, tokens, logits.to(_exact(x))


def _branch(k: int, x: Tensor, sizes: tuple[int, ...]) -> int:
    return k * x.shape[1] // len(sizes)


def _exact(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
