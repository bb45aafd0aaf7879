"""Stage 2 of masked codebook modelling: predict the codes of hidden patches (LaBraM, arXiv:2405.18765, section 2.4).

Shape legend: B batch, T segment, C channel, c columns of the grid of tokens (C, or 1 where tokens have no channel), N = T·c,
K codebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, CodebookModel, Codes
from neurofm.nn.code_heads import CodeHeads
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.grid import require_hiding
from neurofm.objectives.keyed import keyed_uniform, sample_keys
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

POLICIES = ("tokens", "segments", "channels")


class MaskedCode(Objective):
    """Cross-entropy of the codes of hidden tokens, one classifier per codebook.

    Parameters
    ----------
    model : Backbone
        Needs `encode(batch, mask_tokens)` and one token per code.
    facts : Facts
        Rate and channel names of the data.
    tokenizer : str, optional
        Run or model folder of the tokenizer. Training opens it, fills in the next two and attaches it; nothing is read here.
    n_codes : sequence of int
        Entries of each codebook of the tokenizer.
    tokenizer_channels : sequence of str
        Channel names that the tokenizer knows, in the order of its ids; where they are those of the data, leave it out.
    mask_ratio : float or two floats
        Share of the tokens hidden, or its range, drawn per window.
    span : int
        Neighbouring patches of a channel that are hidden together.
    policy : str
        What is drawn: ``tokens`` one by one, ``segments`` with all channels, ``channels`` for the whole window.
    symmetric : bool
        Hide the complement too, in the same step, and take the mean of both; every token then counts.

    Notes
    -----
    The frozen tokenizer is no part of the objective and is not saved with it; training attaches it with `attach`. So a
    trained model loads without its tokenizer, and only computing the loss needs it.
    """

    needs = ("signal", "channel_mask", "time_mask")
    takes_tokenizer = True

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        tokenizer: str | None = None,
        n_codes: Sequence[int] | None = None,
        tokenizer_channels: Sequence[str] | None = None,
        mask_ratio: float | Sequence[float] = 0.5,
        span: int = 1,
        policy: str = "tokens",
        symmetric: bool = True,
    ) -> None:
        super().__init__()
        if not n_codes or min(n_codes) < 2:
            raise ConfigError(
                "objective 'masked_code' needs the codes of a trained tokenizer: give objective.tokenizer=RUN, the run or "
                "model folder of `neurofm train objective=tokenizer`"
            )
        ratio = (mask_ratio, mask_ratio) if isinstance(mask_ratio, (int, float)) else tuple(mask_ratio)
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1] < 1:
            raise ConfigError(
                f"objective 'masked_code': mask_ratio={mask_ratio} must be a share, or low ≤ high, in (0, 1)"
            )
        if policy not in POLICIES:
            raise ConfigError(f"objective 'masked_code': unknown policy '{policy}'; {nearest(policy, POLICIES)}")
        if span < 1:
            raise ConfigError(f"objective 'masked_code': span={span} must be at least 1")
        require_hiding("masked_code", model)
        self.low, self.high = float(ratio[0]), float(ratio[1])
        self.span, self.policy, self.symmetric = span, policy, symmetric
        self.n_branches = model.n_branches
        self.head = CodeHeads(model.dim, sizes=[int(n) for n in n_codes], n_branches=self.n_branches)
        rows = None
        if tokenizer_channels is not None:
            known = {name: i for i, name in enumerate(tokenizer_channels, 1)}
            rows = torch.tensor([0, *(known.get(name, 0) for name in facts.channels)])
        self.rows: Tensor | None
        self.register_buffer("rows", rows, persistent=False)
        # in a tuple, so that it is neither saved nor trained with the objective
        self._tokenizer: tuple[CodebookModel, ...] = ()

    def attach(self, tokenizer: nn.Module) -> None:
        """Take the frozen tokenizer whose codes are the targets.

        Raises
        ------
        ConfigError
            When it has no codebooks, or other ones than `n_codes` says.
        """
        if not isinstance(tokenizer, CodebookModel):
            raise ConfigError(f"objective 'masked_code': the tokenizer {type(tokenizer).__name__} has no codebooks")
        if tuple(tokenizer.n_codes) != self.head.sizes:
            raise ConfigError(
                f"objective 'masked_code': n_codes={list(self.head.sizes)}, but the tokenizer has "
                f"{list(tokenizer.n_codes)}; leave n_codes out"
            )
        self._tokenizer = (tokenizer.eval().requires_grad_(False),)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the mean cross-entropy over codebooks and hidden tokens."""
        codes = self.codes(batch)
        valid = self.on_grid(codes, batch)
        hidden = self.draw(valid, batch, generator)
        rounds = [hidden, valid & ~hidden] if self.symmetric else [hidden]
        losses, hits = zip(*(self.score(model, batch, codes, mask) for mask in rounds), strict=True)
        loss, hit = torch.stack(losses).mean(0), torch.stack(hits).mean(0)
        total = loss.mean()
        metrics = {"accuracy": hit.mean(), "hidden": hidden.sum() / valid.sum().clamp(min=1)}
        per_level = hit.unflatten(0, (self.n_branches, -1)).mean(0)
        if len(per_level) > 1:
            metrics |= {f"accuracy_{i}": value for i, value in enumerate(per_level, 1)}
        return Loss(total, {"cross_entropy": total.detach()}, metrics)

    def score(self, model: Backbone, batch: NeuralBatch, codes: Codes, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return cross-entropy and accuracy of each codebook over the `hidden` tokens (B, T, c)."""
        n_channels, n_segments = batch.signal.shape[1], hidden.shape[1]
        # the samples are removed too, so no model can look behind its own mask
        samples = hidden.repeat_interleave(batch.signal.shape[-1] // n_segments, 1).transpose(1, 2)
        seen = batch.with_signal(batch.signal.masked_fill(samples.expand(-1, n_channels, -1), 0.0))
        encoded = model.encode(seen, mask_tokens=hidden)
        if encoded.tokens.shape[1] != codes.code.shape[1]:
            raise ConfigError(
                f"the model gives {encoded.tokens.shape[1]} tokens and the tokenizer {codes.code.shape[1]} for the same "
                "window; choose a model and a tokenizer with the same tokens"
            )
        at = hidden.flatten(1)
        return self.head(encoded.tokens[at], codes.code[at])

    @torch.no_grad()
    def codes(self, batch: NeuralBatch) -> Codes:
        """Return the targets, as the frozen tokenizer gives them for the whole signal."""
        if not self._tokenizer:
            raise ConfigError(
                "objective 'masked_code' was loaded without its tokenizer, which only training needs; fine-tune the model "
                "on a task, or train with objective.tokenizer=RUN"
            )
        tokenizer = self._tokenizer[0].to(batch.signal.device)
        if self.rows is not None and batch.channel_ids is not None:
            # the tokenizer counts channels in its own vocabulary
            ids = batch.channel_ids.masked_fill(batch.channel_ids >= len(self.rows), 0)
            batch = replace(batch, channel_ids=self.rows[ids])
        return tokenizer.codes(batch)

    def on_grid(self, codes: Codes, batch: NeuralBatch) -> Tensor:
        """Return which tokens stand for data as a grid (B, T, c)."""
        n_channels = batch.signal.shape[1]
        columns = n_channels if bool((codes.channel >= 0).any()) else 1
        if codes.mask.shape[1] % columns:
            raise ConfigError(
                f"the tokenizer gives {codes.mask.shape[1]} codes for {n_channels} channels, which is no grid; choose a "
                "tokenizer with one code per segment and channel, or one per segment"
            )
        return codes.mask.unflatten(1, (-1, columns))

    def draw(self, valid: Tensor, batch: NeuralBatch, generator: torch.Generator | None) -> Tensor:
        """Choose the tokens to hide among the `valid` ones (B, T, c); a window's choice does not depend on its neighbours.

        Where two or more units (tokens, segments, channels) can be drawn, at least one is hidden and one is not.
        """
        _, T, columns = valid.shape
        u = keyed_uniform(sample_keys(batch, generator), 2 + T + columns * (T + 1))
        ratio = self.low + (self.high - self.low) * u[:, :1]
        # spans lie on a grid that starts anywhere
        shift = (u[:, 1] * self.span).long()
        block = (torch.arange(T, device=valid.device) + shift[:, None]) // self.span
        # one number for the channel and one per token, channel by channel: padding, which comes last, moves none
        own = u[:, 2 + T :].unflatten(1, (columns, T + 1))
        if self.policy == "channels":
            hidden = _lowest(own[:, :, 0], valid.any(1), ratio)[:, None]
        elif self.policy == "segments":
            hidden = _lowest(u[:, 2 : 2 + T].gather(1, block), valid.any(2), ratio)[..., None]
        else:
            lot = own[:, :, 1:].gather(2, block[:, None].expand(-1, columns, -1))
            picked = _lowest(lot.flatten(1), valid.transpose(1, 2).flatten(1), ratio)
            hidden = picked.unflatten(1, (columns, T)).transpose(1, 2)
        return hidden & valid


def _lowest(lot: Tensor, there: Tensor, ratio: Tensor) -> Tensor:
    """Choose the share `ratio` (B, 1) of the entries that are `there` (B, n) whose `lot` (B, n) is lowest."""
    n = there.sum(1, keepdim=True)
    n_hidden = torch.minimum((ratio * n).round().long().clamp(min=1), n - 1)
    # equal lots, those of one span, keep the order of their places
    rank = lot.masked_fill(~there, 2.0).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return (rank < n_hidden) & there
