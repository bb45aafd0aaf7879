"""What every model returns and offers."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from neurofm.schema.batch import NeuralBatch


class Encoded(NamedTuple):
    """Tokens of a batch.

    Attributes
    ----------
    tokens : Tensor, shape (B, N, D)
        One vector per token, segment-major with the channel fastest where tokens have channels.
    mask : Tensor, shape (B, N), bool
        True where the token stands for data.
    channel : Tensor, shape (B, N), long
        Index of the token's channel in the batch, −1 where it has none.
    time_s : Tensor, shape (B, N), float
        Centre of the token's span from the window's start.
    """

    tokens: Tensor
    mask: Tensor
    channel: Tensor
    time_s: Tensor


class Codes(NamedTuple):
    """Discrete tokens of a batch, as a tokenizer with codebooks writes them.

    Attributes
    ----------
    code : Tensor, shape (B, N, K), long
        One code per token and codebook; codebooks of several branches come branch by branch, level by level.
    mask : Tensor, shape (B, N), bool
        True where the token stands for data.
    channel : Tensor, shape (B, N), long
        Index of the token's channel in the batch, −1 where it has none.
    time_s : Tensor, shape (B, N), float
        Centre of the token's span from the window's start.
    """

    code: Tensor
    mask: Tensor
    channel: Tensor
    time_s: Tensor


@runtime_checkable
class Model(Protocol):
    """A backbone: batch → tokens, tokens → one vector, and what a new subject owns."""

    dim: int

    def __call__(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch."""
        ...

    def pool(self, encoded: Encoded) -> Tensor:
        """Return one vector per window, shape (B, dim)."""
        ...

    def subject_parameters(self) -> list[str]:
        """Names of the parameters that a new subject gets afresh; empty when there are none."""
        ...


@runtime_checkable
class CodebookModel(Model, Protocol):
    """A model that is also a tokenizer: signal → codes → signal."""

    rate_hz: float
    patch_samples: int
    n_codes: tuple[int, ...]
    """Entries of each of the K codebooks."""

    def codes(self, batch: NeuralBatch) -> Codes:
        """Return the codes of a batch; without gradient, and without touching the codebooks' statistics."""
        ...

    def decode(self, codes: Codes, batch: NeuralBatch) -> Tensor:
        """Return the signal that codes stand for, shape (B, C, T), in the units of `normalised`."""
        ...

    def normalised(self, batch: NeuralBatch) -> Tensor:
        """Return the signal that `decode` approximates, shape (B, C, T): the batch's after the model's own scaling."""
        ...

    def losses(
        self, batch: NeuralBatch, generator: torch.Generator | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the weighted terms to be summed, and metrics (usage and perplexity of each codebook, error by level)."""
        ...
