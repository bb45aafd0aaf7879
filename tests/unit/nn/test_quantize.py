"""Quantizers against vector-quantize-pytorch, scikit-learn, and themselves on two ranks."""

import importlib.util
import itertools
import os
import socket

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score

from neurofm.nn.quantize import FiniteScalarQuantizer, ResidualQuantizer, VectorQuantizer
from neurofm.nn.quantize_codebook import Codebook, kmeans, nearest_code
from neurofm.schema.errors import ConfigError

needs_oracle = pytest.mark.skipif(
    importlib.util.find_spec("vector_quantize_pytorch") is None, reason="vector-quantize-pytorch is not installed"
)


def correlated(n, dim=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99))
    return torch.randn(n, dim, generator=g) @ mix


def trained(quantizer, steps=100, n=1024, **batch):
    torch.manual_seed(0)
    for step in range(steps):
        found = quantizer(correlated(n, quantizer.dim, seed=step), **batch)
    return found


MAKERS = {
    "vq": lambda: VectorQuantizer(6, n_codes=16),
    "vq_euclidean": lambda: VectorQuantizer(6, n_codes=16, normalise=False),
    "rvq": lambda: ResidualQuantizer(6, n_codes=16, n_levels=3),
    "rvq_dropout": lambda: ResidualQuantizer(6, n_codes=16, n_levels=3, level_dropout=True),
    "fsq": lambda: FiniteScalarQuantizer(6, levels=(5, 4, 3)),
}
each = pytest.mark.parametrize("name", MAKERS)


@each
def test_shapes_metrics_and_decoding(name):
    torch.manual_seed(0)
    quantizer = MAKERS[name]()
    quantizer(correlated(200, 6).view(4, 50, 6))
    quantizer.eval()
    x = correlated(40, 6, seed=7).view(4, 10, 6)
    found = quantizer(x)
    assert found.values.shape == x.shape
    assert found.code.shape == (4, 10, len(quantizer.sizes))
    assert found.loss.shape == ()
    assert all(
        int(found.code[..., i].min()) >= 0 and int(found.code[..., i].max()) < k for i, k in enumerate(quantizer.sizes)
    )
    assert torch.allclose(quantizer.decode(found.code), found.values, rtol=1e-5, atol=1e-5)
    assert torch.equal(quantizer.encode(x), found.code)
    levels = [f"_{i}" for i in range(1, 4)] if "rvq" in name else [""]
    assert set(found.metrics) == {f"{m}{s}" for m in ("perplexity", "usage", "error") for s in levels}
    assert all(not v.requires_grad and v.ndim == 0 for v in found.metrics.values())


@each
def test_masked_vectors_touch_nothing(name):
    x, junk = correlated(300, 6).view(3, 100, 6), correlated(300, 6, seed=5).view(3, 100, 6) * 1e6
    mask = torch.rand(3, 100, generator=torch.Generator().manual_seed(1)) < 0.6
    results = []
    for filled in (x, torch.where(mask[..., None], x, junk), torch.where(mask[..., None], x, torch.nan)):
        torch.manual_seed(0)
        quantizer = MAKERS[name]()
        for _ in range(3):
            found = quantizer(filled, mask)
        results.append((found, quantizer.state_dict()))
    (first, state), *others = results
    assert not first.values[~mask].any()
    assert not first.code[~mask].any()
    for found, other in others:
        assert torch.equal(found.values, first.values)
        assert torch.equal(found.loss, first.loss)
        assert all(torch.equal(v, first.metrics[k]) for k, v in found.metrics.items())
        assert all(torch.equal(v, state[k]) for k, v in other.items())


def test_masked_and_narrow_at_once():
    """What vector-quantize-pytorch 1.32 fails at: padded tokens and a codebook narrower than the model."""
    torch.manual_seed(0)
    narrow, quantizer = torch.nn.Linear(12, 6), VectorQuantizer(6, n_codes=16)
    x, mask = torch.randn(2, 30, 12), torch.arange(30) < torch.tensor([[30], [11]])
    found = quantizer(narrow(x), mask)
    (found.values.sum() + found.loss).backward()
    assert narrow.weight.grad.isfinite().all()


