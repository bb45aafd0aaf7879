"""Which stimulus best explains the response? A linear encoding model of every stimulus, compared in units of the noise.

Identification as in Kay et al. 2008 (doi:10.1038/nature06713), with Gaussian noise whose covariance is one over channels
times one over time. The response to a stimulus is linear in its embedding; what ridge from responses to embeddings and a
cosine forget — the length of the embedding, and which of its directions the brain speaks of — stays in.

Shape legend: n windows, T time, C channel, D embedding, K directions in which responses differ, S stimuli.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neurofm.schema.errors import DataError

# eigenvalues below this share of the largest are directions that the recording does not have (average reference)
NOTHING = 1e-6
# trials per block of residuals
BLOCK = 1024


class EncodingIdentification:
    """Responses predicted for every candidate; the answer is the candidate of highest likelihood.

    Responses are whitened by the noise, that is what repetitions of a stimulus leave over of their mean, or the regression
    of single trials where nothing was repeated. There the least-squares map is a low-rank matrix plus white noise, and its
    singular values are shrunk as Gavish & Donoho 2017 do (arXiv:1405.7511, eq. 7), so nothing is to be tuned.
    """

    def fit(self, x: NDArray, y: NDArray, stimulus: Sequence[str]) -> EncodingIdentification:
        """Fit single trials (n, T, C) that showed embeddings (n, D) of stimuli (n).

        Raises
        ------
        DataError
            When there are fewer than 3 stimuli.
        """
        names, first, which, counts = np.unique(
            np.asarray(stimulus), return_index=True, return_inverse=True, return_counts=True
        )
        if len(names) < 3:
            raise DataError(f"an encoding model needs 3 or more stimuli to learn from; there are {len(names)}")
        features = _flat(y)[first]
        mean = np.zeros((len(names), *x.shape[1:]))
        np.add.at(mean, which, x)
        mean /= counts[:, None, None]
        # stimuli shown often weigh more: their means hold less noise
        root = np.sqrt(counts)[:, None]
        self.centre, self.response = (np.average(v, axis=0, weights=counts) for v in (features, mean))
        left, size, right = np.linalg.svd(root * (features - self.centre), full_matrices=False)
        keep = size > 1e-6 * size[0]
        left, size, right = left[:, keep], size[keep], right[keep]
        said = (mean - self.response).reshape(len(names), -1) * root
        fitted = left.T @ said
        if np.any(counts > 1):
            again = np.flatnonzero(counts[which] > 1)
            freedom = int((counts[counts > 1] - 1).sum())
            self._fit_noise([(x[b] - mean[which[b]]) for b in np.array_split(again, -(-len(again) // BLOCK))], freedom)
        else:
            self._fit_noise([(said - left @ fitted).reshape(mean.shape)], max(1, len(names) - 1 - len(size)))
        u, s, self.axes = np.linalg.svd(self._white(fitted.reshape(-1, *x.shape[1:])), full_matrices=False)
        s = shrunk(s, len(u), self.axes.shape[1])
        self.axes = self.axes[s > 0]
        # from the embedding to whitened responses along `axes`
        self.map = (right.T / size) @ (u * s)[:, s > 0]
        return self

    def answer(self, x: NDArray) -> NDArray[np.float64]:
        """Responses (n, T, C) → (n, K + 2), to be compared with `place` by cosine or dot product."""
        along = self._white(x - self.response) @ self.axes.T
        return np.concatenate([along, np.ones((len(along), 1)), np.zeros((len(along), 1))], axis=1)

    def place(self, y: NDArray) -> NDArray[np.float64]:
        """Candidates (S, D) → (S, K + 2), all of one length, so that a cosine ranks them by likelihood.

        The likelihood of candidate m is x·m − m·m / 2: a dot product with (m, −m·m / 2), and a last number of its own makes all
        equally long (Bachrach et al. 2014, doi:10.1145/2645710.2645741).
        """
        m = (_flat(y) - self.centre) @ self.map
        lifted = np.concatenate([m, -0.5 * (m**2).sum(axis=1, keepdims=True)], axis=1)
        square = (lifted**2).sum(axis=1, keepdims=True)
        return np.concatenate([lifted, np.sqrt(square.max() - square)], axis=1)

    def _fit_noise(self, residuals: Sequence[NDArray], freedom: int) -> None:
        """Take the covariance over channels, then over times of what is white over channels."""
        n_times = residuals[0].shape[1]
        space = sum(np.einsum("ntc,ntd->cd", r, r, optimize=True) for r in residuals) / (freedom * n_times)
        self.space = _inverse_root(space)
        time = sum(np.einsum("ntc,nsc->ts", r @ self.space, r @ self.space, optimize=True) for r in residuals)
        self.time = _inverse_root(time / (freedom * self.space.shape[1]))

    def _white(self, x: NDArray) -> NDArray[np.float64]:
        return np.einsum("ts,ntc,cd->nsd", self.time, x, self.space, optimize=True).reshape(len(x), -1)


def shrunk(s: NDArray, n_rows: int, n_columns: int) -> NDArray[np.float64]:
    """Singular values (r,) of a matrix plus white noise of unit variance, shrunk for the least squared error."""
    inside = np.maximum((s**2 - n_rows - n_columns) ** 2 - 4.0 * n_rows * n_columns, 0)
    return np.where(s > np.sqrt(n_rows) + np.sqrt(n_columns), np.sqrt(inside) / np.maximum(s, 1e-30), 0.0)


def _inverse_root(covariance: NDArray) -> NDArray[np.float64]:
    """Columns that whiten; directions without variance are left out."""
    values, vectors = np.linalg.eigh(covariance)
    keep = values > NOTHING * values[-1]
    return vectors[:, keep] / np.sqrt(values[keep])


def _flat(y: NDArray) -> NDArray[np.float64]:
    return np.asarray(y, np.float64).reshape(len(y), -1)
