"""Predict the next segment of every channel: by contrast among tokens, or by regression of its features.

Contrastive form: "Multi-variate parallel transformer" (arXiv:2506.20354), pretraining objective.
Shape legend: B batch, T segment, C channel, D width, F features of a patch, S time samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, offers
from neurofm.nn.patching import cut_patches, join_patches
from neurofm.objectives.base import Loss
from neurofm.objectives.grid import grid, patch_samples_of, require_features
from neurofm.objectives.info_nce import draw_negatives, info_nce
from neurofm.objectives.over_ranks import gather_uneven, in_turn, world
from neurofm.objectives.ridge_skip import RidgeSkip
from neurofm.objectives.rollout import roll_out
from neurofm.objectives.scores import masked_mse, r_squared
from neurofm.objectives.skip import SKIPS, SkipObjective
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts


class NextState(SkipObjective):
    """From the tokens up to segment t, predict segment t + 1 of the same channel.

    Parameters
    ----------
    model : Backbone
        Needs `embed_tokens(batch)` → (B, T, C, D), `encode(batch, tokens=…)` and a tokenizer; must be causal.
    facts : Facts
        Names of the channels, for `skip`.
    kind : str
        ``contrastive``: InfoNCE of the model's own next token among sampled others (as published).
        ``regression``: squared error of the next segment's patch features.
    n_negatives : int
        Negatives per prediction (published: 30).
    temperature : float
        Divides the cosine (published: 0.1).
    sampling : str
        ``valid``: negatives from all valid tokens of the batch but the positive. ``published``: only the first
        (B − 1)/B of them, as the released code draws. The batch is that of all processes that train together, so
        their number does not change the task.
    detach_targets : bool
        Stop the gradient at the positives. Published: it flows, False.
    target : str
        For ``regression``: ``features`` (what the tokenizer computes of a patch) or ``samples``.
    residual : bool
        For ``regression``: predict the change from the present segment instead of the next segment itself.
    skip : mapping, optional
        ``{"name": "ridge", "lags": [0, -1], …}``: a linear autoregression added to the network's estimate, which then
        starts from zero; with kind=regression, target=samples and patches of one sample.
    """

    needs: tuple[str, ...] = ("signal", "channel_mask", "time_mask")
    idle = ("mask_token",)  # nothing is hidden, so a model's token for it is not trained

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        kind: str = "contrastive",
        n_negatives: int = 30,
        temperature: float = 0.1,
        sampling: str = "valid",
        detach_targets: bool = False,
        target: str = "features",
        residual: bool = False,
        skip: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _one_of("kind", kind, ("contrastive", "regression"))
        _one_of("sampling", sampling, ("valid", "published"))
        _one_of("target", target, ("features", "samples"))
        if n_negatives < 1 or temperature <= 0:
            raise ConfigError(
                f"objective 'next_state': n_negatives={n_negatives} and temperature={temperature} must be positive"
            )
        if not model.causal:
            raise ConfigError(
                "objective 'next_state' needs a causal model, or it would copy the answer: set causal=true"
            )
        if kind == "contrastive" and not offers(model, Backbone.embed_tokens):
            raise ConfigError(
                f"objective 'next_state': {type(model).__name__} gives no tokens to contrast (embed_tokens); choose one that does, "
                "e.g. mvpformer_tiny, or kind=regression"
            )
        self.contrasts = kind == "contrastive"
        self.kind, self.n_negatives, self.temperature = kind, n_negatives, temperature
        self.sampling, self.detach_targets = sampling, detach_targets
        self.target, self.residual = target, residual
        self.patch_samples = patch_samples_of(model)
        width = model.dim
        if kind == "regression":
            width = self.patch_samples
            if target == "features":
                require_features("next_state", model, "set target=samples")
                width = model.n_features
        self.head = nn.Linear(model.dim, width, bias=kind == "regression")
        self.skip: RidgeSkip | None = None
        if skip is not None:
            self.skip = self._build_skip(facts, dict(skip))

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the loss of one batch."""
        # the contrast's targets are the very tokens that are encoded
        known = {"tokens": model.embed_tokens(batch)} if self.kind == "contrastive" else {}
        tokens, mask = grid(model.encode(batch, **known), batch.signal.shape[1])
        if tokens.shape[1] < 2:
            raise ConfigError(
                f"objective 'next_state' needs at least two segments per window, got {tokens.shape[1]}: "
                "make window_s longer or patch_s shorter"
            )
        scored = mask[:, 1:] & mask[:, :-1]
        if known:
            return self._contrast(self.head(tokens[:, :-1]), known["tokens"], mask, scored, generator)
        return self._regress(self._estimate(tokens, model, batch)[:, :-1], model, batch, scored)

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return each segment as predicted from those before it, shape (B, C, S); the first segment is NaN.

        Raises
        ------
        ConfigError
            Unless the objective regresses samples (or features that are the samples).
        """
        self._check_signal()
        tokens, _ = grid(model(batch), batch.signal.shape[1])
        estimate = self._estimate(tokens, model, batch)
        estimate = torch.cat([torch.full_like(estimate[:, :1], torch.nan), estimate[:, :-1]], dim=1)
        return join_patches(estimate, batch.signal.shape[-1])

    def rollout(self, model: Backbone, batch: NeuralBatch, n_steps: int) -> Tensor:
        """Return the `n_steps` segments after the batch, each from those before it, the estimated ones included.

        Parameters
        ----------
        model : Backbone
            One that can be fed segment by segment (`step`), in evaluation mode.
        batch : NeuralBatch
            What is known.
        n_steps : int
            Segments to add.

        Returns
        -------
        Tensor, shape (B, C, n_steps · P)
            See `objectives.rollout`.

        Raises
        ------
        ConfigError
            Unless the objective regresses samples (or features that are the samples).
        """
        self._check_signal()

        def next_patch(newest: Tensor, known: NeuralBatch) -> Tensor:
            return self._estimate(newest.unsqueeze(1), model, known)[:, 0]

        return roll_out(model, batch, n_steps, patch_samples=self.patch_samples, next_patch=next_patch)

    def _check_signal(self) -> None:
        if self.kind == "contrastive" or self.head.out_features != self.patch_samples:
            raise ConfigError(
                "objective 'next_state' estimates a signal only with kind=regression target=samples; train with those"
            )

    def _contrast(
        self, predicted: Tensor, targets: Tensor, mask: Tensor, scored: Tensor, generator: torch.Generator | None
    ) -> Loss:
        bank, n_windows = targets[mask].detach(), len(mask)
        # the place of each anchor's positive among the valid tokens
        place = (mask.flatten().cumsum(0).reshape(mask.shape) - 1)[:, 1:][scored]
        mine: Tensor | slice = slice(None)
        n_ranks = world()[1] if self.training else 1
        if n_ranks > 1:
            bank, place, mine, n_windows = self._of_all_ranks(bank, mask, scored)
        n_valid = len(bank)
        if n_valid < 3 or not len(place):
            raise ConfigError(
                f"objective 'next_state' found {n_valid} valid tokens in a batch and nothing to contrast: "
                "use a larger batch or longer windows"
            )
        # the published range leaves out the last sample of the batch
        n_candidates = n_valid - 1 if self.sampling == "valid" else n_valid - n_valid // n_windows
        # all ranks draw for all anchors, as one process would, and keep their own
        negatives = draw_negatives(place, n_valid, self.n_negatives, n_candidates=n_candidates, generator=generator)[
            mine
        ]
        positive = targets[:, 1:][scored]
        loss, hit = info_nce(
            predicted[scored],
            positive.detach() if self.detach_targets else positive,
            bank,
            negatives,
            temperature=self.temperature,
        )
        # data-parallel training takes the mean over ranks, which may hold different numbers of anchors
        total = loss.sum() * n_ranks / len(place)
        return Loss(total, {"info_nce": total.detach()}, {"top1": hit.float().sum() * n_ranks / len(place)})

    @staticmethod
    def _of_all_ranks(bank: Tensor, mask: Tensor, scored: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """Valid tokens of the global batch, the place of every anchor's positive in it, which are ours, and B of all."""
        n_valid, n_anchors = mask.flatten(1).sum(1), scored.flatten(1).sum(1)
        own = mask.flatten(1).cumsum(1).reshape(mask.shape)[:, 1:][scored] - 1  # counted within the window
        valid, anchors = gather_uneven(n_valid), gather_uneven(n_anchors)
        tokens, _ = in_turn(gather_uneven(bank), valid)
        within, rank = in_turn(gather_uneven(own), anchors)
        each_valid, _ = in_turn(valid, [torch.ones_like(n) for n in valid])
        each_anchors, _ = in_turn(anchors, [torch.ones_like(n) for n in anchors])
        before = (each_valid.cumsum(0) - each_valid).repeat_interleave(each_anchors)
        return tokens, within + before, rank == world()[0], len(each_valid)

    def _regress(self, estimate: Tensor, model: Backbone, batch: NeuralBatch, scored: Tensor) -> Loss:
        features = self._features(model, batch)
        truth, present = features[:, 1:], features[:, :-1]
        where = scored[..., None].expand_as(truth)
        total = masked_mse(estimate, truth, where)
        return Loss(
            total,
            {"mse": total.detach()},
            {"r2": r_squared(estimate, truth, where), "r2_persistence": r_squared(present, truth, where)},
        )

    def _estimate(self, tokens: Tensor, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return what each segment says of the next, (B, T, C, F); `tokens` are of the last T segments of the batch."""
        change = self.head(tokens)
        if self.skip is not None:
            linear = cut_patches(self.skip(batch.signal, batch.channel_mask, batch), self.patch_samples)
            return change + linear[:, -tokens.shape[1] :]
        return self._features(model, batch)[:, -tokens.shape[1] :] + change if self.residual else change

    def _build_skip(self, facts: Facts, choices: dict[str, Any]) -> RidgeSkip:
        if self.kind != "regression" or self.target != "samples" or self.patch_samples != 1:
            raise ConfigError(
                "objective 'next_state': skip needs kind=regression, target=samples and a model with patch_samples=1"
            )
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.needs = (*self.needs, "channel_ids")
        return SKIPS.build(choices.pop("name", ""), facts, horizon=1, exclude_self=False, **choices)

    def _features(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        if self.target == "samples":
            return cut_patches(
                batch.signal, self.patch_samples, drop_rest=True
            )  # with a gradient where the signal has one
        with torch.no_grad():
            return model.patch_features(batch.signal)


def _one_of(choice: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"objective 'next_state': {choice}='{value}' is unknown; {nearest(value, known)}")
