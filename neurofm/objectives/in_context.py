"""In-context encoding: a voxel's response to new stimuli from a handful of pairs, without a gradient step.

The batch is read transposed: channels are the samples, trials their context. Each subject's trials are parted into
context and query; the model turns a voxel's context into one vector, the head that vector into the weights of a linear
map from the stimulus embedding to the response.

Shape legend: B trials, C channel, V voxels drawn, n context, m query, E embedding, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, offers
from neurofm.models.vector import mean_over_time
from neurofm.objectives.base import Loss, Objective
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts


class InContextEncoding(Objective):
    """Mean squared error of responses to query stimuli, by weights read from the context (BraInCoRL, arXiv:2505.15813).

    Parameters
    ----------
    model : Backbone
        With `voxels(embedding, response) → (V, D)`, such as `braincorl`.
    facts : Facts
        `embedding_shape` (E,).
    embedding : str, optional
        Which of ``batch.stimulus_embedding``; may be left out where there is one.
    context : pair of int
        Range of the number of context trials, drawn per step.
    n_voxels : int
        Voxels drawn per subject and step.
    held : int
        Channels of one subject whose weights are kept, read by `read_context` (adapt=in_context sets it); 0: every
        batch brings its own context.
    """

    needs = ("channel_mask", "time_mask", "stimulus_embedding")
    contrasts = True

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        embedding: str | None = None,
        context: Sequence[int] = (30, 500),
        n_voxels: int = 64,
        held: int = 0,
    ) -> None:
        super().__init__()
        if len(facts.embedding_shape) != 1:
            raise ConfigError(
                f"objective 'in_context' needs one vector per stimulus, the embedding has shape {facts.embedding_shape}"
            )
        if not offers(model, Backbone.voxels):
            raise ConfigError(f"objective 'in_context' needs a model that reads contexts; choose model=braincorl, "
                              f"not {type(model).__name__}")  # fmt: skip
        if not 1 <= context[0] <= context[1]:
            raise ConfigError(f"in_context: context={list(context)} must be [low, high] with 1 ≤ low ≤ high")
        self.embedding, self.context, self.n_voxels = embedding, (int(context[0]), int(context[1])), n_voxels
        n_dim = facts.embedding_shape[0]
        self.mix = nn.Sequential(nn.LayerNorm(model.dim), nn.Linear(model.dim, model.dim), nn.GELU())
        self.head = nn.Linear(model.dim, n_dim + 1)
        self.held = held
        self.context_weights: Tensor
        if held:
            self.register_buffer("context_weights", torch.zeros(held, n_dim + 1))

    def weights(self, model: Backbone, embedding: Tensor, response: Tensor) -> Tensor:
        """Encode voxels from their contexts alone.

        Parameters
        ----------
        model : Backbone
        embedding : Tensor, shape (V, n, E) or (n, E)
            Of the context's stimuli, shared by all voxels in the latter case.
        response : Tensor, shape (V, n)

        Returns
        -------
        Tensor, shape (V, E + 1)
            Weights and, last, the offset of each voxel's linear map.
        """
        h = model.voxels(embedding, response)
        return self.head(h + self.mix(h))

    def encode(self, model: Backbone, embedding: Tensor, response: Tensor, new: Tensor) -> Tensor:
        """Predict the responses of voxels to new stimuli, (m, E) → (V, m)."""
        w = self.weights(model, embedding, response)
        return w[:, :-1] @ F.normalize(new, dim=-1).T + w[:, -1:]

    @torch.no_grad()
    def read_context(self, model: Backbone, batch: NeuralBatch) -> None:
        """Keep the weights of every channel of one subject, read from all of its trials in the batch as context."""
        embedding, response = self.trials(batch)
        there = batch.channel_mask.all(0)
        if batch.subject is not None and len(batch.subject.unique()) > 1:
            raise DataError("in_context: the calibration holds several subjects; adapt to one at a time")
        found = response.new_zeros(len(there), self.head.out_features)
        found[there] = self.weights(model, embedding, response[:, there].T)
        self.held = len(there)
        self.register_buffer("context_weights", found)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Part each subject's trials into context and query, and score the query."""
        embedding, response = self.trials(batch)
        subject = torch.zeros(len(batch)) if batch.subject is None else batch.subject.cpu()
        errors, spreads, n_context = [], [], []
        for one in subject.unique().tolist():
            rows = (subject == one).nonzero().flatten()
            if len(rows) < 2:
                continue
            rows = rows[torch.randperm(len(rows), generator=generator)].to(response.device)
            low, high = self.context
            drawn = int(torch.randint(low, high + 1, (), generator=generator))
            n = max(1, min(drawn, len(rows) - 1))
            there = batch.channel_mask[rows].all(0).nonzero().flatten()
            voxels = there[torch.randperm(len(there), generator=generator)[: self.n_voxels].to(there.device)]
            context, query = rows[:n], rows[n:]
            estimate = self.encode(model, embedding[context], response[context][:, voxels].T, embedding[query])
            true = response[query][:, voxels].T
            errors.append((estimate - true).square().flatten())
            spreads.append((true - true.mean(1, keepdim=True)).square().flatten())
            n_context.append(n)
        if not errors:
            raise DataError(
                "in_context: no subject has two trials in the batch; take larger batches of one subject each"
            )
        total = torch.cat(errors).mean()
        spread = torch.cat(spreads).mean().clamp(min=1e-12)
        metrics = {
            "explained": (1 - total / spread).detach(),
            "n_context": torch.tensor(sum(n_context) / len(n_context), device=total.device),
        }
        return Loss(total, {"mse": total.detach()}, metrics)

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return every trial's response estimated from the first half of its subject's trials, shape (B, C, 1).

        Trials of that half are estimated from the other, so no trial is in its own context. With a context that is
        `held`, all are estimated from it, and their own signal is not looked at.
        """
        embedding, response = self.trials(batch)
        if self.held:
            w = self.context_weights
            if len(w) != response.shape[1]:
                raise DataError(
                    f"in_context: the context was read from {len(w)} channels, the batch has {response.shape[1]}; give the "
                    "same channels of the same subject"
                )
            estimate = embedding.to(w) @ w[:, :-1].T + w[:, -1]
            return (estimate * batch.channel_mask)[..., None]
        subject = torch.zeros(len(batch)) if batch.subject is None else batch.subject.cpu()
        estimate = torch.zeros_like(response)
        for one in subject.unique().tolist():
            rows = (subject == one).nonzero().flatten().to(response.device)
            halves = rows.tensor_split(2)
            if len(rows) < 2:
                raise DataError("in_context: a subject has one trial in the batch, and so no context")
            for context, query in (halves, halves[::-1]):
                estimate[query] = self.encode(model, embedding[context], response[context].T, embedding[query]).T
        return (estimate * batch.channel_mask)[..., None]

    def trials(self, batch: NeuralBatch) -> tuple[Tensor, Tensor]:
        """Embeddings of length one (B, E), and responses as means over time (B, C)."""
        have = batch.stimulus_embedding
        name = self.embedding if self.embedding is not None else next(iter(have), None)
        if name is None or name not in have:
            raise ConfigError(
                f"in_context: embedding={self.embedding} is not one of the batch's ({', '.join(have) or 'none'})"
            )
        return F.normalize(have[name], dim=-1), mean_over_time(batch)
