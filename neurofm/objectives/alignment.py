"""Alignment of brain responses with embeddings of what was seen, heard or read.

Shape legend: B windows of this rank, N of all ranks, D width of the model, T times and E numbers of the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded, offers
from neurofm.models.layout import masked_mean
from neurofm.nn.projection import build_head
from neurofm.nn.transport import sinkhorn_divergence, sliced_wasserstein
from neurofm.objectives.alignment_losses import (
    NORMALISE,
    bi_mix_co,
    info_nce,
    retrieval_hits,
    same_stimulus,
    same_target,
    scores,
    sigmoid_pairs,
    soft_clip,
)
from neurofm.objectives.alignment_readout import at_times, over_channels
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.linear_path import LinearPath
from neurofm.objectives.mixing import generator_of, mix_pairs
from neurofm.objectives.over_ranks import check_equal_rows, gather, world
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.facts import Facts

LOSSES = ("info_nce", "soft_clip", "siglip", "bi_mix_co", "bi_mix_co_soft_clip")
SAME = ("stimulus", "concept", "none")
TRANSPORT = ("sliced", "sinkhorn")


class _Pairs(NamedTuple):
    """What the loss compares, of all ranks, flattened: (N, T·E) each; `placed` is the target through the stimulus's head."""

    contrast: Tensor
    regress: Tensor
    target: Tensor
    placed: Tensor
    partner: Tensor
    share: Tensor
    same: Tensor


