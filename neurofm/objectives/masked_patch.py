"""Restore hidden patches: the plain alternative to codes (CBraMod, arXiv:2412.07236; BrainLM for fMRI).

Shape legend: B batch, T segment, C channel, D width, P samples per patch, S time samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone
from neurofm.nn.patching import join_patches
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.grid import grid, patch_samples_of, require_hiding, sample_mask
from neurofm.objectives.keyed import keyed_uniform, sample_keys
from neurofm.objectives.scores import masked_mse, r_squared
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

HIDE = ("tokens", "segments")


class MaskedPatch(Objective):
    """Hide a share of the patches and estimate their samples; the error counts there and nowhere else.

    Parameters
    ----------
    model : Backbone
        Needs `encode(batch, mask_tokens)` and channel-wise tokens.
    facts : Facts
        Not used.
    ratio : float
        Share of the valid patches that is hidden; at least one is, and at least one stays.
    hide : str
        ``tokens``: anywhere on the grid; ``segments``: all channels of a segment together. For all segments of a channel
        together see `masked_region`.
    predict_groups : int
        `predict` hides every n-th patch in turn, so each is estimated from the others once.
    """

    needs = ("signal", "channel_mask", "time_mask")

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        ratio: float = 0.5,
        hide: str = "tokens",
        predict_groups: int = 2,
    ) -> None:
        super().__init__()
        if not 0 < ratio < 1 or predict_groups < 2:
            raise ConfigError(
                f"objective 'masked_patch': ratio={ratio} must be between 0 and 1, predict_groups={predict_groups} 2 or more"
            )
        if hide not in HIDE:
            raise ConfigError(f"objective 'masked_patch': hide='{hide}' is unknown; {nearest(hide, HIDE)}")
        require_hiding("masked_patch", model)
        self.ratio, self.hide, self.predict_groups = ratio, hide, predict_groups
        self.patch_samples = patch_samples_of(model)
        self.head = nn.Linear(model.dim, self.patch_samples)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the squared error over the hidden patches."""
        hidden = self.draw(batch, generator)
        estimate = self.estimate(model, batch, hidden)
        where = self._samples(hidden, batch) & sample_mask(batch)
        total = masked_mse(estimate, batch.signal, where)
        share = hidden.sum() / (batch.channel_mask.sum() * hidden.shape[1]).clamp(min=1)
        return Loss(
            total, {"mse": total.detach()}, {"r2": r_squared(estimate, batch.signal, where), "hidden_share": share}
        )

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return the estimate of every patch from the turn in which it was hidden, shape (B, C, S)."""
        T, C = batch.signal.shape[-1] // self.patch_samples, batch.signal.shape[1]
        device = batch.signal.device
        place = torch.arange(T, device=device)[:, None]
        if self.hide == "tokens":
            place = place + torch.arange(C, device=device)
        group = (place % self.predict_groups).expand(T, C)
        full = torch.zeros_like(batch.signal)
        for g in range(self.predict_groups):
            turn = (group == g).expand(len(batch), -1, -1)
            estimate = self.estimate(model, batch, turn & batch.channel_mask[:, None])
            full = torch.where(self._samples(turn, batch), estimate, full)
        return full

    def estimate(self, model: Backbone, batch: NeuralBatch, hidden: Tensor) -> Tensor:
        """Estimate all patches without looking at the `hidden` ones, (B, T, C) → (B, C, S)."""
        # the values themselves are removed too, so no model can look behind its own mask
        seen = batch.with_signal(batch.signal.masked_fill(self._samples(hidden, batch), 0.0))
        tokens, _ = grid(model.encode(seen, mask_tokens=hidden), batch.signal.shape[1])
        return join_patches(self.head(tokens), batch.signal.shape[-1])

    def draw(self, batch: NeuralBatch, generator: torch.Generator | None) -> Tensor:
        """Choose the patches to hide, shape (B, T, C), bool; a window's choice does not depend on its neighbours."""
        T, C = batch.signal.shape[-1] // self.patch_samples, batch.signal.shape[1]
        key = sample_keys(batch, generator)
        if self.hide == "segments":
            lot = keyed_uniform(key, T)
            valid = torch.ones_like(lot, dtype=torch.bool)
        else:
            # channel by channel, so that padding does not change the lots of those before it
            lot = keyed_uniform(key, C * T).unflatten(1, (C, T)).transpose(1, 2).flatten(1)
            valid = batch.channel_mask.repeat(1, T)
        n_valid = valid.sum(1)
        n_hidden = torch.minimum((self.ratio * n_valid).round().long().clamp(min=1), n_valid - 1)
        rank = lot.masked_fill(~valid, 2.0).argsort(1).argsort(1)
        hidden = (rank < n_hidden[:, None]) & valid
        if self.hide == "segments":
            return hidden[:, :, None] & batch.channel_mask[:, None]
        return hidden.unflatten(1, (T, C))

    def _samples(self, hidden: Tensor, batch: NeuralBatch) -> Tensor:
        """Spread patches (B, T, C) over their samples, (B, C, S)."""
        spread = hidden.transpose(1, 2).repeat_interleave(self.patch_samples, -1)
        return nn.functional.pad(spread, (0, batch.signal.shape[-1] - spread.shape[-1]))
