"""The `flex` road: its rules on any machine (eagerly, values only), its kernel and gradients on a CUDA device."""

import pytest
import torch

from neurofm.nn.mvpa import MultivariateParallelAttention
from neurofm.nn.mvpa_flex import attend, key_blocks, layout, mask_rule
from neurofm.nn.mvpa_roads import ROADS, Terms, masked_logit
from neurofm.schema.errors import ConfigError

# T segments, R query rows and C channels: several blocks, blocks cut inside a segment, and less than one block
SHAPES = [(12, 40, 40), (5, 60, 30), (4, 3, 3), (1, 6, 2), (3, 128, 128)]
cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def random_terms(T, R, C, causal, *, B=2, K=2, d=5):
    normal = torch.Generator().manual_seed(T)
    query, key, value, time, channel = (
        torch.randn(B, K, T, *rest, generator=normal) for rest in ((R, d), (C, d), (C, d), (R, T), (R, C))
    )
    segment = torch.arange(T)
    if causal:
        time = time.masked_fill(segment[None, :] > segment[:, None, None], masked_logit(time.dtype))
    if C > 2:
        channel[1, ..., C - 1] = masked_logit(channel.dtype)  # the second sample's last channel is padding
    return Terms(query, key, value, time, channel)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", [0, 2])
def test_eager_values_are_those_of_the_plain_road(shape, window, causal):
    from torch.nn.attention.flex_attention import flex_attention

    terms = random_terms(*shape, causal)
    plain = ROADS["math"](terms, window, causal)
    assert (attend(terms, window, causal, flex_attention) - plain).abs().max() <= 1e-5 * plain.abs().max()


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_are_those_of_the_written_out_mask(shape, causal):
    from torch.nn.attention.flex_attention import create_block_mask

    where = layout(*shape, 2, causal, torch.device("cpu"))
    ours = key_blocks(where)
    theirs = create_block_mask(mask_rule(where), None, None, len(where.segment), len(where.key_segment), device="cpu")
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert torch.equal(ours.full_kv_num_blocks, theirs.full_kv_num_blocks)
    assert ours.seq_lengths == theirs.seq_lengths


def test_no_query_sees_the_future_or_the_padding():
    where = layout(5, 3, 3, 1, True, torch.device("cpu"))
    query, key = torch.arange(128)[:, None], torch.arange(128)[None]
    seen = mask_rule(where)(None, None, query, key)[:15]
    assert torch.equal(seen[:, :15], (key // 3 <= query // 3)[:15, :15])
    assert not seen[:, 15:].any()


def test_without_a_cuda_device_the_fix_is_named():
    layer = MultivariateParallelAttention(8, n_heads=2, backend="flex")
    with pytest.raises(ConfigError, match="needs a CUDA device, not 'cpu': use 'sdpa'"):
        layer(torch.randn(1, 2, 3, 8), torch.randn(2, 8), torch.randn(3, 8))


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("backend", [pytest.param(name, marks=cuda) for name in ("sdpa", "flex")])
@pytest.mark.parametrize(("T", "C", "window"), [(3, 20, 10), (12, 20, 2), (20, 64, 10)])
def test_values_and_gradients_on_a_cuda_device(T, C, window, backend, causal):
    """Against the plain road in float64 on the same device."""
    torch.manual_seed(0)
    layer = MultivariateParallelAttention(64, n_heads=4, n_kv_heads=2, content_window=window, causal=causal).cuda()
    inputs = [torch.randn(*shape, device="cuda") for shape in ((2, T, C, 64), (T, 64), (C, 64))]
    mask = torch.arange(C, device="cuda") < torch.tensor([[C], [C - 5]], device="cuda")
    weight = torch.randn(2, T, C, 64, device="cuda") * mask[:, None, :, None]

    def run(name, dtype):
        layer.backend = name
        layer.to(dtype)
        leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
        out = layer(*leaves, mask)
        grads = torch.autograd.grad((out * weight.to(dtype)).sum(), [*leaves, *layer.parameters()])
        return [(out * mask[:, None, :, None]).double(), *(g.double() for g in grads)]

    for ours, exact in zip(run(backend, torch.float32), run("math", torch.float64), strict=True):
        assert (ours - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize("backend", [pytest.param(name, marks=cuda) for name in ("math", "sdpa", "flex")])
def test_bfloat16_on_a_cuda_device(backend):
    torch.manual_seed(0)
    layer = MultivariateParallelAttention(64, n_heads=4, n_kv_heads=2, backend=backend).cuda()
    tokens, tables = torch.randn(2, 14, 20, 64, device="cuda"), torch.randn(20, 64, device="cuda")
    layer.backend = "math"
    exact = layer(tokens, tables, tables)
    layer.backend = backend
    with torch.autocast("cuda", dtype=torch.bfloat16):
        mixed = layer(tokens, tables, tables)
    mixed.float().sum().backward()
    half = layer.bfloat16()(tokens.bfloat16(), tables.bfloat16(), tables.bfloat16())
    for out in (mixed, half):
        assert (out.float() - exact).abs().max() < 0.05 * exact.abs().max()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
