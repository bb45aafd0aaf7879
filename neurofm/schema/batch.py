"""The batch that passes from data to models.

Shape legend: B batch, C channel, T time, n events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class StreamValues(NamedTuple):
    """A further signal on its own clock: values [B, time, channel], time_s [B, time], mask [B, time]."""

    values: Tensor
    time_s: Tensor
    mask: Tensor


class Events(NamedTuple):
    """Ragged events: unit long [n], time_s float [n] from the window's start, offsets long [B + 1]."""

    unit: Tensor
    time_s: Tensor
    offsets: Tensor


@dataclass(kw_only=True)
class NeuralBatch:
    """A batch of windows at one sampling rate; absent fields are None.

    Attributes
    ----------
    signal : Tensor, shape (B, C, T), float32
        Matrices padded over channels (padding last) with zeros.
    channel_mask : Tensor, shape (B, C), bool
        True where the channel exists and is good.
    time_mask : Tensor, shape (B, T), bool
        True where there is a sample.
    positions : Tensor, shape (B, C, 3), float32
        Metres, NaN where unknown.
    channel_ids : Tensor, shape (B, C), long
        1-based row in the vocabulary of canonical names; 0 = unknown or padding.
    subject, session, modality, trial, stimulus, concept : Tensor, shape (B,), long
        Subject, session and modality count from 1, 0 where unknown; the others from 0, −1 where unknown.
    rate_hz : float
        Sampling rate of `signal`.
    events : Events
        Spikes and the like.
    streams : dict of str to StreamValues
        Covariates and further signals.
    stimulus_embedding : dict of str to Tensor, shape (B, …)
        Precomputed embeddings of what was shown or heard.
    target : Tensor
        Class [B] long, trace [B, T, D] or embedding [B, D] float.
    target_mask : Tensor, bool
        Where the target counts.
    recording_id, start_s : list of str, Tensor, shape (B,), float64
        Where each window came from, for audit and plots.
    sample_id : Tensor, shape (B,), long
        Number of the window in its split; keys the generators of masks and augmentation.
    repeated : bool
        Whether another rank has these windows too: they are here so that this one makes the step, not to be counted.
    """

    signal: Tensor
    channel_mask: Tensor
    time_mask: Tensor
    rate_hz: float
    positions: Tensor | None = None
    channel_ids: Tensor | None = None
    subject: Tensor | None = None
    session: Tensor | None = None
    modality: Tensor | None = None
    trial: Tensor | None = None
    stimulus: Tensor | None = None
    concept: Tensor | None = None
    events: Events | None = None
    streams: dict[str, StreamValues] = field(default_factory=dict)
    stimulus_embedding: dict[str, Tensor] = field(default_factory=dict)
    target: Tensor | None = None
    target_mask: Tensor | None = None
    recording_id: list[str] | None = None
    start_s: Tensor | None = None
    sample_id: Tensor | None = None
    repeated: bool = False

    def __len__(self) -> int:
        return len(self.signal)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> NeuralBatch:
        """Copy every tensor to `device`."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> NeuralBatch:
        """Copy every tensor to page-locked memory."""
        return self._map(lambda t: t.pin_memory())

    def with_signal(self, signal: Tensor) -> NeuralBatch:
        """Return a copy with another signal of the same shape."""
        return replace(self, signal=signal)

    def mapped(self, f: Callable[[Any], Any]) -> NeuralBatch:
        """Return a copy with `f` applied to every field, and to every member of those that are dicts or tuples."""

        def apply(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: apply(v) for k, v in value.items()}
            if isinstance(value, tuple):
                return type(value)(*map(apply, value))
            return f(value)

        return replace(self, **{x.name: apply(getattr(self, x.name)) for x in fields(self)})

    def _map(self, f: Callable[[Tensor], Tensor]) -> NeuralBatch:
        return self.mapped(lambda value: f(value) if hasattr(value, "pin_memory") else value)
