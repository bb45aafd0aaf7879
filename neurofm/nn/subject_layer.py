"""One linear map per subject, from that subject's channels to a space that all subjects share, or back.

Shape legend: B batch, C channel, T time, D shared dimension, U subject.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.schema.errors import ConfigError


class SubjectLayer(nn.Module):
    """Weight table [U + 1, C, D] and a bias; row 0 is for a subject that is not known.

    Parameters
    ----------
    n_subjects : int
        U.
    n_channels : int
        Largest number of channels of any subject; channels are counted in the order of the recording.
    dim : int
        D.
    inward : bool
        From channels to the shared space (bias [U + 1, D]), or back (bias [U + 1, C]).
    """

    def __init__(self, n_subjects: int, n_channels: int, dim: int, *, inward: bool = True) -> None:
        super().__init__()
        self.inward, self.n_channels = inward, n_channels
        self.weight = nn.Parameter(torch.empty(n_subjects + 1, n_channels, dim))
        self.bias = nn.Parameter(torch.zeros(n_subjects + 1, dim if inward else n_channels))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, subject: Tensor | None, channel_mask: Tensor) -> Tensor:
        """Map (B, C, T) to (B, D, T), or (B, D, T) to (B, C, T); channels that are not there give and get zero.

        Parameters
        ----------
        x : Tensor
        subject : Tensor, shape (B,), long, optional
            Row of the table; absent is row 0.
        channel_mask : Tensor, shape (B, C), bool

        Raises
        ------
        ConfigError
            When there are more channels or subjects than the table has.
        """
        C = channel_mask.shape[1]
        if bool(channel_mask[:, self.n_channels :].any()):
            raise ConfigError(
                f"a subject layer for {self.n_channels} channels was given {C}; choose channels, or train with n_channels={C}"
            )
        row = torch.zeros(len(x), dtype=torch.long, device=x.device) if subject is None else subject
        if len(row) and int(row.max()) >= len(self.weight):
            raise ConfigError(f"a subject layer of {len(self.weight) - 1} subjects was given subject {int(row.max())}")
        n = min(C, self.n_channels)
        weight = self.weight[row][:, :n]
        there = channel_mask[:, :n, None]
        if self.inward:
            signal = x[:, :n].masked_fill(~there, 0.0)
            return torch.einsum("bct,bcd->bdt", signal, weight) + self.bias[row][..., None]
        out = torch.einsum("bdt,bcd->bct", x, weight) + self.bias[row][:, :n, None]
        return nn.functional.pad(out.masked_fill(~there, 0.0), (0, 0, 0, C - n))
