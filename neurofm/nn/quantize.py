"""Vectors → codes → vectors: one codebook, a residual chain of them, or a grid without a codebook.

All are called as ``quantizer(x, mask)`` and return `Quantized`; in training they learn from the vectors whose mask is
True and from no others. ``encode`` gives codes and learns nothing; ``decode`` takes any first levels of a code.

Shape legend: … leading axes, D width, L level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.nn.quantize_codebook import Codebook
from neurofm.schema.errors import ConfigError


class Quantized(NamedTuple):
    """What a quantizer returns.

    Attributes
    ----------
    values : Tensor, shape (…, D)
        What the codes stand for; zero where the mask is False. Its gradient goes straight through to the input.
    code : Tensor, shape (…, L), long
        Zero where the mask is False.
    loss : Tensor, shape ()
        Commitment: mean squared distance between input and codes, weighted; pulls the input only.
    metrics : dict of str to Tensor, shape ()
        Per level l, counted from 1 (without number where there is one level): ``perplexity`` of the codes of this
        batch, ``usage``, the share of codes that occur in it, and ``error``, squared error after this level as a share
        of the input's power.
    """

    values: Tensor
    code: Tensor
    loss: Tensor
    metrics: dict[str, Tensor]


class _Quantizer(nn.Module):
    """What is common: only vectors whose mask is True are looked at, in the precision of the codebook."""

    sizes: tuple[int, ...]
    """Codes of each level."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize `x` (…, D); `mask` (…) is True where there is data."""
        there = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask
        # autocast would compare codes in half precision
        with torch.autocast(x.device.type, enabled=False):
            values, code, loss, metrics = self._quantize(self._exact(x[there]))
        full = x.new_zeros(x.shape)
        full[there] = values.to(x.dtype)
        codes = code.new_zeros(*there.shape, len(self.sizes))
        codes[there] = code
        return Quantized(full, codes, loss, metrics)

    def encode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the codes of `x`, shape (…, L), without gradient and without learning from it."""
        was = self.training
        try:
            self.eval()
            with torch.no_grad():
                return self(x, mask).code
        finally:
            self.train(was)

    def _exact(self, x: Tensor) -> Tensor:
        return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

    def _quantize(self, x: Tensor) -> Quantized:
        raise NotImplementedError


class VectorQuantizer(_Quantizer):
    """One codebook of unit vectors (LaBraM, arXiv:2405.18765, eq. 4): input and codes are compared by their direction.

    Parameters
    ----------
    dim, n_codes : int
        D and number of codes.
    decay : float
        Of the running means.
    commitment : float
        Weight β of the commitment.
    normalise : bool
        Vectors and codes of length 1; without it, Euclidean distance.
    restart_below : float
        See `Codebook`.
    """

    def __init__(
        self,
        dim: int,
        *,
        n_codes: int,
        decay: float = 0.99,
        commitment: float = 1.0,
        normalise: bool = True,
        restart_below: float = 0.05,
    ) -> None:
        super().__init__()
        _check(n_codes=n_codes, decay=decay)
        self.sizes = (n_codes,)
        self.dim, self.commitment, self.normalise = dim, commitment, normalise
        self.codebook = Codebook(dim, n_codes, decay=decay, normalise=normalise, restart_below=restart_below)

    def _quantize(self, x: Tensor) -> Quantized:
        if self.normalise:
            x = F.normalize(x, dim=-1)
        found = self.codebook(x.detach())
        loss = self.commitment * _mean_square(x - found.values)
        error = _share(x.detach() - found.values, x.detach())
        metrics = {**_use(found.counts), "error": error}
        return Quantized(x + (found.values - x).detach(), found.code[:, None], loss, metrics)

    def decode(self, code: Tensor) -> Tensor:
        """Return the vectors that `code` (…, 1) stands for, shape (…, D)."""
        return self.codebook.codes[code[..., 0]]


class ResidualQuantizer(_Quantizer):
    """A chain of codebooks, each for what the ones before it left (SoundStream, arXiv:2107.03312, algorithm 1).

    r₀ = x, r_l = r_{l−1} − e^l(r_{l−1}), values = Σ e^l. The residual is never normalised, so each level is finer than
    the one before, and the first levels alone are a coarser code.

    Parameters
    ----------
    dim, n_codes, n_levels : int
        D, codes of each level, levels.
    decay, commitment, restart_below
        As of `VectorQuantizer`; the commitment is the mean over levels.
    level_dropout : bool
        In training, `values` are those of the first levels, their number drawn once per call from 1 to `n_levels`, so
        that any of these prefixes serves as a code. All levels learn from every batch.
    """

    def __init__(
        self,
        dim: int,
        *,
        n_codes: int,
        n_levels: int,
        decay: float = 0.99,
        commitment: float = 1.0,
        restart_below: float = 0.05,
        level_dropout: bool = False,
    ) -> None:
        super().__init__()
        _check(n_codes=n_codes, decay=decay, n_levels=n_levels)
        self.sizes = (n_codes,) * n_levels
        self.dim, self.commitment, self.level_dropout = dim, commitment, level_dropout
        self.levels = nn.ModuleList(
            Codebook(dim, n_codes, decay=decay, restart_below=restart_below) for _ in range(n_levels)
        )

    def _quantize(self, x: Tensor) -> Quantized:
        kept = len(self.levels)
        if self.training and self.level_dropout:
            kept = int(torch.randint(1, kept + 1, ()))
        residual, values = x.detach(), torch.zeros_like(x)
        code: list[Tensor] = []
        errors: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        for number, codebook in enumerate(self.levels, 1):
            found = codebook(residual)
            if number <= kept:
                # the level's input is x less what came before, so its distance to the code has a gradient to x
                errors.append(_mean_square(x - values - found.values))
                values = values + found.values
            residual = residual - found.values
            code.append(found.code)
            suffix = f"_{number}" if len(self.levels) > 1 else ""
            metrics |= {f"{k}{suffix}": v for k, v in _use(found.counts).items()}
            metrics[f"error{suffix}"] = _share(residual, x.detach())
        loss = self.commitment * torch.stack(errors).mean()
        return Quantized(x + (values - x).detach(), torch.stack(code, 1), loss, metrics)

    def decode(self, code: Tensor) -> Tensor:
        """Return the vectors that the first levels `code` (…, 1 to L) stand for, shape (…, D)."""
        tables: list[Tensor] = [codebook.codes for codebook in self.levels]  # type: ignore[misc]
        return torch.stack([table[index] for table, index in zip(tables, code.unbind(-1), strict=False)]).sum(0)


class FiniteScalarQuantizer(_Quantizer):
    """Round each bounded coordinate to a few values (arXiv:2309.15505): nothing to learn, no code can die.

    Parameters
    ----------
    dim : int
        D; where it is not the number of `levels`, linear maps lead there and back.
    levels : sequence of int
        Values of each coordinate; their product is the number of codes.
    """

    def __init__(self, dim: int, *, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ConfigError(f"levels={list(levels)}: finite scalar quantization needs two or more values everywhere")
        self.dim, self.grid = dim, tuple(int(v) for v in levels)
        steps = torch.tensor([1, *self.grid[:-1]]).cumprod(0)
        self.sizes = (int(steps[-1]) * self.grid[-1],)
        self.steps: Tensor
        self.values_of: Tensor
        self.register_buffer("steps", steps, persistent=False)
        self.register_buffer("values_of", torch.tensor(self.grid, dtype=torch.float64), persistent=False)
        self.narrow: nn.Module = nn.Identity() if dim == len(self.grid) else nn.Linear(dim, len(self.grid))
        self.widen: nn.Module = nn.Identity() if dim == len(self.grid) else nn.Linear(len(self.grid), dim)

    def _quantize(self, x: Tensor) -> Quantized:
        z = self.narrow(x)
        levels = self.values_of.to(z.dtype)
        # room at the ends, so that the outermost values can be reached; even numbers are shifted by half a step
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).to(z.dtype)
        bounded = (z + (offset / half).atanh()).tanh() * half - offset
        whole = bounded + (bounded.round() - bounded).detach()
        code = ((whole.detach().round().long() + self.values_of.long() // 2) * self.steps).sum(-1, keepdim=True)
        values = self.widen(whole / (levels // 2))
        counts = torch.bincount(code.flatten(), minlength=self.sizes[0]).to(z.dtype)
        metrics = {**_use(counts), "error": _share(values.detach() - x.detach(), x.detach())}
        return Quantized(values, code, z.new_zeros(()), metrics)

    def decode(self, code: Tensor) -> Tensor:
        """Return the vectors that `code` (…, 1) stands for, shape (…, D)."""
        levels = self.values_of.long()
        digit = code // self.steps % levels - levels // 2
        weight = next(self.widen.parameters(), None)
        dtype = torch.get_default_dtype() if weight is None else weight.dtype
        return self.widen((digit / (levels // 2)).to(dtype))


def _check(*, n_codes: int, decay: float, n_levels: int = 1) -> None:
    if n_codes < 2 or n_levels < 1 or not 0 <= decay < 1:
        raise ConfigError(
            f"a quantizer needs two codes, a level and a decay from 0 to below 1: got n_codes={n_codes}, "
            f"n_levels={n_levels}, decay={decay:g}"
        )


def _mean_square(x: Tensor) -> Tensor:
    """Mean square, zero of nothing."""
    return x.square().sum() / max(1, x.numel())


@torch.no_grad()
def _share(error: Tensor, x: Tensor) -> Tensor:
    return error.square().sum() / x.square().sum().clamp(min=1e-12)


@torch.no_grad()
def _use(counts: Tensor) -> dict[str, Tensor]:
    """Perplexity of a batch's codes, 1 to K, and the share of codes that occur."""
    p = counts / counts.sum().clamp(min=1)
    return {"perplexity": torch.special.entr(p).sum().exp(), "usage": (counts > 0).to(p.dtype).mean()}
