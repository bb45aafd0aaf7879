"""Linear paths beside the network: what is added to its estimate of hidden or future samples.

A skip takes (signal (B, C, S) with hidden channels zeroed, visible (B, C) bool, batch) and returns (B, C, S).
To add one: a class with that forward and `__init__(self, facts, /, **choices)`, and its name in `SKIPS`.
"""

from __future__ import annotations

from neurofm.schema.registry import Registry

SKIPS = Registry("skip", {"ridge": "neurofm.objectives.ridge_skip:RidgeSkip"})
