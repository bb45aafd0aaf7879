"""What a decoder scores when there is nothing to decode: standard columns beside every retrieval number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.baselines.ridge_embedding import EmbeddingRidge
from neurofm.benchmarks.retrieval.ranks import Retrieval, cosine, ranks_of, retrieve
from neurofm.benchmarks.retrieval.trials import Decode, Trials

CONTROLS = {
    "shuffled labels": "the right answers dealt out anew among the queries",
    "permuted signal": "the samples of each window in random order, the same for all its channels; left out where there is one sample",
    "noise": "Gaussian noise of each channel's mean and spread",
    "time only": "ridge from the time of the trial in its recording, without any signal",
}


@dataclass(frozen=True)
class Control:
    """Top-1 of a control and the upper end of its 95 % interval."""

    top1: float
    high: float


def controls_of(
    decode: Decode, trials: Trials, gallery: NDArray, target: NDArray, *, train: Trials | None,
    seed: int = 0, n_draws: int = 50,
) -> dict[str, Control]:  # fmt: skip
    """Score all controls of a decoder on (averaged) windows.

    Parameters
    ----------
    decode : callable
        The decoder; never fitted here.
    trials, gallery, target
        What is scored.
    train : Trials, optional
        For "time only"; without it the column is left out.
    """
    rng = np.random.default_rng(seed)
    said = decode(trials.values, trials.recording)
    similarity = cosine(said, gallery)
    shuffled = [float((ranks_of(similarity, rng.permutation(target)) < 1).mean()) for _ in range(n_draws)]
    found = {"shuffled labels": Control(float(np.mean(shuffled)), float(np.quantile(shuffled, 0.975)))}
    order = np.argsort(rng.random(trials.values.shape[:2]), axis=1)
    permuted = np.take_along_axis(trials.values, order[:, :, None], axis=1)
    mean, sd = trials.values.mean(axis=(0, 1)), trials.values.std(axis=(0, 1))
    noise = (mean + sd * rng.standard_normal(trials.values.shape)).astype(np.float32)
    for name, values in (("permuted signal", permuted), ("noise", noise)):
        if name == "permuted signal" and values.shape[1] == 1:
            # one sample (fMRI betas) has no order to lose
            continue
        found[name] = _control(retrieve(decode(values, trials.recording), gallery, target))
    if train is not None:
        clock = EmbeddingRidge().fit(time_features(train), train.own)
        found["time only"] = _control(retrieve(clock.predict(time_features(trials)), gallery, target))
    return found


def time_features(trials: Trials) -> NDArray[np.float64]:
    """Time of each trial as a straight line and slow waves over its recording, (n, 9)."""
    last = {
        r: max(t for t, o in zip(trials.start_s, trials.recording, strict=True) if o == r)
        for r in set(trials.recording)
    }
    x = np.array([t / max(last[r], 1e-9) for t, r in zip(trials.start_s, trials.recording, strict=True)])
    return np.stack([x, *(f(np.pi * k * x) for k in (1, 2, 4, 8) for f in (np.sin, np.cos))], axis=1)


def _control(r: Retrieval) -> Control:
    return Control(r.top[1].value, r.top[1].high)


def verdict(top1_low: float, controls: dict[str, Control]) -> str:
    """Say which controls a score does not beat with the lower end of its interval; empty when it beats all."""
    lost = [f"{name} ({c.top1:.3f})" for name, c in controls.items() if top1_low <= c.top1]
    return f"does not beat its control: {', '.join(lost)}" if lost else ""
