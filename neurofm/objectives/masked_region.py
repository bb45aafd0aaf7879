"""Reconstruct whole hidden channels (regions, electrodes) from the others.

Shape legend: B batch, T segment, C channel, D width, P samples per patch, S time samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone
from neurofm.nn.patching import join_patches
from neurofm.objectives.base import Loss
from neurofm.objectives.grid import grid, patch_samples_of, require_hiding, sample_mask
from neurofm.objectives.keyed import keyed_uniform, sample_keys
from neurofm.objectives.ridge_skip import RidgeSkip
from neurofm.objectives.scores import masked_mse, r_squared
from neurofm.objectives.skip import SKIPS, SkipObjective
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class MaskedRegion(SkipObjective):
    """Hide a random set of channels for the whole window and estimate their signal.

    Parameters
    ----------
    model : Backbone
        Needs `encode(batch, mask_tokens)` and channel-wise tokens.
    facts : Facts
        Names of the channels, for `skip`.
    hide_fraction : sequence of two floats
        Range of the fraction of valid channels hidden, drawn per sample.
    hide_count : sequence of two ints, optional
        Range of the number hidden, both ends included; takes the place of `hide_fraction`.
    skip : dict, optional
        ``{"name": …, **choices}`` of a linear path in `objectives.skip` added to the network's estimate, which then
        starts from zero.
    predict_groups : int
        `predict` without a mask hides every n-th channel in turn, so each is estimated from the others once.

    Notes
    -----
    At least one channel stays visible and, where there are two, at least one is hidden; a recording of one
    channel adds nothing to the loss.
    """

    needs: tuple[str, ...] = ("signal", "channel_mask", "time_mask")

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        hide_fraction: Sequence[float] = (0.1, 0.5),
        hide_count: Sequence[int] | None = None,
        skip: Mapping[str, Any] | None = None,
        predict_groups: int = 3,
    ) -> None:
        super().__init__()
        low, high = hide_fraction
        if not 0 <= low <= high < 1:
            raise ConfigError(
                f"objective 'masked_region': hide_fraction={list(hide_fraction)} must be 0 ≤ low ≤ high < 1"
            )
        if hide_count is not None and not 1 <= hide_count[0] <= hide_count[1]:
            raise ConfigError(f"objective 'masked_region': hide_count={list(hide_count)} must be 1 ≤ low ≤ high")
        if predict_groups < 2:
            raise ConfigError(f"objective 'masked_region': predict_groups={predict_groups} must be at least 2")
        self.hide_fraction = (float(low), float(high))
        self.hide_count = None if hide_count is None else (int(hide_count[0]), int(hide_count[1]))
        self.predict_groups = predict_groups
        require_hiding("masked_region", model)
        self.patch_samples = patch_samples_of(model)
        self.head = nn.Linear(model.dim, self.patch_samples)
        self.skip: RidgeSkip | None = None
        if skip is not None:
            choices = dict(skip)
            self.skip = SKIPS.build(choices.pop("name", ""), facts, **choices)
            self.needs = (*self.needs, "channel_ids")
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the squared error over the hidden channels."""
        hidden = self.draw(batch, generator)
        estimate = self.estimate(model, batch, hidden, leave_one_out=True)
        where = hidden[..., None] & sample_mask(batch)
        # samples after the last whole patch have no token, hence no estimate
        where[..., batch.signal.shape[-1] // self.patch_samples * self.patch_samples :] = False
        total = masked_mse(estimate, batch.signal, where)
        return Loss(
            total,
            {"mse": total.detach()},
            {"r2": r_squared(estimate, batch.signal, where), "n_hidden": hidden.sum(1).float().mean()},
        )

    def predict(self, model: Backbone, batch: NeuralBatch, hidden: Tensor | None = None) -> Tensor:
        """Return the estimate of every channel, shape (B, C, S).

        Parameters
        ----------
        model, batch
            The model, and the windows to complete.
        hidden : Tensor, shape (B, C), bool, optional
            Channels whose values the model may not see; only their estimates are of interest. Without it every
            `predict_groups`-th channel is hidden in turn, and each channel's estimate is from the turn it was hidden.
        """
        if hidden is not None:
            return self.estimate(model, batch, hidden)
        group = torch.arange(batch.signal.shape[1], device=batch.signal.device) % self.predict_groups
        full = torch.zeros_like(batch.signal)
        for g in range(self.predict_groups):
            turn = (group == g).expand(len(batch), -1)
            full = torch.where(turn[..., None], self.estimate(model, batch, turn & batch.channel_mask), full)
        return full

    def estimate(self, model: Backbone, batch: NeuralBatch, hidden: Tensor, *, leave_one_out: bool = False) -> Tensor:
        """Estimate all channels without looking at the `hidden` ones, (B, C, S).

        With `leave_one_out`, a skip that never uses a channel for its own estimate sees the other hidden ones too:
        so the network learns the residual that is left when one channel at a time is missing.
        """
        # the values themselves are removed too, so no model can look behind its own mask
        seen = batch.with_signal(batch.signal.masked_fill(hidden[..., None], 0.0))
        n_segments = batch.signal.shape[-1] // self.patch_samples
        mask_tokens = hidden[:, None, :].expand(-1, n_segments, -1)
        tokens, _ = grid(model.encode(seen, mask_tokens=mask_tokens), batch.signal.shape[1])
        estimate = join_patches(self.head(tokens), batch.signal.shape[-1])
        if self.skip is not None:
            if leave_one_out and self.skip.exclude_self:
                estimate = estimate + self.skip(batch.signal, batch.channel_mask, batch)
            else:
                estimate = estimate + self.skip(seen.signal, batch.channel_mask & ~hidden, batch)
        return estimate

    def draw(self, batch: NeuralBatch, generator: torch.Generator | None) -> Tensor:
        """Choose the channels to hide, shape (B, C), bool; a window's choice does not depend on its neighbours."""
        valid = batch.channel_mask
        n_valid = valid.sum(1)
        # column 0 decides how many, the others which
        u = keyed_uniform(sample_keys(batch, generator), valid.shape[1] + 1)
        if self.hide_count is not None:
            low, high = self.hide_count
            n_hidden = low + (u[:, 0] * (high - low + 1)).long()
        else:
            fraction = self.hide_fraction[0] + u[:, 0] * (self.hide_fraction[1] - self.hide_fraction[0])
            n_hidden = (fraction * n_valid).round().long()
        n_hidden = torch.minimum(n_hidden.clamp(min=1), n_valid - 1)
        order = u[:, 1:].masked_fill(~valid, 2.0).argsort(dim=1).argsort(dim=1)
        return (order < n_hidden[:, None]) & valid
