"""What the best possible decoder of `sim_image_eeg` reaches, from the true parameters.

With y ~ N(M z_j + b, Σ / n) for image j of the gallery, shown n times and averaged, and all images equally likely, the
best guess is argmax_j y'Σ⁻¹M z_j − z_j'Az_j / 2 with A = M'Σ⁻¹M. It depends on y only through s = M'Σ⁻¹(y − b), which is
N(A z_j, A / n): so the accuracy is an expectation over as many Gaussian numbers as there are features, without noise
matrices or trials, and it is taken over many draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from data_prep.sources.sim_base import rng_of
from data_prep.sources.sim_image_model import Person, person_of, world_of

DRAWS = 50


def information(person: Person) -> np.ndarray:
    """A = M'Σ⁻¹M [R, R]."""
    white = whitened(person, person.pattern)
    return np.einsum("ctr,cts->rs", white, white)


def whitened(person: Person, values: np.ndarray) -> np.ndarray:
    """Values [C, T, …] in units of the noise, which is then independent."""
    x = np.linalg.solve(person.channel_root, values.reshape(len(values), -1)).reshape(values.shape)
    return (
        np.linalg.solve(person.time_root, x.swapaxes(0, 1).reshape(values.shape[1], -1))
        .reshape((values.shape[1], values.shape[0], *values.shape[2:]))
        .swapaxes(0, 1)
    )


def ranks_known(person: Person, gallery: np.ndarray, n_repetitions: int, rng: np.random.Generator) -> np.ndarray:
    """Rank (0 = first) of the true image among the gallery [image, R], for `DRAWS` fresh averages of every image."""
    a = information(person)
    score = _sufficient(a, gallery, n_repetitions, rng) @ gallery.T - 0.5 * np.einsum(
        "ir,rs,is->i", gallery, a, gallery
    )
    return _ranks(score)


def ranks_by_cosine(
    person: Person, gallery: np.ndarray, n_repetitions: int, rng: np.random.Generator, prior: np.ndarray
) -> np.ndarray:
    """Ranks where the best estimate of the features, E[z | y] under the prior covariance [R, R], is compared by cosine.

    What is lost against `ranks_known` is lost by the comparison: it forgets the candidates' lengths, and that some directions
    of the estimate are surer than others. No decoder that answers with embeddings as they are avoids it.
    """
    a = information(person)
    said = _sufficient(a, gallery, n_repetitions, rng) @ np.linalg.inv(a + np.linalg.inv(prior) / n_repetitions)
    return _ranks(said @ (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T)


def _sufficient(a: np.ndarray, gallery: np.ndarray, n_repetitions: int, rng: np.random.Generator) -> np.ndarray:
    """The s of `DRAWS` fresh averages of every image, [draw, image, R]."""
    root = np.linalg.cholesky(a + 1e-10 * np.trace(a) * np.eye(len(a)))
    noise = rng.standard_normal((DRAWS, len(gallery), len(a))) @ root.T / np.sqrt(n_repetitions)
    return gallery @ a + noise


def _ranks(score: np.ndarray) -> np.ndarray:
    n = score.shape[1]
    own = np.take_along_axis(score, np.broadcast_to(np.arange(n)[:, None], (len(score), n, 1)), 2)
    return (score > own).sum(axis=-1).ravel()


def oracle(choices: dict[str, Any]) -> dict[str, Any]:
    """Bayes-optimal top-1 and top-5 of every person, by number of averaged repetitions, gallery = the test images."""
    gallery = world_of(choices).features["test"]
    counts = [n for n in (1, 2, 5, 10, 20, 40, 80) if n <= choices["n_test_repetitions"]]
    found: dict[str, Any] = {}
    for subject in range(1, choices["n_subjects"] + 1):
        person, scores = person_of(choices, subject), {}
        for n in counts:
            r = ranks_known(person, gallery, n, rng_of(choices, 9, subject, n))
            scores[str(n)] = {"top1": float((r < 1).mean()), "top5": float((r < 5).mean())}
        found[f"{subject:02d}"] = scores
    return {
        "what": "Bayes-optimal retrieval with the true parameters; gallery: the test images; mean over fresh draws",
        "candidates": len(gallery), "draws": DRAWS * len(gallery), "by_subject": found,
    }  # fmt: skip
