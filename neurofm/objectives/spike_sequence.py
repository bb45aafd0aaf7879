"""Which unit fires next, and when: autoregressive modelling of spikes, with contrastive alignment of modalities.

Source: Neuroformer (arXiv:2311.00136). Cross-entropy of the next spike's unit (or the end) and of its time step, and
InfoNCE between the mean features of spikes, frames and behaviours. Units of other sessions than the window's are no
candidates.

Shape legend: B batch, S = 1 + current tokens, C channel (unit), D width, classes: 0 the end, 1 + c channel c of the window.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone
from neurofm.models.neuroformer import Neuroformer, States
from neurofm.models.spike_tokens import SpikeTokens
from neurofm.models.unit_table import GrowingTable, check_units
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.spike_generation import Generated, generate
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class SpikeSequence(Objective):
    """Cross-entropy of the next unit and time step.

    Parameters
    ----------
    model : Neuroformer
        Gives states of spikes.
    facts : Facts
        Vocabulary of units.
    unit_weight, step_weight, contrastive_weight : float
        Weights of the terms (published: 0.45, 0.30 and 0.25, the last whether or not the contrastive term is on). The
        last counts only where the model has more than one modality.
    align_dim : int
        Width that features of all modalities are mapped to by one shared map.
    temperature : float
        Of the contrastive term (published: 0.5).
    symmetric : bool
        Average both directions of each pair (published: one).
    """

    needs = ("signal", "channel_mask", "channel_ids", "events")

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        unit_weight: float = 0.45,
        step_weight: float = 0.30,
        contrastive_weight: float = 0.25,
        align_dim: int = 64,
        temperature: float = 0.5,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, Neuroformer):
            raise ConfigError("objective 'spike_sequence' models spikes one by one; use model=neuroformer")
        if min(unit_weight, step_weight) <= 0 or contrastive_weight < 0 or temperature <= 0:
            raise ConfigError(
                f"spike_sequence: unit_weight={unit_weight}, step_weight={step_weight} and temperature={temperature} must "
                f"be above 0, contrastive_weight={contrastive_weight} 0 or more"
            )
        self.unit_weight, self.step_weight, self.contrastive_weight = unit_weight, step_weight, contrastive_weight
        self.temperature, self.symmetric = temperature, symmetric
        self.head = GrowingTable(len(facts.channels), model.dim)
        self.end = nn.Parameter(torch.zeros(model.dim))
        # the last class says that there is no further spike
        self.step_head = nn.Linear(model.dim, model.n_steps + 1, bias=False)
        self.align: nn.Linear | None = None
        if contrastive_weight and (model.frames is not None or len(model.traces)):
            self.align = nn.Linear(model.dim, align_dim)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the weighted sum of the terms."""
        assert isinstance(model, Neuroformer)
        states = model.run(batch)
        unit_logits, step_logits = self.logits(states, batch)
        unit, step, valid = targets(states.current, model.n_steps)
        unit_loss = F.cross_entropy(unit_logits[valid], unit[valid])
        step_loss = F.cross_entropy(step_logits[valid], step[valid])
        total = self.unit_weight * unit_loss + self.step_weight * step_loss
        terms = {"unit": unit_loss.detach(), "step": step_loss.detach()}
        if self.align is not None:
            contrast = self._contrast(states.features)
            total = total + self.contrastive_weight * contrast
            terms["contrastive"] = contrast.detach()
        with torch.no_grad():
            spikes = valid & (unit > 0)
            among = unit_logits[..., 1:][spikes].log_softmax(-1)
            next_unit = F.nll_loss(among, unit[spikes] - 1) if bool(spikes.any()) else total.new_full((), float("nan"))
            metrics = {
                # of the spike's unit given that there is one: comparable with the entropy of the units' rates
                "next_unit": next_unit,
                "accuracy": (unit_logits[valid].argmax(-1) == unit[valid]).float().mean(),
                "cut": states.current.cut.float().mean(),
            }
        return Loss(total, terms, metrics)

    def logits(self, states: States, batch: NeuralBatch) -> tuple[Tensor, Tensor]:
        """Return logits of the next unit (B, S, 1 + C; −inf for channels that are not there) and time step (B, S, steps + 1)."""
        ids = check_units(batch)
        units = torch.einsum("bsd,bcd->bsc", states.tokens, self.head(ids))
        units = units.masked_fill(~batch.channel_mask[:, None], -torch.inf)
        return torch.cat([(states.tokens @ self.end)[..., None], units], dim=-1), self.step_head(states.tokens)

    @torch.no_grad()
    def generate(
        self, model: Neuroformer, batch: NeuralBatch, generator: torch.Generator | None = None, *,
        temperature: float = 1.0, top_p: float = 0.95, repeats: bool = False,
    ) -> Generated:  # fmt: skip
        """Draw the current part's spikes from what comes before them; see `spike_generation.generate`."""
        return generate(self, model, batch, generator, temperature=temperature, top_p=top_p, repeats=repeats)

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return log-probabilities of the next unit at every true spike, shape (B, S, 1 + C)."""
        assert isinstance(model, Neuroformer)
        return self.logits(model.run(batch), batch)[0].log_softmax(-1)

    def subject_parameters(self) -> list[str]:
        """Return the units' rows of the head."""
        return ["head.weight"]

    def grow(self, facts: Facts) -> None:
        """Take in units behind the present ones."""
        self.head.grow(len(facts.channels))

    def _contrast(self, features: dict[str, Tensor]) -> Tensor:
        """InfoNCE of every pair of modalities over the batch, summed."""
        assert self.align is not None
        mapped = {n: F.normalize(self.align(f), dim=-1) for n, f in features.items()}
        total = mapped["spikes"].new_zeros(())
        for a, b in combinations(mapped, 2):
            logits = mapped[a] @ mapped[b].T / self.temperature
            own = torch.arange(len(logits), device=logits.device)
            one_way = F.cross_entropy(logits, own)
            total = total + ((one_way + F.cross_entropy(logits.T, own)) / 2 if self.symmetric else one_way)
        return total


def targets(current: SpikeTokens, n_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return next unit's class, next time step's class and where they count, all (B, S).

    State i is to say spike i, and the last state that there is no further one; not in rows that were cut, where there is.
    """
    channel, step = F.pad(current.channel + 1, (0, 1)), F.pad(current.step, (0, 1))
    there = F.pad(current.mask, (0, 1))
    valid = F.pad(current.mask, (1, 0), value=True)
    ends = valid & ~there
    return (
        torch.where(there, channel, 0),
        torch.where(there, step, n_steps),
        there | (ends & ~current.cut[:, None]),
    )
