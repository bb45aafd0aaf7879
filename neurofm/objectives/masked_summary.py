"""Restore what hidden segments look like from the one vector that stands for the visible ones.

As masked autoencoders do, but through the vector that a few labelled trials will be read from: it has to hold what is
common to a window's segments (how strong which rhythm is where), and has no room for what each segment has for itself.
Errors are of differences between windows of one person: what is always so in a person, such as the frequency of a rhythm
or how well an electrode sees it, would otherwise be most of what there is to say.

Shape legend: B batch, T segment, C channel, M channel of the vocabulary, F features of a patch, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.grid import patch_samples_of, require_features, require_hiding
from neurofm.objectives.keyed import keyed_uniform, sample_keys
from neurofm.objectives.scores import masked_mse, r_squared
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class MaskedSummary(Objective):
    """Hide a share of the segments; from the pooled visible tokens estimate the patch features of every hidden one.

    The estimate is linear in the pooled vector, with weights for each channel's name, and so the same for all hidden
    segments of a window. From estimates and features the mean over the batch's windows of the same subject is taken, channel
    by channel; so batches are to hold several windows of a subject, and a window that is alone adds nothing.

    Parameters
    ----------
    model : Backbone
        Needs `encode(batch, mask_tokens)`, a tokenizer with `patch_features`, and a `pool` that minds the mask.
    facts : Facts
        Names of the channels.
    ratio : float
        Share of the segments that is hidden; at least one is, and at least one stays.
    """

    needs = ("signal", "channel_mask", "time_mask", "channel_ids", "subject")

    def __init__(self, model: Backbone, facts: Facts, /, *, ratio: float = 0.5) -> None:
        super().__init__()
        if not 0 < ratio < 1:
            raise ConfigError(f"objective 'masked_summary': ratio={ratio} must be in (0, 1)")
        require_hiding("masked_summary", model)
        require_features(
            "masked_summary", model, "choose model=log_covariance, or mvpformer with tokenizer=log_spectrum"
        )
        self.ratio = ratio
        self.patch_samples = patch_samples_of(model)
        # row 0: names that are unknown
        self.weight = nn.Parameter(torch.empty(len(facts.channels) + 1, model.dim, model.n_features))
        nn.init.normal_(self.weight, std=0.05)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the squared error over the features of the hidden segments."""
        hidden = self.draw(batch, generator)
        share = same_person(batch)
        estimate = self.estimate(model, batch, hidden)
        estimate = estimate - torch.einsum("ijc,jcf->icf", share, estimate)
        with torch.no_grad():
            truth = model.patch_features(batch.signal)
            # padding may hold anything
            usual = torch.einsum("ijc,jcf->icf", share, truth.mean(1).masked_fill(~batch.channel_mask[..., None], 0.0))
            truth = truth - usual[:, None]
        compared = (share > 0).sum(1) > 1
        where = (hidden[:, :, None] & compared[:, None])[..., None].expand_as(truth)
        estimate = estimate[:, None].expand_as(truth)
        total = masked_mse(estimate, truth, where)
        return Loss(total, {"mse": total.detach()}, {"r2": r_squared(estimate, truth, where)})

    def estimate(self, model: Backbone, batch: NeuralBatch, hidden: Tensor) -> Tensor:
        """Estimate the features of hidden segments (B, T) without looking at them, (B, C, F)."""
        assert batch.channel_ids is not None
        samples = hidden.repeat_interleave(self.patch_samples, 1)
        samples = nn.functional.pad(samples, (0, batch.signal.shape[-1] - samples.shape[1]))
        # the values themselves are removed too, so no model can look behind its own mask
        seen = batch.with_signal(batch.signal.masked_fill(samples[:, None], 0.0))
        encoded = model.encode(seen, mask_tokens=hidden[..., None])
        # tokens come segment by segment
        visible = ~hidden.repeat_interleave(encoded.mask.shape[1] // hidden.shape[1], 1)
        vector = model.pool(encoded._replace(mask=encoded.mask & visible))
        ids = batch.channel_ids.masked_fill(batch.channel_ids >= len(self.weight), 0)
        return torch.einsum("bd,bcdf->bcf", vector, self.weight[ids])

    def draw(self, batch: NeuralBatch, generator: torch.Generator | None) -> Tensor:
        """Choose the segments to hide, shape (B, T), bool; a window's choice does not depend on its neighbours."""
        T = batch.signal.shape[-1] // self.patch_samples
        if T < 2:
            raise ConfigError(
                "objective 'masked_summary' needs two segments per window or more: make window_s longer or patch_s shorter"
            )
        rank = keyed_uniform(sample_keys(batch, generator), T).argsort(1).argsort(1)
        return rank < min(max(round(self.ratio * T), 1), T - 1)


def same_person(batch: NeuralBatch) -> Tensor:
    """Weights of a mean over the windows of one subject that have the same channel at the same place, (B, B, C).

    Rows of channels that do not exist are zero.
    """
    assert batch.subject is not None
    assert batch.channel_ids is not None
    person, name, there = batch.subject, batch.channel_ids, batch.channel_mask
    same = (person[:, None] == person)[..., None] & (name[:, None] == name) & there[:, None] & there
    return (same / same.sum(1, keepdim=True).clamp(min=1)).to(batch.signal.dtype)
