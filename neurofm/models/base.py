"""What every model returns and offers."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

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