@each
def test_evaluation_and_encoding_learn_nothing(name):
    quantizer = MAKERS[name]()
    quantizer(correlated(300, 6))
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer.encode(correlated(300, 6, seed=3))
    assert quantizer.training
    quantizer.eval()(correlated(300, 6, seed=4))
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())


@pytest.mark.parametrize("name", ["vq_euclidean", "rvq"])
def test_the_gradient_goes_straight_through(name):
    """d(w·values)/dx is w, and the commitment's gradient is that of finite differences with the codes held."""
    torch.manual_seed(0)
    quantizer = MAKERS[name]().double()
    quantizer(correlated(400, 6).double())
    quantizer.eval()
    x = correlated(5, 6, seed=3).double().requires_grad_()
    w = torch.randn(5, 6, dtype=torch.float64)
    (grad,) = torch.autograd.grad((quantizer(x).values * w).sum(), x)
    assert torch.equal(grad, w)
    (grad,) = torch.autograd.grad(quantizer(x).loss, x)
    step = 1e-6
    for i, j in ((0, 0), (2, 3), (4, 5)):
        # codes do not change within so small a step
        delta = torch.zeros_like(x)
        delta[i, j] = step
        numeric = (quantizer(x + delta).loss - quantizer(x - delta).loss) / (2 * step)
        assert numeric.item() == pytest.approx(grad[i, j].item(), rel=1e-5, abs=1e-9)


def test_unit_codes_pass_the_gradient_through_the_normalisation():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(6, n_codes=16).double()
    quantizer(correlated(400, 6).double())
    x = correlated(5, 6, seed=3).double().requires_grad_()
    w = torch.randn(5, 6, dtype=torch.float64)
    quantizer.eval()
    (grad,) = torch.autograd.grad((quantizer(x).values * w).sum(), x)
    (expected,) = torch.autograd.grad((torch.nn.functional.normalize(x, dim=-1) * w).sum(), x)
    assert torch.allclose(grad, expected)
    assert torch.allclose(quantizer.codebook.codes.norm(dim=1), torch.ones(16, dtype=torch.float64))


def test_error_falls_with_every_level_and_a_prefix_is_a_code():
    """The textbook rule; the released one of NeuroRVQ plateaus or oscillates (0.29, 0.47, 0.30, 0.46 …)."""
    quantizer = ResidualQuantizer(16, n_codes=64, n_levels=8)
    trained(quantizer)
    quantizer.eval()
    for x in (correlated(2000, seed=500), correlated(2000, seed=501)):
        found = quantizer(x)
        errors = [float(found.metrics[f"error_{n}"]) for n in range(1, 9)]
        assert all(b < 0.85 * a for a, b in itertools.pairwise(errors)), errors
        for n in (1, 3, 8):
            prefix = quantizer.decode(found.code[..., :n])
            assert float((x - prefix).square().sum() / x.square().sum()) == pytest.approx(errors[n - 1], rel=1e-4)


def test_level_dropout_uses_prefixes_and_teaches_all_levels():
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(6, n_codes=16, n_levels=4, level_dropout=True)
    x = correlated(400, 6)
    seen = set()
    for _ in range(30):
        # the codes as they were when the values were made
        codes = [c.codes.clone() for c in quantizer.levels]
        found = quantizer(x)
        fits = [
            n
            for n in range(1, 5)
            if torch.allclose(sum(c[found.code[:, i]] for i, c in enumerate(codes[:n])), found.values, atol=1e-4)
        ]
        seen |= set(fits)
    assert seen == {1, 2, 3, 4}
    assert all(c.total[:, -1].sum() > 300 for c in quantizer.levels)


def test_one_level_is_as_good_as_k_means():
    """Squared error within 5 % of scikit-learn's best of ten on the same vectors, whole batches as the only data."""
    x = correlated(4000, 8)
    reference = KMeans(32, n_init=10, random_state=0).fit(x.numpy()).inertia_
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(8, n_codes=32, n_levels=1)
    for _ in range(200):
        quantizer(x)
    found = quantizer.eval()(x)
    assert float((x - found.values).square().sum()) <= 1.05 * reference
    centres = kmeans(x, 32, generator=torch.Generator().manual_seed(0))
    assert float((x - centres[nearest_code(x, centres)]).square().sum()) <= 1.1 * reference


