"""One codebook that follows the vectors it stands for by running means, the same on every rank.

Nearest codes, k-means, running statistics, codes that nobody uses. `quantize` builds the quantizers from it.

Shape legend: n vector, K code, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F  # noqa: N812

# vectors × codes compared at a time, so that the table of products stays in cache or small memory
_PRODUCTS = {"cpu": 2**20, "cuda": 2**27}
# with fewer vectors per code than this the first codes are drawn from them, not found by k-means
_KMEANS_FROM = 4
_KMEANS_STEPS = 10
_SEEDING_ROUNDS = 16


class Assigned(NamedTuple):
    """Nearest codes of vectors: code [n] long, values [n, D], counts [K] of this batch over all ranks in training."""

    code: Tensor
    values: Tensor
    counts: Tensor


def nearest_code(x: Tensor, codes: Tensor) -> Tensor:
    """Return the row of `codes` (K, D) nearest to each row of `x` (n, D), shape (n,), the first of equals.

    The nearest is the one of the largest x·e − ‖e‖²/2; the table of products is never held as a whole.
    """
    half = codes.square().sum(1).mul_(-0.5)
    rows = max(1, _PRODUCTS.get(x.device.type, 2**20) // len(codes))
    if len(x) <= rows:
        return torch.addmm(half, x, codes.T).argmax(1)
    return torch.cat([torch.addmm(half, part, codes.T).argmax(1) for part in x.split(rows)])


def sums_by_code(x: Tensor, code: Tensor, n_codes: int) -> Tensor:
    """Return the sum of the vectors of each code and, in the last column, their number, shape (K, D + 1)."""
    out = x.new_zeros(n_codes, x.shape[1] + 1)
    return out.index_add_(0, code, F.pad(x, (0, 1), value=1.0))


def kmeans(x: Tensor, n_codes: int, *, normalise: bool = False, generator: torch.Generator | None = None) -> Tensor:
    """Find `n_codes` centres of `x` (n, D), n ≥ K; shape (K, D).

    Seeding by squared distance (k-means++, Arthur & Vassilvitskii 2007) in at most sixteen rounds, each of which draws
    its share of the centres at once; then ten steps of Lloyd's. A centre that loses all its vectors stays where it is.
    With `normalise`, vectors and centres have length 1.
    """

    def drawn(weight: Tensor, k: int) -> Tensor:
        return x[torch.multinomial(weight.cpu(), k, generator=generator).to(x.device)]

    centres = drawn(torch.ones(len(x), dtype=torch.float64), 1)
    distance = (x - centres).square().sum(1)
    share = -(-(n_codes - 1) // _SEEDING_ROUNDS)
    while len(centres) < n_codes:
        k = min(share, n_codes - len(centres))
        # a little for everyone: there may be fewer distinct vectors than codes
        new = drawn(distance.double() + 1e-12 * distance.double().sum() + 1e-300, k)
        distance = torch.minimum(distance, (x - new[nearest_code(x, new)]).square().sum(1))
        centres = torch.cat([centres, new])
    for _ in range(_KMEANS_STEPS):
        total = sums_by_code(x, nearest_code(x, centres), n_codes)
        mean = total[:, :-1] / total[:, -1:].clamp(min=1)
        if normalise:
            mean = F.normalize(mean, dim=1)
        centres = torch.where(total[:, -1:] > 0, mean, centres)
    return centres


class Codebook(nn.Module):
    """K codes of width D, each the running mean of the vectors nearest to it (van den Oord et al. 2017, appendix A.1).

    N ← γN + (1 − γ)n and m ← γm + (1 − γ)Σx; a code is m/N, with `normalise` m/‖m‖. Both sums have the same decay, so the
    ratio is a mean at any N and needs no smoothing; a code whose sums have faded away keeps its place.

    Parameters
    ----------
    dim, n_codes : int
        D and K.
    decay : float
        γ.
    normalise : bool
        Codes of length 1; the vectors given must have length 1 too.
    restart_below : float
        A code used less than this share of the mean use n/K is put on a random vector of the batch; 0 = never.
    """

    def __init__(
        self, dim: int, n_codes: int, *, decay: float = 0.99, normalise: bool = False, restart_below: float = 0.05
    ) -> None:
        super().__init__()
        self.n_codes, self.decay, self.normalise, self.restart_below = n_codes, decay, normalise, restart_below
        self.codes: Tensor
        self.total: Tensor
        # random until the first batch, so that an untrained model gives different codes too
        self.register_buffer("codes", F.normalize(torch.randn(n_codes, dim), dim=1))
        # running sum of vectors and, in the last column, of their number: zero until the first batch
        self.register_buffer("total", torch.zeros(n_codes, dim + 1))

    def forward(self, x: Tensor) -> Assigned:
        """Give each row of `x` (n, D) its nearest code; in training, learn from them afterwards."""
        learn = self.training and torch.is_grad_enabled()
        if learn and not bool(self.total[:, -1].any()):
            self._start(x)
        code = nearest_code(x, self.codes)
        values = self.codes[code]
        if not learn:
            return Assigned(code, values, torch.bincount(code, minlength=self.n_codes).to(x.dtype))
        batch = _summed(sums_by_code(x, code, self.n_codes))
        # a broken batch must not break the codebook: its loss is not finite, and the step is skipped
        if bool(batch.isfinite().all()):
            self._follow(x, batch)
        return Assigned(code, values, batch[:, -1])

    def _follow(self, x: Tensor, batch: Tensor) -> None:
        self.total.lerp_(batch, 1 - self.decay)
        mean_use = batch[:, -1].sum() / self.n_codes
        if self.restart_below > 0:
            idle = (self.total[:, -1] < self.restart_below * mean_use).nonzero().flatten()
            if len(idle):
                new = _drawn(x, len(idle))
                # as much weight as a code of mean use, so that it has time to find its vectors
                self.total[idle[: len(new)]] = F.pad(new, (0, 1), value=1.0) * mean_use
        self._place()

    def _start(self, x: Tensor) -> None:
        """K-means of the first batch, or vectors drawn from it where it is small."""
        seed = _shared_seed(x.device)
        n = int(_summed(torch.tensor(len(x), device=x.device)))
        if n == 0:
            return
        sample = _drawn(x, min(n, 32 * self.n_codes), seed=seed)
        if n >= _KMEANS_FROM * self.n_codes:
            generator = torch.Generator().manual_seed(seed)
            centres = kmeans(sample, self.n_codes, normalise=self.normalise, generator=generator)
            if distributed.is_available() and distributed.is_initialized():
                distributed.broadcast(centres, 0)
            self.codes.copy_(centres)
        else:
            # what is left over stays random, is used by nobody, and is placed by the next batches
            k = min(len(sample), self.n_codes)
            self.codes[:k] = sample[:k]
        self.total.copy_(_summed(sums_by_code(x, nearest_code(x, self.codes), self.n_codes)))

    def _place(self) -> None:
        weight = self.total[:, -1:]
        mean = self.total[:, :-1]
        mean = F.normalize(mean, dim=1) if self.normalise else mean / weight.clamp(min=1e-12)
        self.codes.copy_(torch.where(weight > 1e-12, mean, self.codes))


def _summed(x: Tensor) -> Tensor:
    """Sum over ranks."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(x)
    return x


def _shared_seed(device: torch.device) -> int:
    """A seed from rank 0's generator, the same on all ranks."""
    seed = torch.randint(2**62, ()).to(device)
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(seed, 0)
    return int(seed)


def _drawn(x: Tensor, k: int, *, seed: int | None = None) -> Tensor:
    """Draw up to `k` different rows from the vectors of all ranks, the same on every rank."""
    seed = _shared_seed(x.device) if seed is None else seed
    counts, rank = torch.tensor([len(x)], device=x.device), 0
    if distributed.is_available() and distributed.is_initialized():
        rank = distributed.get_rank()
        counts = torch.zeros(distributed.get_world_size(), dtype=torch.long, device=x.device)
        counts[rank] = len(x)
        distributed.all_reduce(counts)
    n, before = int(counts.sum()), int(counts[:rank].sum())
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(n, generator=generator)[:k].to(x.device) - before
    here = (index >= 0) & (index < len(x))
    rows = x.new_zeros(len(index), x.shape[1])
    rows[here] = x[index[here]]
    return _summed(rows)
