"""Masked modelling of binned counts with a Poisson loss.

Source: Neural Data Transformer (arXiv:2108.01210) and MtM (arXiv:2407.14668): some counts are set to zero on the way in,
the model's token of each bin gives the log of the expected count of every unit, and the loss is the Poisson negative
log-likelihood of the hidden counts alone. Of MtM's masks, those by brain region are left out. A model that sees only
earlier bins may also be asked for every count from those before it, which is the likelihood of a point process model.

Shape legend: B batch, C channel (unit), T bin, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone
from neurofm.models.ndt import PROMPTS
from neurofm.models.unit_table import GrowingTable, check_units
from neurofm.nn.poisson import bits_per_spike, poisson_nll
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.count_masks import hidden_bins, hidden_entries, hidden_neurons, last_bins, last_channels
from neurofm.objectives.keyed import keyed_uniform, sample_keys
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.facts import Facts

NEXT = "next"
MODES = (*PROMPTS[1:], NEXT)


class MaskedCounts(Objective):
    """Poisson loss of hidden counts.

    Parameters
    ----------
    model : Backbone
        Gives one token per bin: takes ``encode(batch, prompt)``, such as `ndt`, or sees earlier bins alone, such as
        `stimulus_filters`.
    facts : Facts
        Vocabulary of units, bin, window.
    modes : mapping of str to float
        Ways of hiding and their weights; one is drawn for each window: ``neuron``, ``temporal``, ``random``,
        ``co_smooth``, ``forward``; or ``next``, every count from those before it, for a model that sees no others.
    ratio : float
        Share of neurons, bins or counts hidden by the first three.
    longest_span : int
        Most bins that ``temporal`` hides in a row.
    held_out : int or sequence of str
        What ``co_smooth`` hides: the last n units of each window, or units by their names in the vocabulary.
    forward_bins : int
        What ``forward`` hides: the last bins of the window.

    Notes
    -----
    `predict` gives expected counts per bin, of everything from everything; `rates` those of counts that are hidden.
    """

    needs = ("signal", "channel_mask", "time_mask", "channel_ids")

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        modes: Mapping[str, float] | None = None,
        ratio: float = 0.3,
        longest_span: int = 1,
        held_out: int | Sequence[str] = 1,
        forward_bins: int = 1,
    ) -> None:
        super().__init__()
        modes = {"neuron": 1.0, "temporal": 1.0} if modes is None else modes
        for name, weight in modes.items():
            if name not in MODES:
                raise ConfigError(f"masked_counts: modes names '{name}': {nearest(name, MODES)}")
            if weight < 0:
                raise ConfigError(f"masked_counts: modes gives '{name}' the weight {weight}; expected 0 or more")
        if not sum(modes.values()) > 0:
            raise ConfigError("masked_counts: modes must give at least one way of hiding a weight above 0")
        if not 0 < ratio < 1 or longest_span < 1 or forward_bins < 1:
            raise ConfigError(
                f"masked_counts: ratio={ratio} must lie between 0 and 1, longest_span={longest_span} and "
                f"forward_bins={forward_bins} be at least 1"
            )
        if not model.takes_prompt and not model.sees_before:
            raise ConfigError(
                "objective 'masked_counts' needs a model with one token per bin; use model=ndt or model=stimulus_filters"
            )
        if modes.get(NEXT) and not model.sees_before:
            raise ConfigError(
                "masked_counts: modes names 'next', for which a bin's token must not see the bin; use model=stimulus_filters"
            )
        self.ratio, self.longest_span, self.forward_bins = ratio, longest_span, forward_bins
        self.held_out: int | tuple[int, ...]
        self.held_out = held_out if isinstance(held_out, int) else _numbers(held_out, facts.channels)
        weights = torch.tensor([float(modes.get(m, 0.0)) for m in MODES], dtype=torch.float64)
        self.edges = (weights.cumsum(0) / weights.sum()).tolist()
        self.head = GrowingTable(len(facts.channels), model.dim)
        # log rates start near one count in ten bins, where spikes are
        self.level = GrowingTable(len(facts.channels), 1, std=0.0)
        nn.init.constant_(self.level.weight, -2.3)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the mean Poisson loss per hidden count, in nats without the term that depends on the counts alone."""
        hidden, mode = self.draw(batch, generator)
        # what comes next needs no hiding: the model does not see it
        is_next = mode == MODES.index(NEXT)
        covered = hidden & ~is_next[:, None, None]
        log_rate = self.log_rates(model, batch, covered, torch.where(is_next, 0, mode + 1))
        nll = poisson_nll(log_rate, batch.signal)
        total = (nll * hidden).sum() / hidden.sum().clamp(min=1)
        there = batch.channel_mask[..., None] & batch.time_mask[:, None]
        own = (batch.signal * there).sum(2, keepdim=True) / there.sum(2, keepdim=True).clamp(min=1)
        return Loss(
            total,
            {"poisson": total.detach()},
            {
                "bits_per_spike": bits_per_spike(log_rate, batch.signal, own, hidden).to(total.device),
                "hidden": hidden.sum() / there.sum().clamp(min=1),
            },
        )

    def draw(self, batch: NeuralBatch, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw what is hidden, bool (B, C, T), and each window's number in `MODES`, shape (B,)."""
        keys = sample_keys(batch, generator)
        edges = torch.tensor(self.edges, dtype=torch.float64, device=keys.device)
        mode = torch.searchsorted(edges, keyed_uniform(keys + 1, 1)[:, 0].contiguous(), right=True)
        mode = mode.clamp(max=len(MODES) - 1)
        hidden = torch.zeros(batch.signal.shape, dtype=torch.bool, device=keys.device)
        for number in mode.unique().tolist():
            mine = mode == number
            hidden = torch.where(mine[:, None, None], self.mask(batch, MODES[number], keys), hidden)
        return hidden, mode

    def mask(self, batch: NeuralBatch, mode: str, keys: Tensor | None = None) -> Tensor:
        """Return what a way of hiding hides, shape (B, C, T); `keys` (B,) for those that draw."""
        if mode not in MODES:
            raise ConfigError(f"masked_counts: mode '{mode}': {nearest(mode, MODES)}")
        channels, times = batch.channel_mask, batch.time_mask
        there = channels[..., None] & times[:, None]
        if mode == NEXT:
            return there
        if mode == "co_smooth":
            return there & self._fixed(batch)[..., None]
        if mode == "forward":
            return there & last_bins(times, self.forward_bins)[:, None]
        if keys is None:
            keys = sample_keys(batch, None)
        if mode == "neuron":
            return there & hidden_neurons(channels, keys, ratio=self.ratio)[..., None]
        if mode == "temporal":
            return there & hidden_bins(times, keys, ratio=self.ratio, longest=self.longest_span)[:, None]
        return hidden_entries(there, keys, ratio=self.ratio)

    def log_rates(self, model: Backbone, batch: NeuralBatch, hidden: Tensor, prompt: Tensor) -> Tensor:
        """Return the log of the expected count per bin, (B, C, T), from the counts that are not hidden."""
        ids = check_units(batch)
        seen = batch.with_signal(batch.signal.masked_fill(hidden, 0))
        tokens = (model.encode(seen, prompt=prompt) if model.takes_prompt else model.encode(seen)).tokens
        return torch.einsum("btd,bcd->bct", tokens, self.head(ids)) + self.level(ids)

    @torch.no_grad()
    def rates(self, model: Backbone, batch: NeuralBatch, *, mode: str) -> tuple[Tensor, Tensor]:
        """Return expected counts per bin, (B, C, T), and what was hidden for it, of one way of hiding.

        ``co_smooth`` and ``forward`` hide what they state, ``next`` nothing; ``neuron`` hides every unit once, a share at a time, and
        ``temporal`` every bin, so that all is estimated without itself.
        """
        if mode == NEXT:
            return self.predict(model, batch), self.mask(batch, mode)
        number = torch.full((len(batch),), PROMPTS.index(mode) if mode in PROMPTS else -1, device=batch.signal.device)
        if mode not in ("neuron", "temporal"):
            hidden = self.mask(batch, mode)
            return self.log_rates(model, batch, hidden, number).exp(), hidden
        there = batch.channel_mask[..., None] & batch.time_mask[:, None]
        parts = max(2, round(1 / self.ratio))
        axis = 1 if mode == "neuron" else 2
        place = torch.arange(batch.signal.shape[axis], device=there.device) % parts
        place = place[:, None] if axis == 1 else place[None]
        out = torch.zeros_like(batch.signal)
        for part in range(parts):
            hidden = there & (place == part)
            out = torch.where(hidden, self.log_rates(model, batch, hidden, number).exp(), out)
        return out, there

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return expected counts per bin with nothing hidden, shape (B, C, T)."""
        nothing = torch.zeros(batch.signal.shape, dtype=torch.bool, device=batch.signal.device)
        there = batch.channel_mask[..., None] & batch.time_mask[:, None]
        prompt = torch.zeros(len(batch), dtype=torch.long, device=batch.signal.device)
        return self.log_rates(model, batch, nothing, prompt).exp() * there

    def subject_parameters(self) -> list[str]:
        """Return the readout of the units."""
        return ["head.weight", "level.weight"]

    def grow(self, facts: Facts) -> None:
        """Take in units behind the present ones; their level starts where those there are on average."""
        old = self.level.num_embeddings
        self.head.grow(len(facts.channels))
        self.level.grow(len(facts.channels))
        with torch.no_grad():
            if old > 1:
                self.level.weight[old:] = self.level.weight[1:old].mean()

    def _fixed(self, batch: NeuralBatch) -> Tensor:
        if isinstance(self.held_out, int):
            return last_channels(batch.channel_mask, self.held_out)
        assert batch.channel_ids is not None
        wanted = torch.tensor(self.held_out, device=batch.channel_ids.device)
        found = batch.channel_mask & torch.isin(batch.channel_ids, wanted)
        if not bool(found.any(1).all()):
            raise DataError(
                "masked_counts: a window holds none of the units that held_out names; name some of each session"
            )
        return found


def _numbers(names: Sequence[str], vocabulary: Sequence[str]) -> tuple[int, ...]:
    number: dict[str, Any] = {name: i for i, name in enumerate(vocabulary, 1)}
    for name in names:
        if name not in number:
            raise ConfigError(f"masked_counts: held_out names '{name}': {nearest(name, vocabulary)}")
    return tuple(number[name] for name in names)
