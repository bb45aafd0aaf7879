"""Linear maps of which every subject has its own, in one table.

Row 0 belongs to whoever is not in the vocabulary: the new subject. It takes part in training only for the samples that
`subject_dropout` sends to it (an "average subject"); before a new subject's data are learned it is set to the mean of
the others.

Shape legend: B batch, U subjects + 1, I input, O output.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def rows_of(subject: Tensor | None, n_rows: int, batch: int, device: torch.device) -> Tensor:
    """Return each sample's row, (B,): its subject where that is known, else 0."""
    if subject is None:
        return torch.zeros(batch, dtype=torch.long, device=device)
    return torch.where((subject > 0) & (subject < n_rows), subject, 0)


def drop_subjects(rows: Tensor, probability: float) -> Tensor:
    """Send samples to row 0 with some probability."""
    if probability == 0:
        return rows
    return rows * (torch.rand(len(rows), device=rows.device) >= probability)


def groups(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each row that occurs and the samples it has."""
    for row in rows.unique().tolist():
        yield row, (rows == row).nonzero().flatten()


class SubjectLinear(nn.Module):
    """``x @ weight[row].T + bias[row]``, one product per subject in the batch.

    Parameters
    ----------
    n_subjects : int
        Subjects of training; the table has one row more.
    n_in, n_out : int
        I and O.
    bias : bool
        Whether each subject has an offset.
    std : float, optional
        Of the initial weights; default 1 / √I. 0 starts from zero.
    """

    def __init__(self, *, n_subjects: int, n_in: int, n_out: int, bias: bool = False, std: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_subjects + 1, n_out, n_in))
        self.bias = nn.Parameter(torch.zeros(n_subjects + 1, n_out)) if bias else None
        std = n_in**-0.5 if std is None else std
        if std:
            nn.init.normal_(self.weight, 0.0, std)
        else:
            nn.init.zeros_(self.weight)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """Map (B, …, I) to (B, …, O), sample b by row rows[b]."""
        present = list(groups(rows))
        if len(present) == 1:
            return self.one(x, present[0][0])
        order = torch.cat([samples for _, samples in present])
        mapped = torch.cat([self.one(x[samples], row) for row, samples in present])
        return mapped[order.argsort()]

    def one(self, x: Tensor, row: int) -> Tensor:
        """Map every sample by one row."""
        return nn.functional.linear(x, self.weight[row], None if self.bias is None else self.bias[row])


class SubjectScale(nn.Module):
    """Layer norm whose gain and offset each subject owns: (B, …, I) → the same."""

    def __init__(self, *, n_subjects: int, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(n_subjects + 1, dim))
        self.bias = nn.Parameter(torch.zeros(n_subjects + 1, dim))

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """Normalise, then scale sample b by row rows[b]."""
        shape = (len(rows), *[1] * (x.ndim - 2), -1)
        normal = nn.functional.layer_norm(x, x.shape[-1:])
        return normal * self.gain[rows].view(shape) + self.bias[rows].view(shape)


def tables_of(module: nn.Module) -> list[str]:
    """Names of all parameters below `module` of which each subject owns a row."""
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if isinstance(part, SubjectLinear | SubjectScale)
        for name, _ in part.named_parameters(recurse=False)
    ]


@torch.no_grad()
def start_from_mean(module: nn.Module) -> None:
    """Set row 0, the new subject's, to the mean of the others in every table below `module`.

    It needs inputs that mean the same in every subject (virtual sensors, parcels). On simulated data it is by far the
    best start for little calibration, and good before any.
    """
    parameters = dict(module.named_parameters())
    for name in tables_of(module):
        table = parameters[name]
        if len(table) > 1:
            table[0] = table[1:].mean(0)
