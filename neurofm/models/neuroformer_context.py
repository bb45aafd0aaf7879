"""What Neuroformer's spikes are seen against beside past spikes: frames of a stimulus, and behaviour.

Shape legend: B batch, T sample of a stream, K token, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurofm.schema.batch import NeuralBatch, StreamValues
from neurofm.schema.errors import ConfigError, DataError, nearest


class TimeMap(nn.Module):
    """Seconds → vector: a learned map 1 → hidden → D of time divided by `unit_s`."""

    def __init__(self, dim: int, *, unit_s: float, hidden: int = 128) -> None:
        super().__init__()
        self.unit_s = unit_s
        first = nn.Linear(1, hidden)
        self.maps = nn.Sequential(first, nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, time_s: Tensor) -> Tensor:
        """Map times of any shape to vectors."""
        return self.maps((time_s / self.unit_s).to(next(self.parameters()).dtype)[..., None])


def stream_of(batch: NeuralBatch, name: str, n_columns: int) -> StreamValues:
    """Return a stream of the batch after checking that it is there and as wide as expected."""
    if name not in batch.streams:
        raise DataError(
            f"neuroformer: stream '{name}' is not in the batch: {nearest(name, batch.streams)} (data.streams)"
        )
    found = batch.streams[name]
    if found.values.shape[-1] != n_columns:
        raise DataError(f"neuroformer: stream '{name}' has {found.values.shape[-1]} columns, expected {n_columns}")
    return found


class Frames(nn.Module):
    """Images over time → tokens by a convolution whose stride is its kernel; or other columns, one token per sample.

    Parameters
    ----------
    stream : str
        Name in `batch.streams`; the columns of an image are its rows, one after another.
    columns : int
        Width of the stream.
    size : pair of int, optional
        Height and width of an image; None: the columns are mapped linearly.
    kernel, stride : three ints
        Of the convolution over (time, height, width), for images (published: 3, 5, 5).
    dim : int
        D.
    unit_s : float
        Scale of times.

    Notes
    -----
    The released code computes a position code of the frames and leaves it out; here places and times are added.
    """

    def __init__(
        self, dim: int, *, unit_s: float, stream: str, columns: int, size: Sequence[int] | None = None,
        kernel: Sequence[int] = (3, 5, 5), stride: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stream, self.columns = stream, columns
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.time = TimeMap(dim, unit_s=unit_s)
        self.norm = nn.LayerNorm(dim)
        if self.size is None:
            self.map: nn.Module = nn.Linear(columns, dim)
            return
        k = (int(kernel[0]), int(kernel[1]), int(kernel[2]))
        s = k if stride is None else (int(stride[0]), int(stride[1]), int(stride[2]))
        if math.prod(self.size) != columns or any(n < m for n, m in zip(self.size, k[1:], strict=True)):
            raise ConfigError(
                f"neuroformer: stimulus of size={self.size} and kernel={k} does not fit {columns} columns"
            )
        self.kernel, self.stride = k, s
        self.map = nn.Conv3d(1, dim, k, stride=s)
        n_places = math.prod((n - m) // step + 1 for n, m, step in zip(self.size, k[1:], s[1:], strict=True))
        self.place_table = nn.Parameter(torch.zeros(n_places, dim))

    def forward(self, batch: NeuralBatch) -> tuple[Tensor, Tensor]:
        """Return tokens (B, K, D) and mask (B, K)."""
        values, time_s, mask = stream_of(batch, self.stream, self.columns)
        values = torch.where(mask[..., None], values, 0).to(self.norm.weight.dtype)
        if self.size is None:
            return torch.relu(self.norm(self.map(values))) + self.time(time_s), mask
        (length, *_), (step, *_) = self.kernel, self.stride
        if values.shape[1] < length:
            raise DataError(
                f"neuroformer: the window holds {values.shape[1]} frames of '{self.stream}', the kernel needs {length}; "
                "lengthen window_s"
            )
        x = self.map(values.unflatten(-1, self.size)[:, None]).flatten(3).permute(0, 2, 3, 1)
        # a token is there when any of its frames is
        there = mask.unfold(1, length, step).any(-1)
        centre_s = time_s.unfold(1, length, step).mean(-1)
        x = torch.relu(self.norm(x)) + self.place_table + self.time(centre_s)[:, :, None]
        return x.flatten(1, 2), there.repeat_interleave(x.shape[2], dim=1)


class Trace(nn.Module):
    """One behaviour → a token per sample: each column 1 → 2 → D through a GELU, summed over columns, plus its time.

    The released code norms each scalar first, which leaves nothing of it (the norm of one number is 0); not here.
    """

    def __init__(self, dim: int, *, unit_s: float, stream: str, columns: int = 1) -> None:
        super().__init__()
        self.stream, self.columns = stream, columns
        self.maps = nn.Sequential(nn.Linear(columns, 2 * columns), nn.GELU(), nn.Linear(2 * columns, dim))
        self.time = TimeMap(dim, unit_s=unit_s)

    def forward(self, batch: NeuralBatch) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, D) and mask (B, T)."""
        values, time_s, mask = stream_of(batch, self.stream, self.columns)
        values = torch.where(mask[..., None], values, 0).to(next(self.parameters()).dtype)
        return self.maps(values) + self.time(time_s), mask
