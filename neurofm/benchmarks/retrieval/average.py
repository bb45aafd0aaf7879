"""Averaging: how many repetitions, of whom, and of what; a number without it says nothing.

Shape legend: n trials, D embedding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neurofm.schema.errors import ConfigError, nearest

MODES = ("trial", "subject", "everybody")
WORDS = {
    "trial": "single trials",
    "subject": "mean over the repetitions that one person saw",
    "everybody": "mean over the repetitions of all people",
}


def average(
    values: NDArray, stimulus: Sequence[str], subject: Sequence[str], *, mode: str
) -> tuple[NDArray, list[str], list[str]]:
    """Average rows of one stimulus: (values [m, …], stimulus [m], subject [m]), sorted by both.

    Parameters
    ----------
    values : ndarray, shape (n, …)
        Signals before decoding, or decoded embeddings.
    stimulus, subject : sequence of str, length n
        Of each row.
    mode : str
        "trial", "subject" or "everybody" (subject is then "").
    """
    if mode not in MODES:
        raise ConfigError(f"averaging '{mode}' is unknown: {nearest(mode, MODES)}")
    if mode == "trial":
        return values, list(stimulus), list(subject)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, (s, who) in enumerate(zip(stimulus, subject, strict=True)):
        groups[s, who if mode == "subject" else ""].append(i)
    keys = sorted(groups)
    return np.stack([values[groups[k]].mean(axis=0) for k in keys]), [k[0] for k in keys], [k[1] for k in keys]


def draw_repetitions(
    stimulus: Sequence[str], subject: Sequence[str], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of `n` repetitions of every stimulus and person, drawn without replacement.

    Raises
    ------
    ConfigError
        When a stimulus was shown fewer times.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, key in enumerate(zip(stimulus, subject, strict=True)):
        groups[key].append(i)
    fewest = min(groups, key=lambda k: len(groups[k]))
    if len(groups[fewest]) < n:
        raise ConfigError(
            f"stimulus '{fewest[0]}' was shown {len(groups[fewest])} times to '{fewest[1]}', {n} are asked for"
        )
    return np.concatenate([rng.permutation(groups[k])[:n] for k in sorted(groups)])


def counts_up_to(stimulus: Sequence[str], subject: Sequence[str]) -> list[int]:
    """Numbers of repetitions to average: 1, 2, 5, 10, 20 … as far as every stimulus has them."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for key in zip(stimulus, subject, strict=True):
        counts[key] += 1
    most = min(counts.values())
    return sorted({n for n in (1, 2, 5, 10, 20, 40, 80) if n <= most} | {most})
