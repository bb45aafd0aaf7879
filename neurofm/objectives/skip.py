"""Linear paths beside the network: what is added to its estimate of hidden or future samples.

A skip takes (signal (B, C, S) with hidden channels zeroed, visible (B, C) bool, batch) and returns (B, C, S).
To add one: a class with that forward and `__init__(self, facts, /, **choices)`, and its name in `SKIPS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from neurofm.objectives.base import Objective
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.registry import Registry

if TYPE_CHECKING:
    from neurofm.objectives.ridge_skip import RidgeSkip

SKIPS = Registry("skip", {"ridge": "neurofm.objectives.ridge_skip:RidgeSkip"})


class SkipObjective(Objective):
    """An objective that may have a skip, which is solved in closed form and not trained.

    Attributes
    ----------
    skip : RidgeSkip or None
        A submodule; None without.
    """

    skip: RidgeSkip | None

    @property
    def has_closed_form(self) -> bool:
        """Whether it has a skip, so that `solve` needs data."""
        return self.skip is not None

    def solve(self, stretches: Iterable[NeuralBatch], *, new_subject: bool) -> None:
        """Solve the skip from unbroken stretches of signal, before any gradient step."""
        if self.skip is not None:
            self.skip.solve(stretches, new_subject=new_subject)
