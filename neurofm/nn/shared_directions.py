"""Which weights of many features tell most of what the segments of a window have in common.

For a linear summary this is the closed form of restoring hidden segments from visible ones: the covariance between two
different segments of a window holds what one can tell of another, and nothing that each has for itself. Its leading
eigenvectors are the directions along which most of that lies (correlated components, Dmochowski et al. 2012, Front. Hum.
Neurosci. 6:112, without their division by the covariance within segments, whose smallest values would be amplified).

Shape legend: N window, T segment, F feature, D direction.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from neurofm.schema.errors import DataError


class SharedCovariance:
    """Sum over windows of the covariance between their segments, within groups.

    Means are taken within a group (a person with one set of channels), so what is always so in it counts for nothing.
    Features have numbers, and groups may know different ones.
    """

    def __init__(self) -> None:
        self._groups: dict[Hashable, tuple[Tensor, Tensor, Tensor, int, int]] = {}

    def add(self, group: Hashable, features: Tensor, numbers: Tensor) -> None:
        """Take in windows of one group: features (N, T, F), and the number of each, long (F,), the same at every call."""
        N, T = features.shape[:2]
        if T < 2:
            return
        x = features.double().cpu()
        both, one = x.sum(1), x.flatten(0, 1)
        new = both.sum(0), both.T @ both - one.T @ one
        known = self._groups.get(group)
        if known is None:
            self._groups[group] = (numbers.cpu(), *new, N, T)
            return
        if known[4] != T:
            raise DataError(f"shared directions: windows of {known[4]} and of {T} segments in one group")
        self._groups[group] = (known[0], known[1] + new[0], known[2] + new[1], known[3] + N, T)

    def covariance(self) -> tuple[Tensor, Tensor]:
        """Return the numbers of all features, (F,), and the covariance between two segments of a window, (F, F), float64.

        Each group's is Σ over windows and pairs t ≠ t′ of (x_t − m)(x_t′ − m)ᵀ, divided by all windows and pairs; features
        that no group knows together have none.
        """
        if not self._groups:
            raise DataError("shared directions: no window of the training part has two segments; make patches shorter")
        numbers = torch.cat([group[0] for group in self._groups.values()]).unique()
        total = torch.zeros(len(numbers), len(numbers), dtype=torch.float64)
        for own, added, pairs, N, T in self._groups.values():
            mean = added / (N * T)
            at = torch.searchsorted(numbers, own)
            total[at[:, None], at] += pairs / (T * (T - 1)) - N * torch.outer(mean, mean)
        return numbers, total / sum(group[3] for group in self._groups.values())

    def directions(self, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the numbers of the features, (F,), leading eigenvectors, (F, D), and what is shared along each, (D,).

        Last comes the mean over all segments of what each direction makes of the features that its group knows, (D,).
        """
        numbers, covariance = self.covariance()
        value, vector = torch.linalg.eigh(covariance)
        vector, value = vector[:, -n:].flip(1), value[-n:].flip(0)
        # the largest weight is positive, so that equal data give equal signs
        largest = vector.gather(0, vector.abs().argmax(0, keepdim=True))
        vector = vector * largest.sign()
        groups = self._groups.values()
        added = sum(group[1] @ vector[torch.searchsorted(numbers, group[0])] for group in groups)
        return numbers, vector, value, added / sum(N * T for *_, N, T in groups)
