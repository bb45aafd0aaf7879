"""Forecast many samples at once: one linear head from each channel's newest token to all of its horizon.

The direct form, beside the roll-outs of `next_state`, which feed their own predictions back: errors do not pile up, but
the horizon is fixed and every step has weights of its own (Chevillon 2007, Journal of Economic Surveys, compares both).

Shape legend: B batch, C channel, S time samples, H samples of the horizon, D width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.grid import grid, patch_samples_of
from neurofm.objectives.scores import masked_mse, r_squared
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class Forecast(Objective):
    """Estimate the last `horizon` samples of a window from all that comes before them.

    Parameters
    ----------
    model : Backbone
        With channel-wise tokens; it sees the window without its horizon, so it need not be causal.
    facts : Facts
        Length of the window.
    horizon : int, optional
        H, samples at the end of every window that are to be forecast. Default: the last quarter, the known part
        rounded down to whole patches.
    residual : bool
        Estimate the change from the newest sample, so that a level which drifts need not be learned.
    """

    needs = ("signal", "channel_mask", "time_mask")
    idle = ("mask_token",)

    def __init__(self, model: Backbone, facts: Facts, /, *, horizon: int | None = None, residual: bool = True) -> None:
        super().__init__()
        self.patch_samples = patch_samples_of(model)
        if horizon is None:
            known = max(1, 3 * facts.window_samples // 4 // self.patch_samples) * self.patch_samples
            horizon = facts.window_samples - known
        left = facts.window_samples - horizon
        if horizon < 1 or left < self.patch_samples or left % self.patch_samples:
            raise ConfigError(
                f"objective 'forecast': horizon={horizon} leaves {left} of the window's {facts.window_samples} samples; "
                f"leave a multiple of the model's patch of {self.patch_samples}"
            )
        self.horizon, self.residual = int(horizon), residual
        self.head = nn.Linear(model.dim, self.horizon)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the loss of one batch."""
        known, truth = self._known(batch), batch.signal[..., -self.horizon :]
        estimate = self.forecast(model, known)
        where = (batch.channel_mask[..., None] & batch.time_mask[:, None, -self.horizon :]).expand_as(truth)
        total = masked_mse(estimate, truth, where)
        same = known.signal[..., -1:].expand_as(truth)
        return Loss(
            total,
            {"mse": total.detach()},
            {"r2": r_squared(estimate, truth, where), "r2_persistence": r_squared(same, truth, where)},
        )

    def forecast(self, model: Backbone, known: NeuralBatch) -> Tensor:
        """Return the `horizon` samples after a batch of windows, (B, C, H)."""
        tokens, _ = grid(model(known), known.signal.shape[1])
        estimate = self.head(tokens[:, -1])
        return known.signal[..., -1:] + estimate if self.residual else estimate

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return whole windows, (B, C, S), with the last `horizon` samples as forecast from the others, which are NaN."""
        said = self.forecast(model, self._known(batch))
        return torch.cat([torch.full_like(batch.signal[..., : -self.horizon], torch.nan), said], dim=-1)

    def _known(self, batch: NeuralBatch) -> NeuralBatch:
        if batch.signal.shape[-1] <= self.horizon:
            raise ConfigError(
                f"objective 'forecast': a window of {batch.signal.shape[-1]} samples has nothing before its horizon of "
                f"{self.horizon}; make window_s longer"
            )
        return replace(batch, signal=batch.signal[..., : -self.horizon], time_mask=batch.time_mask[:, : -self.horizon])
