"""The encoding model's likelihood against the full Gaussian density, its shrinking against the published optimum."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from neurofm.benchmarks.baselines.encoding_identification import EncodingIdentification, shrunk
from neurofm.schema.errors import DataError


def world(seed=0, *, n_stimuli=40, n_repeats=4, times=5, channels=3, dim=4, noise=1.0):
    """Responses linear in embeddings, noise of covariance one over times ⊗ one over channels."""
    rng = np.random.default_rng(seed)
    pattern = rng.standard_normal((dim, times, channels))
    roots = [np.tril(rng.standard_normal((k, k)), -1) + np.diag(rng.uniform(0.5, 2, k)) for k in (times, channels)]
    z = rng.standard_normal((n_stimuli, dim))
    which = np.repeat(np.arange(n_stimuli), n_repeats)
    white = rng.standard_normal((len(which), times, channels))
    x = np.einsum("nd,dtc->ntc", z[which], pattern) + 3 + noise * np.einsum("ts,nsc,dc->ntd", roots[0], white, roots[1])
    return x, z, which


@pytest.mark.parametrize("n_repeats", [1, 4])
def test_cosines_rank_by_the_gaussian_likelihood(n_repeats):
    x, z, which = world(n_repeats=n_repeats)
    model = EncodingIdentification().fit(
        x[: 30 * n_repeats], z[which[: 30 * n_repeats]], which[: 30 * n_repeats].astype(str)
    )
    queries, candidates = x[30 * n_repeats :], z[30:]
    a, b = model.answer(queries), model.place(candidates)
    cosine = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    # by definition: mean and covariance written out, in the units of the recording
    times, space = (np.linalg.inv(r @ r.T) for r in (model.time, model.space))
    unwhite = np.linalg.inv(np.kron(model.time, model.space))
    expected = ((candidates - model.centre) @ model.map @ model.axes) @ unwhite + model.response.ravel()
    truth = np.stack(
        [multivariate_normal(m, np.kron(times, space)).logpdf(queries.reshape(len(queries), -1)) for m in expected],
        axis=1,
    )
    assert (np.argsort(-cosine, axis=1) == np.argsort(-truth, axis=1)).all()


def test_noise_and_map_are_found_where_data_are_plenty():
    x, z, which = world(n_stimuli=400, n_repeats=5, noise=0.5)
    model = EncodingIdentification().fit(x[:1500], z[which[:1500]], which[:1500].astype(str))
    fresh = model.answer(x[1500:])
    right = np.argmax(fresh @ model.place(z[300:]).T, axis=1) == which[1500:] - 300
    residual = (x - x.reshape(400, 5, 5, 3).mean(1)[which]) * np.sqrt(5 / 4)
    white = np.einsum("ts,ntc,cd->nsd", model.time, residual[1500:], model.space).reshape(500, -1)
    assert np.abs(np.cov(white.T) - np.eye(15)).max() < 0.25
    assert right.mean() > 0.9


def test_length_counts_where_a_cosine_is_blind():
    """Two stimuli of one direction and unlike length differ in the size of the response alone."""
    x, z, which = world(n_stimuli=60, n_repeats=6, noise=0.3)
    model = EncodingIdentification().fit(x, z[which], which.astype(str))
    pair = model.place(np.stack([z[0], 3 * z[0]]))
    assert np.argmax(model.answer(x[:6]) @ pair.T, axis=1).tolist() == [0] * 6


def test_shrinking_is_the_published_optimum():
    """Gavish & Donoho's η of the normalised matrix, and a smaller error than keeping or dropping values whole."""
    rng = np.random.default_rng(0)
    rows, columns = 20, 300
    u, v = (np.linalg.qr(rng.standard_normal((k, 3)))[0] for k in (rows, columns))
    truth = (u * [60.0, 40.0, 25.0]) @ v.T
    a, s, b = np.linalg.svd(truth + rng.standard_normal((rows, columns)), full_matrices=False)
    beta, y = rows / columns, s / np.sqrt(columns)
    published = np.where(y > 1 + np.sqrt(beta), np.sqrt(np.maximum((y**2 - beta - 1) ** 2 - 4 * beta, 0)) / y, 0)
    mine = shrunk(s, rows, columns)
    np.testing.assert_allclose(mine, published * np.sqrt(columns), rtol=1e-10)

    def error(values):
        return np.linalg.norm((a * values) @ b - truth)

    assert (mine > 0).sum() == 3
    assert error(mine) < min(error(s), error(np.where(mine > 0, s, 0)))


def test_too_few_stimuli_get_a_sentence():
    x, z, which = world(n_stimuli=2)
    with pytest.raises(DataError, match="3 or more stimuli"):
        EncodingIdentification().fit(x, z[which], which.astype(str))
