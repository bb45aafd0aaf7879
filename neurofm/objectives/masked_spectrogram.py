"""Restore hidden spans of a spectrogram, in time and in frequency (BrainBERT, arXiv:2302.14367, section 2).

The released code counts the error of frequency spans at other bins than those it hid, and multiplies the gradient by the
loss. Here the labels are the cells that were hidden, and the gradient is that of the loss.

Shape legend: B batch, C channel, R row = one channel of one window, N frame, F frequency bin.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, offers
from neurofm.nn.spans import draw_spans
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.grid import grid
from neurofm.objectives.keyed import keyed_uniform, mix, sample_keys
from neurofm.objectives.scores import r_squared
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

# of the spans: left as they are, replaced by another place; the rest becomes zeros
LEFT, REPLACED = 0.1, 0.1


class Hidden(NamedTuple):
    """A spectrogram with spans hidden, and which cells those are; both (B, C, N, F)."""

    shown: Tensor
    label: Tensor


class MaskedSpectrogram(Objective):
    """Hide spans of frames and of bins and estimate what was there.

    Parameters
    ----------
    model : Backbone
        With `spectrogram(batch)` and `encode(batch, spectrogram)`: brainbert.
    facts : Facts
        Not used.
    time_probability, frequency_probability : float
        Of a span to begin at a frame or bin.
    longest_time, longest_frequency : int
        Longest span, in frames and bins; lengths are uniform.
    content_weight : float
        Weight of the error at the hidden cells further than `content_sd` from the mean, so that the rare strong events
        count ("content-aware"); 0 = off.
    content_sd : float
        What is strong, in standard deviations of a bin.
    """

    needs = ("signal", "channel_mask", "time_mask")
    report = "spectrogram"

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        time_probability: float = 0.05,
        frequency_probability: float = 0.05,
        longest_time: int = 5,
        longest_frequency: int = 2,
        content_weight: float = 2.0,
        content_sd: float = 1.0,
    ) -> None:
        super().__init__()
        if not offers(model, Backbone.spectrogram):
            raise ConfigError(
                f"objective 'masked_spectrogram' needs a model that reads spectrograms, not {type(model).__name__}; "
                "use model=brainbert_small"
            )
        if not (0 <= time_probability <= 1 and 0 <= frequency_probability <= 1) or content_weight < 0:
            raise ConfigError(
                f"objective 'masked_spectrogram': time_probability={time_probability} and frequency_probability="
                f"{frequency_probability} must be 0 to 1, content_weight={content_weight} 0 or more"
            )
        if not time_probability and not frequency_probability:
            raise ConfigError(
                "objective 'masked_spectrogram': with both probabilities 0 nothing is hidden; raise time_probability"
            )
        self.time, self.frequency = (time_probability, longest_time), (frequency_probability, longest_frequency)
        self.content_weight, self.content_sd = content_weight, content_sd
        dim, n_bins = model.dim, model.n_bins
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, n_bins))

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the mean absolute error over the hidden cells, the strong ones counted again."""
        truth = model.spectrogram(batch)
        hidden = self.draw(truth, batch, generator)
        estimate = self.estimate(model, batch, hidden.shown)
        label = hidden.label & batch.channel_mask[:, :, None, None]
        strong = label & (truth.abs() > self.content_sd)
        error = (estimate - truth).abs()
        plain = _mean(error, label)
        content = _mean(error, strong)
        return Loss(
            plain + self.content_weight * content,
            {"l1": plain.detach(), "l1_strong": content.detach()},
            {"r2": r_squared(estimate, truth, label), "hidden_share": _share(label, batch.channel_mask)},
        )

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return the spectrogram as the network gives it back with nothing hidden, shape (B, C, N, F)."""
        return self.estimate(model, batch, model.spectrogram(batch))

    def estimate(self, model: Backbone, batch: NeuralBatch, shown: Tensor) -> Tensor:
        """Estimate the whole spectrogram from what is shown of it, both (B, C, N, F)."""
        tokens, _ = grid(model.encode(batch, spectrogram=shown), batch.signal.shape[1])
        return self.head(tokens).transpose(1, 2)

    def draw(self, truth: Tensor, batch: NeuralBatch, generator: torch.Generator | None) -> Hidden:
        """Hide spans of frames, then of bins; what a channel hides depends on nothing but its window and its place."""
        B, C, N, F = truth.shape
        key = mix(sample_keys(batch, generator)[:, None] + torch.arange(C, device=truth.device))
        u = keyed_uniform(key.flatten(), 4 * (N + F))
        frames, in_time = _hide(truth.flatten(0, 1), u[:, : 4 * N], *self.time)
        cells, in_frequency = _hide(frames.transpose(1, 2), u[:, 4 * N :], *self.frequency)
        label = in_time[:, :, None] | in_frequency[:, None, :]
        return Hidden(cells.transpose(1, 2).view_as(truth), label.view(B, C, N, F))


def _hide(x: Tensor, u: Tensor, probability: float, longest: int) -> tuple[Tensor, Tensor]:
    """Hide spans along the second axis, shape (R, N, ·); `u` (R, 4 N) uniform. Return it and which positions, (R, N)."""
    n = x.shape[1]
    start, length, action, place = u.unflatten(1, (4, n)).unbind(1)
    span = draw_spans(start, length, probability=probability, longest=longest)
    inside = span >= 0
    # one draw per span: that of the position where it began
    first = span.clamp(min=0)
    action, place = action.gather(1, first), place.gather(1, first)
    # never its own place
    shift = 1 + (place * max(n - 1, 1)).long()
    source = (torch.arange(n, device=x.device) + shift) % n
    other = x.gather(1, source[..., None].expand_as(x))
    replaced = inside & (action >= LEFT) & (action < LEFT + REPLACED)
    zeroed = inside & (action >= LEFT + REPLACED)
    x = torch.where(replaced[..., None], other, x).masked_fill(zeroed[..., None], 0.0)
    return x, inside


def _mean(error: Tensor, where: Tensor) -> Tensor:
    return error.masked_fill(~where, 0.0).sum() / where.sum().clamp(min=1)


def _share(label: Tensor, channel_mask: Tensor) -> Tensor:
    return label.sum() / (channel_mask.sum().clamp(min=1) * label.shape[-1] * label.shape[-2])