class Alignment(Objective):
    """Predict the embedding of the stimulus, and tell it from those of the other stimuli of the batch.

    ``contrastive_weight · contrastive + regression_weight · MSE + transport_weight · transport + auxiliary_weight ·
    (the model's own terms)``. Negatives come from all ranks; a window that shows the same stimulus is none. In
    evaluation each rank keeps to itself, as all see the same windows.

    Parameters
    ----------
    model : Backbone
        Its width is the head's input.
    facts : Facts
        `embedding_shape`: (E,) or (T, E); `window_s`, `embedding_s`.
    embedding : str, optional
        Which of ``batch.stimulus_embedding``; may be left out where there is one.
    loss : str
        "info_nce", "soft_clip", "siglip", "bi_mix_co", or "bi_mix_co_soft_clip": the one for `mix_steps`, then the other.
    temperature : float
        Divides the scores.
    learn_temperature : bool
        Whether it is trained, from `temperature` on, with 1 / temperature at most 100. The releases of NICE and ATM
        declare such a parameter, but the one never trains it and the other forgets the exponential.
    normalise : str
        "both": cosines; "target": the network learns the length of its predictions (speech decoding); "none".
    both_directions : bool
        Whether the stimulus has to find its response as well.
    same : str
        What makes two windows no negatives of each other: the "stimulus" (of one that unfolds in time: the same piece
        of it), its "concept", or "none".
    contrastive_weight, regression_weight : float
        Of the contrastive term and of the mean squared error.
    transport, transport_weight
        Distance between the clouds of predicted and true embeddings, whichever belongs to which: "sliced" Wasserstein,
        or "sinkhorn" divergence (on vectors of length one); and its weight.
    auxiliary_weight : float
        Of the terms that a model brings itself (MindBridge: reconstruction and cycle).
    readout : str
        "pool": one vector per window into the head; "tokens": the head on each token, over time to the embedding's T
        (mean over tokens where the embedding has no time).
    head, rank, hidden, dropout
        See `nn.projection.build_head`.
    stimulus_head : str, optional
        Head of the same kinds for the stimulus, so that both sides are learned, in a space of the embedding's own shape: NICE
        declares one and returns its input unchanged. Cosines with the embedding itself forget its length and treat all its
        directions alike, which costs a quarter of the right answers where the best possible decoder is known
        (docs/measurements). None: the embedding as it is.
    stimulus_dropout : float
        Of that head.
    linear : bool
        Whether ridge from the window to the embedding stands beside the network (`LinearPath`): solved before the first
        step and then kept, the network's answer is added to it by a factor that is learned and starts at zero. So training
        begins at ridge, and the network learns what that leaves over.
    own_regression_head : bool
        Whether the regression has a head of its own; retrieval takes the contrastive one.
    mix_steps : int
        Training steps of BiMixCo before SoftCLIP begins.
    anneal_steps : int
        Steps over which SoftCLIP's temperature then follows half a cosine between `soft_temperature`'s two values.
    soft_temperature : pair of float
        First and last.
    mix_alpha, mix_probability : float
        Of BiMixCo; see `mix_pairs`. The regression target is mixed by the same shares.
    """

    needs = ("channel_mask", "time_mask", "stimulus_embedding")
    contrasts = True
    solves_on = "windows"
    idle = ("mask_token",)  # nothing is hidden, so a model's token for it is not trained

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        embedding: str | None = None,
        loss: str = "info_nce",
        temperature: float = 0.07,
        learn_temperature: bool = False,
        normalise: str = "both",
        both_directions: bool = True,
        same: str = "stimulus",
        contrastive_weight: float = 1.0,
        regression_weight: float = 0.0,
        transport: str = "sliced",
        transport_weight: float = 0.0,
        auxiliary_weight: float = 1.0,
        readout: str = "pool",
        head: str = "linear",
        rank: int = 16,
        hidden: int = 0,
        dropout: float = 0.0,
        stimulus_head: str | None = None,
        stimulus_dropout: float = 0.0,
        linear: bool = False,
        own_regression_head: bool = False,
        mix_steps: int = 0,
        anneal_steps: int = 0,
        soft_temperature: Sequence[float] = (0.004, 0.0075),
        mix_alpha: float = 0.15,
        mix_probability: float = 0.5,
    ) -> None:
        super().__init__()
        shape = tuple(facts.embedding_shape)
        if len(shape) not in (1, 2):
            raise ConfigError(
                "objective 'alignment' needs an embedding of the stimulus, and the data have none; "
                "make one with `neurofm embed data=stimuli` and name it in data"
            )
        for word, given, known in (
            ("loss", loss, LOSSES),
            ("normalise", normalise, NORMALISE),
            ("same", same, SAME),
            ("transport", transport, TRANSPORT),
            ("readout", readout, ("pool", "tokens")),
        ):
            if given not in known:
                raise ConfigError(f"alignment: unknown {word} '{given}': {nearest(given, known)}")
        if temperature <= 0 or min(soft_temperature) <= 0:
            raise ConfigError(f"alignment: temperature={temperature} and soft_temperature must be above 0")
        if own_regression_head and not regression_weight:
            raise ConfigError("alignment: own_regression_head needs a regression_weight above 0")
        if stimulus_head is not None and (linear or (regression_weight and not own_regression_head)):
            raise ConfigError(
                f"alignment: stimulus_head={stimulus_head} leaves the embedding's own space, in which "
                + ("linear=true answers" if linear else "the regression needs own_regression_head=true")
            )
        self.embedding, self.loss, self.normalise, self.same = embedding, loss, normalise, same
        self.both_directions, self.readout, self.shape = both_directions, readout, shape
        self.span_s = facts.window_s if facts.embedding_s is None else facts.embedding_s
        self.contrastive_weight, self.regression_weight = contrastive_weight, regression_weight
        self.transport, self.transport_weight, self.auxiliary_weight = transport, transport_weight, auxiliary_weight
        self.temperature, self.learn_temperature = temperature, learn_temperature
        self.takes_terms = bool(auxiliary_weight) and offers(model, Backbone.encode_with_terms)
        self.mix_steps, self.anneal_steps = mix_steps, anneal_steps
        self.soft_temperature = (float(soft_temperature[0]), float(soft_temperature[1]))
        self.mix_alpha, self.mix_probability = mix_alpha, mix_probability
        head_shape = shape if readout == "pool" else shape[-1:]
        kind = {"rank": rank, "hidden": hidden, "dropout": dropout}
        self.head = build_head(head, model.dim, head_shape, **kind)  # type: ignore[arg-type]
        self.regression_head = (
            build_head(head, model.dim, head_shape, **kind)  # type: ignore[arg-type]
            if own_regression_head
            else None
        )
        self.places = stimulus_head is not None
        self.stimulus_head = (
            None
            if stimulus_head is None
            else build_head(stimulus_head, shape[-1], shape[-1:], rank=rank, hidden=hidden, dropout=stimulus_dropout)
        )
        self.linear = LinearPath(facts) if linear else None
        if linear:
            # as the small factors of very deep networks begin (Bachlechner et al. 2021, arXiv:2003.04887)
            self.network_gain = nn.Parameter(torch.zeros(()))
        if learn_temperature:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        if loss == "siglip":
            # starts at −10, so that the many negatives do not swamp the first steps
            self.pair_bias = nn.Parameter(torch.tensor(-10.0))
        # training steps so far; saved, so that a resumed run stays on schedule
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the loss of one batch."""
        target = self.target(batch)
        stage = self._stage()
        partner = torch.arange(len(batch), device=target.device)
        share = torch.ones(len(batch), device=target.device, dtype=target.dtype)
        if stage == "bi_mix_co" and self.training:
            people = torch.zeros_like(partner) if batch.subject is None else batch.subject
            batch, partner, share = mix_pairs(
                batch, people, generator_of(generator), alpha=self.mix_alpha, probability=self.mix_probability,
                own_leads=False,
            )  # fmt: skip
        encoded, own_terms = self._encode(model, batch, generator)
        contrast = self._read(self.head, model, encoded, batch)
        regress = contrast if self.regression_head is None else self._read(self.regression_head, model, encoded, batch)
        pairs = self._pairs(batch, contrast, regress, target, partner, share.to(target.dtype))
        weighted: dict[str, tuple[float, Tensor]] = {}
        logits = scores(pairs.contrast, pairs.placed, normalise=self.normalise)
        if self.contrastive_weight:
            weighted["contrastive"] = (self.contrastive_weight, self._contrastive(stage, logits, pairs))
        if self.regression_weight:
            own = pairs.share[:, None]
            mixed = own * pairs.target + (1 - own) * pairs.target[pairs.partner]
            weighted["regression"] = (self.regression_weight, F.mse_loss(pairs.regress, mixed))
        if self.transport_weight:
            weighted["transport"] = (self.transport_weight, self._transport(pairs, generator))
        for name, value in own_terms.items():
            weighted[name] = (self.auxiliary_weight, value)
        if self.training:
            self.steps += 1
        total = torch.stack([w * v for w, v in weighted.values()]).sum()
        metrics = {
            "top1_in_batch": retrieval_hits(logits.detach(), pairs.same),
            "cosine": F.cosine_similarity(pairs.contrast, pairs.placed).mean().detach(),
        }
        return Loss(total, {k: v.detach() for k, (_, v) in weighted.items()}, metrics)

    @property
    def has_closed_form(self) -> bool:
        """Whether ridge stands beside the network."""
        return self.linear is not None

    def solve(self, stretches: Iterable[NeuralBatch], *, new_subject: bool) -> None:
        """Solve ridge from windows; a new person's move the present map."""
        if self.linear is not None:
            self.linear.solve((batch, self.target(batch)) for batch in stretches)

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return what retrieval compares with a gallery's embeddings (through `place`), shape (B, E) or (B, T, E)."""
        return self._read(self.head, model, model(batch), batch)

    def place(self, embedding: Tensor) -> Tensor:
        """Where embeddings (…, *embedding_shape) of stimuli lie among the answers of `predict`."""
        return embedding if self.stimulus_head is None else self.stimulus_head(embedding)

    def reconstruct(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return the predicted embedding in the embedding's own space, for decoders of images and sounds.

        Raises
        ------
        ConfigError
            When nothing was trained to answer there.
        """
        if self.stimulus_head is None:
            return self.predict(model, batch)
        if self.regression_head is None:
            raise ConfigError(
                "alignment: with a stimulus_head answers lie in a space of their own; to decode the embedding itself, train "
                "with objective.regression_weight=1 objective.own_regression_head=true"
            )
        return self._read(self.regression_head, model, model(batch), batch)

    def target(self, batch: NeuralBatch) -> Tensor:
        """Return the true embedding of each window, shape (B, *embedding_shape).

        Raises
        ------
        ConfigError
            When the batch does not have it, or in another shape.
        """
        have = batch.stimulus_embedding
        name = self.embedding if self.embedding is not None else next(iter(have), None)
        if name is None or name not in have or (self.embedding is None and len(have) > 1):
            known = ", ".join(have) or "none"
            raise ConfigError(f"alignment: embedding={self.embedding} is not one of the batch's embeddings ({known})")
        target = have[name]
        if tuple(target.shape[1:]) != self.shape:
            raise ConfigError(
                f"alignment: embedding '{name}' has shape {tuple(target.shape[1:])}, the head was built for {self.shape}"
            )
        return target

    def _encode(
        self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None
    ) -> tuple[Encoded, dict[str, Tensor]]:
        """Tokens, and the terms that the model brings itself."""
        return model.encode_with_terms(batch, generator) if self.takes_terms else (model(batch), {})

    def _read(self, head: nn.Module, model: Backbone, encoded: Encoded, batch: NeuralBatch) -> Tensor:
        """Tokens → (B, *embedding_shape)."""
        if self.readout == "pool":
            said = head(model.pool(encoded))
        else:
            tokens, mask, time_s = over_channels(encoded, batch.signal.shape[1])
            if len(self.shape) == 1:
                said = masked_mean(head(tokens), mask)
            else:
                said = head(at_times(tokens, time_s, self.shape[0], self.span_s))
        return said if self.linear is None else self.linear(batch).to(said) + self.network_gain * said

    def _pairs(
        self, batch: NeuralBatch, contrast: Tensor, regress: Tensor, target: Tensor, partner: Tensor, share: Tensor
    ) -> _Pairs:
        """Rows of all ranks in training, of this one otherwise; windows without an embedding are left out."""
        rank, n_ranks = world()
        stimulus = None if self.same == "none" else getattr(batch, self.same)
        rows = [contrast.flatten(1), regress.flatten(1), target.flatten(1), partner + rank * len(batch), share]
        if stimulus is not None:
            rows.append(stimulus)
        if self.training and n_ranks > 1:
            check_equal_rows(len(batch), target.device)
            rows = [gather(x) for x in rows]
        elif n_ranks > 1:
            rows[3] = partner
        known = rows[2].isfinite().all(1) & (rows[2] != 0).any(1)
        # a response mixed with one of an unknown stimulus has no label
        known = known & (known[rows[3]] | (rows[4] == 1))
        if not bool(known.any()):
            raise DataError("alignment: no window of the batch has an embedding of its stimulus")
        if not bool(known.all()):
            rows[3] = torch.where(rows[4] == 1, torch.arange(len(known), device=known.device), rows[3])
            rows[3] = (known.long().cumsum(0) - 1)[rows[3]]
            rows = [x[known] for x in rows]
        alike = same_stimulus(rows[5] if stimulus is not None else None, len(rows[0]), target.device)
        if self.same == "stimulus":
            alike = same_target(alike, rows[2])
        placed = rows[2] if self.stimulus_head is None else self.place(rows[2].unflatten(1, self.shape)).flatten(1)
        return _Pairs(rows[0], rows[1], rows[2], placed, rows[3], rows[4], alike)

    def _stage(self) -> str:
        """Which contrastive loss is in force."""
        if self.loss != "bi_mix_co_soft_clip":
            return self.loss
        return "bi_mix_co" if int(self.steps) < self.mix_steps else "soft_clip"

    def _scale(self, stage: str) -> Tensor | float:
        """1 / temperature."""
        if self.learn_temperature:
            return self.log_scale.exp().clamp(max=100.0)
        if self.loss == "bi_mix_co_soft_clip" and stage == "soft_clip":
            done = min(1.0, (int(self.steps) - self.mix_steps) / self.anneal_steps) if self.anneal_steps else 0.0
            first, last = self.soft_temperature
            return 1 / (last + (first - last) * 0.5 * (1 + math.cos(math.pi * done)))
        return 1 / self.temperature

    def _contrastive(self, stage: str, logits: Tensor, pairs: _Pairs) -> Tensor:
        scale = self._scale(stage)
        if stage == "siglip":
            return sigmoid_pairs(scale * logits + self.pair_bias, pairs.same)
        if stage == "soft_clip":
            # the labels' scores are of targets of length one even where the prediction's length is free
            own = scores(pairs.target, pairs.target, normalise="none" if self.normalise == "none" else "both")
            label_scale = scale.detach() if isinstance(scale, Tensor) else scale
            return soft_clip(scale * logits, label_scale * own, both=self.both_directions)
        if stage == "bi_mix_co":
            return bi_mix_co(scale * logits, pairs.partner, pairs.share, pairs.same, both=self.both_directions)
        return info_nce(scale * logits, pairs.same, both=self.both_directions)

    def _transport(self, pairs: _Pairs, generator: torch.Generator | None) -> Tensor:
        predicted, target = F.normalize(pairs.contrast, dim=-1), F.normalize(pairs.placed, dim=-1)
        if self.transport == "sliced":
            return sliced_wasserstein(predicted, target, generator=generator)
        return sinkhorn_divergence(predicted, target)
