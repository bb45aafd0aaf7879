"""Classification of a window.

Shape legend: B batch, T segment, C channel, D width, R rank, K class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.grid import grid, patch_samples_of
from neurofm.objectives.mixing import drop_channels, generator_of, mix_pairs
from neurofm.objectives.scores import balanced_accuracy
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

READOUTS = ("pool", "flatten", "mlp")


class Supervised(Objective):
    """Cross-entropy of a linear readout of the tokens.

    Parameters
    ----------
    model : Backbone
        Any model for ``pool``; one with channel-wise tokens for ``flatten``.
    facts : Facts
        `classes` in the order of the logits; `max_channels` and the window fix the size of ``flatten``.
    readout : str
        ``pool``: one vector per window, then linear. ``flatten``: each token is mapped to `rank` numbers by a
        shared map, and all of them, segment by channel, go to a linear layer: where and when is kept. ``mlp``: all
        numbers of all tokens, in their order, through a hidden layer (Du-IN; "all patch representations" of CBraMod).
    rank : int
        Numbers kept per token by ``flatten``.
    hidden_dim : int
        Width of the hidden layer of ``mlp``.
    norm : bool
        A layer norm on the readout's input (LaBraM: mean token, norm, linear).
    dropout : float
        On the readout's input.
    label_smoothing : float
        Share of the target spread evenly over the classes.
    class_weights : sequence of float or "balanced", optional
        One weight per class; for classes of unequal size. "balanced": inverse to the counts in `facts`, mean 1 over
        windows (a class that does not occur counts as occurring once).
    mixup_alpha : float
        In training, windows are mixed in pairs by weights from Beta(alpha, alpha), and so are their losses
        (arXiv:1710.09412); 0 = off. The logged accuracy is then against the label of the larger weight.
    channel_dropout : float
        In training, probability of setting a channel of a window to zero.

    Notes
    -----
    The last layer starts from zero: all classes are equally likely at first, whatever the size of the tokens.
    """

    needs = ("signal", "channel_mask", "time_mask", "target")
    is_classifier = True
    idle = ("mask_token",)  # nothing is hidden, so a model's token for it is not trained

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        readout: str = "pool",
        rank: int = 4,
        hidden_dim: int = 128,
        norm: bool = False,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | str | None = None,
        mixup_alpha: float = 0.0,
        channel_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        n_classes = len(facts.classes)
        if n_classes < 2:
            raise ConfigError(
                f"objective 'supervised' needs two classes, the data have {n_classes}; choose a task with labels"
            )
        if readout not in READOUTS:
            raise ConfigError(f"supervised: unknown readout '{readout}'; {nearest(readout, READOUTS)}")
        if isinstance(class_weights, str):
            class_weights = _balanced(class_weights, facts)
        if class_weights is not None and len(class_weights) != n_classes:
            raise ConfigError(
                f"objective 'supervised': class_weights has {len(class_weights)} numbers for {n_classes} classes"
            )
        if hidden_dim < 1:
            raise ConfigError(f"objective 'supervised': hidden_dim={hidden_dim} must be at least 1")
        if rank < 1 or not 0 <= label_smoothing < 1:
            raise ConfigError(
                f"objective 'supervised': rank={rank} must be at least 1 and label_smoothing={label_smoothing} below 1"
            )
        if mixup_alpha < 0 or not 0 <= channel_dropout < 1:
            raise ConfigError(
                f"objective 'supervised': mixup_alpha={mixup_alpha} must be 0 or more and "
                f"channel_dropout={channel_dropout} from 0 to below 1"
            )
        self.readout, self.n_classes, self.label_smoothing = readout, n_classes, label_smoothing
        self.mixup_alpha, self.channel_dropout = mixup_alpha, channel_dropout
        self.dropout = nn.Dropout(dropout)
        weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights, persistent=False)
        n_features = model.dim
        self.reduce: nn.Module = nn.Identity()
        if readout == "flatten":
            self.max_channels = facts.max_channels
            self.n_segments = facts.window_samples // patch_samples_of(model)
            self.reduce = nn.Linear(model.dim, rank)
            n_features = self.n_segments * self.max_channels * rank
        elif readout == "mlp":
            self.max_channels = facts.max_channels
            self.n_segments = facts.window_samples // patch_samples_of(model)
            # how many numbers that are depends on whether tokens have channels
            width = 1 if model.fuses_channels else self.max_channels
            self.hidden = nn.Linear(self.n_segments * width * model.dim, hidden_dim)
            n_features = hidden_dim
        self.norm: nn.Module = (
            nn.LayerNorm(n_features if readout != "mlp" else self.hidden.in_features) if norm else nn.Identity()
        )
        self.head = nn.Linear(n_features, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the cross-entropy over the windows that have a label."""
        assert batch.target is not None
        labelled = batch.target >= 0
        if batch.target_mask is not None:
            labelled = labelled & batch.target_mask
        target = batch.target.long()
        if bool(labelled.any()) and int(target[labelled].max()) >= self.n_classes:
            raise ConfigError(
                f"batch.target holds class {int(target[labelled].max())}, but there are only {self.n_classes} classes"
            )
        batch, partner, share = self._augmented(batch, labelled, generator)
        logits = self.predict(model, batch)[labelled]
        share, other, target = share[labelled], target[partner][labelled], target[labelled]
        # weighted mean, as torch defines it; clamped so that a batch without labels costs nothing
        own_loss, own_weight = self._cross_entropy(logits, target)
        other_loss, other_weight = self._cross_entropy(logits, other)
        summed = (share * own_loss + (1 - share) * other_loss).sum()
        total = summed / (share * own_weight + (1 - share) * other_weight).sum().clamp(min=1e-12)
        predicted = logits.argmax(dim=1)
        metrics = {}
        if len(target):
            metrics = {
                "accuracy": (predicted == target).float().mean(),
                "balanced_accuracy": balanced_accuracy(predicted, target, self.n_classes),
            }
        return Loss(total, {"cross_entropy": total.detach()}, metrics)

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy of each window and its weight, both (B,)."""
        loss = F.cross_entropy(
            logits, target, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="none"
        )
        return loss, torch.ones_like(loss) if self.class_weights is None else self.class_weights[target]

    def _augmented(
        self, batch: NeuralBatch, labelled: Tensor, generator: torch.Generator | None
    ) -> tuple[NeuralBatch, Tensor, Tensor]:
        """Mixed and thinned windows in training, with partner and own share of each; else the windows as they are."""
        partner = torch.arange(len(batch), device=batch.signal.device)
        share = torch.ones(len(batch), device=batch.signal.device, dtype=batch.signal.dtype)
        if not self.training or not (self.mixup_alpha or self.channel_dropout):
            return batch, partner, share
        rng = generator_of(generator)
        if self.mixup_alpha:
            batch, partner, share = mix_pairs(batch, labelled.long() - 1, rng, alpha=self.mixup_alpha)
        if self.channel_dropout:
            batch = drop_channels(batch, self.channel_dropout, rng)
        return batch, partner, share

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return logits, shape (B, K)."""
        encoded = model(batch)
        if self.readout == "pool":
            return self.head(self.dropout(self.norm(model.pool(encoded))))
        if self.readout == "flatten":
            return self.head(self.dropout(self.norm(self._flat(encoded, batch))))
        if bool((encoded.channel[0, 0] < 0).item()):
            every = encoded.tokens.flatten(1)
            if every.shape[1] != self.hidden.in_features:
                self._refuse(encoded.tokens.shape[1], 1)
        else:
            every = self._flat(encoded, batch)
        return self.head(self.dropout(self.hidden(self.norm(every)).relu()))

    @property
    def linear_head(self) -> nn.Linear | None:
        """The last layer, where it reads the pooled vector as it is."""
        return self.head if self.readout == "pool" and isinstance(self.norm, nn.Identity) else None

    def _flat(self, encoded: Encoded, batch: NeuralBatch) -> Tensor:
        """Tokens at their place in a fixed grid, (B, T·C·R); absent channels are zeros."""
        tokens, mask = grid(encoded, batch.signal.shape[1])
        if not bool(batch.channel_mask[:, self.max_channels :].any()):
            tokens, mask = tokens[:, :, : self.max_channels], mask[:, :, : self.max_channels]
        n_segments, n_channels = tokens.shape[1:3]
        if n_segments != self.n_segments or n_channels > self.max_channels:
            self._refuse(n_segments, n_channels)
        reduced = self.reduce(tokens) * mask[..., None]
        return F.pad(reduced, (0, 0, 0, self.max_channels - n_channels)).flatten(1)

    def _refuse(self, n_segments: int, n_channels: int) -> None:
        raise ConfigError(
            f"readout '{self.readout}' was built for {self.n_segments} segments and up to {self.max_channels} channels, "
            f"got {n_segments} and {n_channels}; use the window of training, or readout=pool"
        )


def _balanced(word: str, facts: Facts) -> list[float]:
    """Weights n / (K · count), as scikit-learn's "balanced"."""
    if word != "balanced":
        raise ConfigError(f"objective 'supervised': class_weights='{word}'; {nearest(word, ['balanced'])}")
    if len(facts.class_counts) != len(facts.classes):
        raise ConfigError(
            "objective 'supervised': class_weights=balanced needs counts, which only windows=labelled has; give numbers"
        )
    total = sum(facts.class_counts)
    return [total / (len(facts.classes) * max(n, 1)) for n in facts.class_counts]
