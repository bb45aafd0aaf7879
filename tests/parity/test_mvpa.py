"""Both roads against a loop over the equations, written in index form, float64."""

import copy
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurofm.nn.mvpa import MultivariateParallelAttention
from neurofm.nn.mvpa_fused import fused_attention
from neurofm.nn.mvpa_roads import ROADS

BACKENDS = ["math", "sdpa", "fused"]


@pytest.fixture(autouse=True)
def fused_call_on_the_cpu(monkeypatch):
    """The one fused call, which the `sdpa` road leaves to other devices; beyond the window it does not apply."""

    def road(terms, content_window, causal):
        inside = terms.key.shape[2] <= content_window + 1
        return fused_attention(terms) if inside else ROADS["sdpa"](terms, content_window, causal)

    monkeypatch.setitem(ROADS, "fused", road)


def oracle(
    attention: MultivariateParallelAttention,
    tokens: Tensor,
    time_table: Tensor,
    channel_table: Tensor,
    n_valid: list[int] | None = None,
    distance: Tensor | None = None,
    layer_divisor: int = 1,
) -> Tensor:
    """One query at a time, one key at a time, for valid channels only; padded outputs stay zero."""
    B, T, C, D = tokens.shape
    H, K = attention.n_heads, attention.n_kv_heads
    d = D // H
    u, v, w = attention.bias
    out = torch.zeros_like(tokens)
    for b in range(B):
        C_b = C if n_valid is None else n_valid[b]
        x = tokens[b, :, :C_b]
        q = x @ attention.query.weight.T
        k = x @ attention.key_value.weight[: K * d].T
        val = x @ attention.key_value.weight[K * d :].T
        et = time_table[:T] @ attention.time_key.weight.T
        ec = channel_table[:C] @ attention.channel_key.weight.T
        rows = []
        for t in range(T):
            for c in range(C_b):
                heads = []
                for h in range(H):
                    g = h // (H // K)
                    kv = slice(g * d, (g + 1) * d)
                    qh = q[t, c, h * d : (h + 1) * d]
                    logits, values = [], []
                    for t2 in range(T):
                        if attention.causal and t2 > t:
                            continue
                        for c2 in range(C_b):
                            n = abs(c - c2)
                            if distance is not None:
                                n = int(distance[c, c2] if distance.ndim == 2 else distance[b, c, c2])
                            logit = (qh + v[g]) @ et[T - 1 - abs(t - t2), kv]
                            logit = logit + (qh + w[g]) @ ec[C_b - 1 - n, kv]
                            if abs(t - t2) <= attention.content_window or t == T - 1:
                                logit = logit + (qh + u[g]) @ k[t2, c2, kv]
                            logits.append(logit / math.sqrt(d) / layer_divisor)
                            values.append(val[t2, c2, kv])
                    heads.append(torch.stack(logits).softmax(0) @ torch.stack(values))
                rows.append(torch.cat(heads) @ attention.out.weight.T)
        out[b, :, :C_b] = torch.stack(rows).view(T, C_b, D)
    return out


def relative(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-300))


class Case:
    """A random attention layer and input; logits of order one so that every term matters."""

    def __init__(self, *, B=2, T=4, C=3, K=2, G=2, d=3, seed=0, extra_rows=2, n_valid=None, **choices):
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        D = K * G * d
        self.attention = MultivariateParallelAttention(D, n_heads=K * G, n_kv_heads=K, **choices).double()
        with torch.no_grad():
            for parameter in self.attention.parameters():
                parameter.copy_(normal(*parameter.shape) / D**0.25)
        self.inputs = [normal(B, T, C, D), normal(T + extra_rows, D), normal(C + extra_rows, D)]
        self.n_valid = n_valid
        self.mask = None
        self.weight = normal(B, T, C, D)
        if n_valid is not None:
            self.mask = torch.arange(C) < torch.tensor(n_valid)[:, None]
            self.weight = self.weight * self.mask[:, None, :, None]

    def run(self, function, dtype=torch.float64):
        """Return the output and the gradients of all inputs and parameters of a random weighted sum."""
        attention = copy.deepcopy(self.attention).to(dtype)
        inputs = [x.to(dtype).requires_grad_() for x in self.inputs]
        leaves = [*inputs, *attention.parameters()]
        out = function(attention, *inputs)
        grads = torch.autograd.grad((out * self.weight.to(dtype)).sum(), leaves)
        valid = out if self.mask is None else out * self.mask[:, None, :, None]
        return valid.detach(), grads, out.detach()

    def reference(self, **kw):
        return self.run(lambda *x: oracle(*x, n_valid=self.n_valid, **kw))

    def ours(self, backend, dtype=torch.float64, **kw):
        self.attention.backend = backend
        return self.run(lambda f, *x: f(*x, channel_mask=self.mask, **kw), dtype)


def assert_equal(ours, reference, tolerance):
    assert relative(ours[0], reference[0]) <= tolerance
    for mine, theirs in zip(ours[1], reference[1], strict=True):
        if theirs.abs().max() < 1e-12:  # a term that cancels in the softmax
            assert mine.abs().max() < 10 * tolerance
        else:
            assert relative(mine, theirs) <= tolerance


