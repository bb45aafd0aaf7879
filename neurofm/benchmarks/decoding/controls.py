"""Controls: the same benchmark with the signal, or the labels, taken away. Each is a column beside the result.

shuffle         training labels permuted within each recording: what is left is chance
permute_signal  test signals permuted over examples: what is left is the prior (the text, the image, the class balance)
noise           every window replaced by white noise, one mean and deviation per channel: nothing is left but the labels
time_only       no signal, only when the window was: what is left is the block design (a nearest-neighbour decoder)
eog_only        only channels of the eyes: what is left is eye movement
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.decoding.examples import Examples
from neurofm.data.keyed import keyed_generator
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.hashing import hash_of

CONTROLS = ("shuffle", "permute_signal", "noise", "time_only", "eog_only")


def controls_of(given: str | Sequence[str] | None) -> list[str]:
    """Names of controls from what a user wrote: "shuffle", "shuffle|noise" or a list.

    Raises
    ------
    ConfigError
        Naming the nearest control.
    """
    names = given.replace(",", "|").split("|") if isinstance(given, str) else list(given or [])
    for name in names:
        if name not in CONTROLS:
            raise ConfigError(f"control '{name}' is unknown: {nearest(name, CONTROLS)}")
    return list(dict.fromkeys(names))


def apply_control(train: Examples, test: Examples, control: str, *, seed: int) -> tuple[Examples, Examples]:
    """Return both parts under a control; "" and "eog_only" (whose channels were picked in reading) change nothing.

    The draws hang on the tested windows too: with the same noise in every fold, all folds would err alike and the interval
    over them would be one of nothing.
    """
    tested = sorted({f"{r}@{t:.6f}" for r, t in zip(test.recording_id, test.start_s, strict=True)})
    rng = keyed_generator(seed, "control", control, hash_of(tested))
    if control == "shuffle":
        return replace(train, y=shuffled_within(train.y, train.recording_id, rng)), test
    if control == "permute_signal":
        return train, test.with_signal(test.x[rng.permutation(len(test))])
    if control == "noise":
        return train.with_signal(_noise(train.x, rng)), test.with_signal(_noise(test.x, rng))
    if control == "time_only":
        return train.with_signal(time_features(train)), test.with_signal(time_features(test))
    return train, test


def shuffled_within(y: NDArray, groups: NDArray, rng: np.random.Generator) -> NDArray:
    """Permute labels within each group, so that every group keeps its classes; over all where a group has one class."""
    out = y.copy()
    names = np.unique(groups)
    if all(len(np.unique(y[groups == g])) < 2 for g in names):
        return y[rng.permutation(len(y))]
    for g in names:
        index = np.flatnonzero(groups == g)
        out[index] = y[index[rng.permutation(len(index))]]
    return out


def time_features(e: Examples) -> NDArray[np.float32]:
    """When a window was, shape (N, 1, 2): seconds on the recording's clock, and its share of the recording."""
    return np.stack([e.start_s, e.position], axis=1)[:, None, :].astype(np.float32)


def _noise(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    # over all windows: the mean and deviation of one window are signal
    mean, sd = x.mean((0, 2), keepdims=True), x.std((0, 2), keepdims=True)
    return (mean + sd * rng.standard_normal(x.shape, dtype=np.float32)).astype(np.float32)
