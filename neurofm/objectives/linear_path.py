"""Ridge from a window to the embedding of its stimulus, as a path beside the network, solved before any gradient step.

Shape legend: B windows, C channels of the montage, S samples, T moments of the embedding (1 where it has no time), E numbers of
it, K = S − T + 1 samples that a moment is read from: itself and what the window holds after it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.vector import montage_size
from neurofm.nn.montage import to_montage
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

# relative to the mean eigenvalue of the covariance
PENALTIES = tuple(10.0**k for k in range(-5, 5))


class LinearPath(nn.Module):
    """One linear map of channels and lags to the embedding; a moment of the stimulus is read from the answer after it.

    Ridge with the penalty of least generalised cross-validation error (Golub, Heath & Wahba 1979, eq. 1.4), which is known
    in closed form from one eigendecomposition. It takes no part in training.

    Parameters
    ----------
    facts : Facts
        Names of the channels, window, and shape of the embedding.

    Attributes
    ----------
    penalty : float
        The one chosen, in units of the mean eigenvalue of the covariance.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        *times, dim = facts.embedding_shape
        self.times = times[0] if times else 0
        self.n_channels = montage_size("alignment, linear", facts)
        self.n_taps = facts.window_samples - max(self.times, 1) + 1
        if self.times:
            span_s = facts.window_s if facts.embedding_s is None else facts.embedding_s
            if self.n_taps < 1 or abs(self.times / span_s - facts.rate_hz) > 1e-6 * facts.rate_hz:
                raise ConfigError(
                    f"alignment: linear=true needs an embedding at the signal's own rate, {facts.rate_hz:g} Hz; it has "
                    f"{self.times} frames in {span_s:g} s"
                )
        self.penalty = float("nan")
        self.register_buffer("weight", torch.zeros(dim, self.n_channels, self.n_taps))
        self.register_buffer("bias", torch.zeros(dim))

    def forward(self, batch: NeuralBatch) -> Tensor:
        """Predict (B, E) or (B, T, E)."""
        said = F.conv1d(self._montage(batch), self.weight.to(batch.signal), self.bias.to(batch.signal))
        return said.transpose(1, 2) if self.times else said[..., 0]

    @torch.no_grad()
    def solve(self, windows: Iterable[tuple[NeuralBatch, Tensor]]) -> None:
        """Fit what the present weights leave over of the targets (B, E) or (B, T, E); at first they are zero.

        So a new person's windows move the map of the others as far as they speak for it.

        Raises
        ------
        DataError
            When there is nothing to learn from.
        """
        n, p = 0, self.n_channels * self.n_taps
        gram, cross = (torch.zeros(p, k, dtype=torch.float64) for k in (p, len(self.bias)))
        x_sum, y_sum = torch.zeros(p, dtype=torch.float64), torch.zeros(len(self.bias), dtype=torch.float64)
        square = torch.zeros((), dtype=torch.float64)
        for batch, target in windows:
            x = self._montage(batch).unfold(-1, self.n_taps, 1).transpose(1, 2).flatten(2).flatten(0, 1).double().cpu()
            y = (target - self(batch).to(target)).reshape(len(x), -1).double().cpu()
            known = target.reshape(len(x), -1).cpu().isfinite().all(1)
            x, y = x[known], y[known]
            n, square = n + len(x), square + y.square().sum()
            gram, cross = gram + x.T @ x, cross + x.T @ y
            x_sum, y_sum = x_sum + x.sum(0), y_sum + y.sum(0)
        if n < 2:
            raise DataError("alignment, linear: there are no windows with an embedding to learn from")
        x_mean, y_mean = x_sum / n, y_sum / n
        values, vectors = torch.linalg.eigh(gram - n * torch.outer(x_mean, x_mean))
        values = values.clamp(min=0)
        said = vectors.T @ (cross - n * torch.outer(x_mean, y_mean))
        total = square - n * y_mean.square().sum()
        errors, level = [], values.mean().clamp(min=1e-300)
        for penalty in PENALTIES:
            inverse = 1 / (values + penalty * level)
            left = total - (said.square().sum(1) * (2 * inverse - values * inverse.square())).sum()
            errors.append(left / (n - 1 - (values * inverse).sum()).clamp(min=1e-6) ** 2)
        self.penalty = PENALTIES[int(torch.stack(errors).argmin())]
        found = vectors @ (said / (values + self.penalty * level)[:, None])
        self.weight += found.T.reshape(self.weight.shape).to(self.weight)
        self.bias += (y_mean - x_mean @ found).to(self.bias)

    def _montage(self, batch: NeuralBatch) -> Tensor:
        x = batch.signal * batch.time_mask[:, None]
        return to_montage(x, batch.channel_mask, batch.channel_ids, self.n_channels, model="alignment, linear")[0]