def test_nearest_is_nearest():
    x, codes = torch.randn(3000, 5).double(), torch.randn(700, 5).double()
    assert torch.equal(nearest_code(x, codes), torch.cdist(x, codes).argmin(1))


@needs_oracle
@pytest.mark.parametrize("unit", [False, True])
def test_running_means_are_those_of_vector_quantize_pytorch(unit):
    from vector_quantize_pytorch import VectorQuantize

    torch.manual_seed(0)
    theirs = VectorQuantize(
        dim=8, codebook_size=12, decay=0.9, kmeans_init=False, use_cosine_sim=unit, commitment_weight=1.0, eps=1e-12
    ).double()
    ours = VectorQuantizer(8, n_codes=12, decay=0.9, normalise=unit, restart_below=0.0).double()
    book = theirs._codebook
    start = torch.nn.functional.normalize(torch.randn(12, 8, dtype=torch.float64), dim=1)
    book.embed.copy_(start[None])
    book.embed_avg.copy_(start[None])
    book.cluster_size.fill_(1.0)
    ours.codebook.codes.copy_(start)
    ours.codebook.total.copy_(torch.cat([start, torch.ones(12, 1)], 1))
    for step in range(5):
        x = correlated(100, 8, seed=step).double()
        values, code, loss = theirs(x[None])
        found = ours(x)
        assert torch.equal(found.code[:, 0], code[0])
        # theirs computes in float32
        assert torch.allclose(found.values, values[0], rtol=1e-5, atol=1e-5)
        assert float(found.loss) == pytest.approx(float(loss), rel=1e-5)
    assert torch.allclose(ours.codebook.codes, book.embed[0], rtol=1e-4, atol=1e-5)


@needs_oracle
def test_residual_codes_are_those_of_vector_quantize_pytorch():
    from vector_quantize_pytorch import ResidualVQ

    torch.manual_seed(0)
    theirs = ResidualVQ(dim=8, num_quantizers=4, codebook_size=20, kmeans_init=False).double().eval()
    ours = ResidualQuantizer(8, n_codes=20, n_levels=4).double().eval()
    for level, layer in zip(ours.levels, theirs.layers, strict=True):
        level.codes.copy_(layer._codebook.embed[0])
    x = correlated(200, 8).double()
    values, code, _ = theirs(x[None])
    found = ours(x)
    assert torch.equal(found.code, code[0])
    assert torch.allclose(found.values, values[0], rtol=1e-10, atol=1e-12)


@needs_oracle
def test_finite_scalars_are_those_of_vector_quantize_pytorch():
    from vector_quantize_pytorch import FSQ

    theirs, ours = FSQ([8, 5, 5, 4]), FiniteScalarQuantizer(4, levels=(8, 5, 5, 4))
    x = 2 * torch.randn(1, 300, 4)
    values, code = theirs(x)
    found = ours(x)
    assert torch.equal(found.code[..., 0], code.long())
    assert torch.allclose(found.values, values, atol=1e-6)


def test_idle_codes_are_put_on_vectors():
    torch.manual_seed(0)
    book = Codebook(4, 8, restart_below=0.05)
    far = torch.full((8, 4), 1e3) + torch.arange(8.0)[:, None]
    book.codes.copy_(far)
    book.total.copy_(torch.cat([far, torch.full((8, 1), 1e-6)], 1))
    x = torch.randn(200, 4)
    book(x)
    moved = book.codes.norm(dim=1) < 100
    # the nearest of the far codes took all vectors; the seven idle ones now lie on vectors of the batch
    assert int(moved.sum()) >= 7
    assert all((x - c).square().sum(1).min() < 1e-8 for c in book.codes[moved][:7] if (x - c).square().sum(1).min() < 1)
    for _ in range(50):
        book(x)
    assert len(book(x).code.unique()) == 8


def test_more_codes_than_vectors_fill_up():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(6, n_codes=64)
    for step in range(40):
        found = quantizer(correlated(40, 6, seed=step))
    found = quantizer.eval()(correlated(2000, 6, seed=77))
    assert found.metrics["usage"] > 0.9