CASES = {
    "below the window": dict(T=3, content_window=10),
    "exactly the window": dict(T=4, content_window=3),
    "above the window": dict(T=6, content_window=2),
    "far above the window": dict(T=8, C=2, content_window=1),
    "window of zero": dict(T=4, content_window=0),
    "one segment": dict(T=1),
    "one channel": dict(C=1, T=5, content_window=2),
    "no grouping": dict(K=3, G=1, T=5, content_window=2),
    "one shared key head": dict(K=1, G=4, T=4, content_window=1),
    "padded, inside": dict(C=4, n_valid=[4, 2], T=3),
    "padded, outside": dict(C=4, n_valid=[1, 3], T=5, content_window=1),
}


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("name", CASES)
def test_matches_the_equations(name, causal):
    case = Case(causal=causal, **CASES[name])
    reference = case.reference()
    for backend in BACKENDS:
        double, single = case.ours(backend), case.ours(backend, torch.float32)
        assert_equal(double, reference, 1e-10)
        assert_equal(single, reference, 1e-5)
        assert double[2].isfinite().all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_roads_agree_for_any_shape(data):
    draw = data.draw
    B, C = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    n_valid = draw(st.one_of(st.none(), st.lists(st.integers(1, C), min_size=B, max_size=B)))
    case = Case(
        B=B,
        C=C,
        T=draw(st.integers(1, 9)),
        K=draw(st.integers(1, 3)),
        G=draw(st.integers(1, 3)),
        d=draw(st.integers(1, 5)),
        content_window=draw(st.integers(0, 5)),
        causal=draw(st.booleans()),
        n_valid=n_valid,
        seed=draw(st.integers(0, 99)),
    )
    plain = case.ours("math")
    assert_equal(case.ours("sdpa"), plain, 1e-10)
    assert_equal(case.ours("fused"), plain, 1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("T", [3, 6])
def test_padding_changes_nothing_valid(backend, T):
    """The same sample alone and padded, whatever the padding holds."""
    alone = Case(B=1, C=3, T=T, content_window=2)
    padded = Case(B=1, C=6, T=T, content_window=2, n_valid=[3])
    padded.attention.load_state_dict(alone.attention.state_dict())
    padded.inputs[0][:, :, :3] = alone.inputs[0]
    padded.inputs[1] = alone.inputs[1]
    padded.inputs[2] = torch.cat([alone.inputs[2], padded.inputs[2][5:]])
    padded.weight = torch.nn.functional.pad(alone.weight, (0, 0, 0, 3))
    small, large = alone.ours(backend), padded.ours(backend)
    assert relative(large[0][:, :, :3], small[0]) < 1e-12
    assert relative(large[1][0][:, :, :3], small[1][0]) < 1e-12
    assert (large[1][0][:, :, 3:] == 0).all()
    assert relative(large[1][2][:5], small[1][2]) < 1e-12
    for mine, theirs in zip(large[1][3:], small[1][3:], strict=True):
        assert relative(mine, theirs) < 1e-12
    assert large[2].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_holes_in_the_mask_act_like_removal(backend):
    case = Case(B=1, C=5, T=5, content_window=1)
    keep = torch.tensor([True, False, True, True, False])
    case.attention.backend = backend
    tokens, time_table, channel_table = case.inputs
    with_holes = case.attention(tokens, time_table, channel_table, keep[None])
    removed = case.attention(tokens[:, :, keep], time_table, channel_table)
    assert relative(with_holes[:, :, keep], removed) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("T", [3, 6])
def test_a_sample_without_channels_stays_finite(backend, T):
    case = Case(B=2, C=3, T=T, content_window=2, n_valid=[3, 0])
    _, grads, out = case.ours(backend)
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("batched", [False, True])
def test_channel_distance_matches_the_equations(batched):
    case = Case(C=4, T=5, content_window=1)
    shape = (2, 4, 4) if batched else (4, 4)
    distance = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(1))
    reference = case.reference(distance=distance)
    for backend in BACKENDS:
        assert_equal(case.ours(backend, channel_distance=distance), reference, 1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_distances_the_order_of_channels_does_not_matter(backend):
    case = Case(C=5, T=5, content_window=1)
    case.attention.backend = backend
    tokens, time_table, channel_table = case.inputs
    distance = torch.randint(0, 5, (5, 5), generator=torch.Generator().manual_seed(2))
    order = torch.tensor([3, 0, 4, 1, 2])
    straight = case.attention(tokens, time_table, channel_table, channel_distance=distance)
    permuted = case.attention(
        tokens[:, :, order], time_table, channel_table, channel_distance=distance[order][:, order]
    )
    assert relative(permuted, straight[:, :, order]) < 1e-12


def test_scaling_by_layer_matches_the_equations():
    case = Case(T=4, content_window=1, scale_by_layer=2)
    reference = case.reference(layer_divisor=3)
    for backend in BACKENDS:
        assert_equal(case.ours(backend), reference, 1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_logits_do_not_overflow(backend):
    case = Case(T=6, content_window=1)
    with torch.no_grad():
        case.attention.query.weight.mul_(300)
    double, single = case.ours(backend), case.ours(backend, torch.float32)
    assert single[2].isfinite().all()
    assert all(g.isfinite().all() for g in single[1])
    # gradients of a saturated softmax are differences of almost equal numbers, so only values are compared
    assert relative(double[0], case.reference()[0]) < 1e-10