def test_a_broken_batch_leaves_the_codebook_alone():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(6, n_codes=16)
    quantizer(correlated(200, 6))
    before = quantizer.codebook.codes.clone()
    x = correlated(200, 6)
    x[3, 2] = torch.nan
    found = quantizer(x)
    assert not found.loss.isfinite()
    assert torch.equal(quantizer.codebook.codes, before)


def test_planted_clusters_are_found():
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 16, generator=g) * 3
    label = torch.randint(12, (6000,), generator=g)
    x = centres[label] + 0.5 * torch.randn(6000, 16, generator=g)
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, n_codes=12, normalise=False)
    for part in x.split(500):
        quantizer(part)
    code = quantizer.encode(x)[:, 0]
    assert adjusted_mutual_info_score(label.numpy(), code.numpy()) > 0.95


def test_metrics_by_hand():
    quantizer = VectorQuantizer(2, n_codes=4, normalise=False)
    quantizer.codebook.codes.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]))
    x = torch.tensor([[2.0, 0], [1, 0], [0, 3], [0, 1]])
    metrics = quantizer.eval()(x).metrics
    assert float(metrics["perplexity"]) == pytest.approx(2.0)
    assert float(metrics["usage"]) == 0.5
    assert float(metrics["error"]) == pytest.approx((1 + 0 + 4 + 0) / (4 + 1 + 9 + 1))


def test_half_precision_compares_in_full():
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(6, n_codes=16, n_levels=2)
    x = correlated(300, 6)
    quantizer(x)
    quantizer.eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer(x).code, quantizer.encode(x))
    assert quantizer(x.bfloat16()).values.dtype == torch.bfloat16


def test_state_dict_round_trip():
    quantizer = ResidualQuantizer(6, n_codes=16, n_levels=3)
    trained(quantizer, steps=3)
    other = ResidualQuantizer(6, n_codes=16, n_levels=3)
    other.load_state_dict(quantizer.state_dict())
    a, b = (trained(q, steps=3) for q in (quantizer, other))
    assert torch.equal(a.values, b.values)


@pytest.mark.parametrize(
    "bad", [dict(n_codes=1, n_levels=2), dict(n_codes=8, n_levels=0), dict(n_codes=8, n_levels=1, decay=1.0)]
)
def test_wrong_sizes_get_a_sentence(bad):
    with pytest.raises(ConfigError, match="a quantizer needs two codes"):
        ResidualQuantizer(4, **bad)
    with pytest.raises(ConfigError, match="two or more values"):
        FiniteScalarQuantizer(4, levels=(1, 5))


def _rank(rank, world, port, folder, unit):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if world > 1:
        torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    torch.set_num_threads(1)
    torch.manual_seed(5 + rank)
    make = (lambda: VectorQuantizer(6, n_codes=32)) if unit else (lambda: ResidualQuantizer(6, n_codes=32, n_levels=3))
    torch.manual_seed(0)
    quantizer = make().double()
    for step in range(12):
        # the ranks' own random numbers differ, as they do in training
        torch.manual_seed(1000 * step + (rank + 1 if rank else 0))
        x = correlated(200, 6, seed=step).double()
        mask = torch.rand(200, generator=torch.Generator().manual_seed(step)) < 0.8
        # unequal shares; a narrower spread at the end leaves codes idle, so that they are restarted
        part = slice(0, 200) if world == 1 else (slice(0, 70) if rank == 0 else slice(70, 200))
        if step > 5:
            x = x * 0.1
        found = quantizer(x[part], mask[part])
    metrics = torch.stack([found.metrics[k] for k in sorted(found.metrics) if "error" not in k])
    np.savez(
        f"{folder}/{world}-{rank}.npz",
        metrics=metrics.numpy(),
        **{k: v.numpy() for k, v in quantizer.state_dict().items()},
    )
    if world > 1:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("unit", [False, True])
def test_two_ranks_learn_the_codebook_of_one(tmp_path, unit):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    _rank(0, 1, port, tmp_path, unit)
    torch.multiprocessing.spawn(_rank, (2, port, tmp_path, unit), nprocs=2)
    one, first, second = (np.load(tmp_path / f"{n}.npz") for n in ("1-0", "2-0", "2-1"))
    for key in one.files:
        assert np.array_equal(first[key], second[key]), key
        assert np.allclose(one[key], first[key], rtol=1e-9, atol=1e-11), key
