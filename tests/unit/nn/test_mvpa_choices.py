"""What the parity tests do not see: messages, dropout, the choice of road, memory."""

import pytest
import torch

from neurofm.nn.mvpa import MultivariateParallelAttention
from neurofm.nn.mvpa_roads import pick_road
from neurofm.schema.errors import ConfigError


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (dict(n_heads=3), "n_heads=3 does not divide dim=8"),
        (dict(n_heads=4, n_kv_heads=3), "n_kv_heads=3 does not divide n_heads=4"),
        (dict(n_heads=2, content_window=-1), "content_window"),
        (dict(n_heads=2, dropout=1.0), "dropout"),
        (dict(n_heads=2, backend="sdpaa"), "did you mean 'sdpa'"),
    ],
)
def test_wrong_choices_are_refused_in_a_sentence(choices, message):
    with pytest.raises(ConfigError, match=message):
        MultivariateParallelAttention(8, **choices)


def test_short_tables_and_wrong_distances_are_refused():
    layer = MultivariateParallelAttention(8, n_heads=2)
    tokens = torch.randn(1, 4, 3, 8)
    with pytest.raises(ConfigError, match="time table has 3 rows but the input has 4 segments"):
        layer(tokens, torch.randn(3, 8), torch.randn(3, 8))
    with pytest.raises(ConfigError, match="channel table has 2 rows but the input has 3 channels"):
        layer(tokens, torch.randn(4, 8), torch.randn(2, 8))
    with pytest.raises(ConfigError, match="channel_distance"):
        layer(tokens, torch.randn(4, 8), torch.randn(3, 8), channel_distance=torch.full((3, 3), 3))


def test_parameters_are_those_of_the_paper():
    layer = MultivariateParallelAttention(12, n_heads=6, n_kv_heads=2)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "bias": (3, 2, 2),
        "query.weight": (12, 12),
        "key_value.weight": (8, 12),
        "time_key.weight": (4, 12),
        "channel_key.weight": (4, 12),
        "out.weight": (12, 12),
    }


def test_dropout_takes_the_same_keys_on_both_roads_and_is_right_on_average():
    layer = MultivariateParallelAttention(8, n_heads=2, content_window=1, dropout=0.3)
    tokens, tables = torch.randn(2, 5, 4, 8), torch.randn(5, 8)
    outs = {}
    for backend in ("math", "sdpa"):
        layer.backend = backend
        torch.manual_seed(3)
        outs[backend] = layer(tokens, tables, tables)
    assert torch.allclose(outs["math"], outs["sdpa"], atol=1e-6)
    with torch.no_grad():
        mean = torch.stack([layer(tokens, tables, tables) for _ in range(3000)]).mean(0)
        exact = layer.eval()(tokens, tables, tables)
    assert not torch.allclose(outs["math"], exact, atol=1e-3)
    assert (mean - exact).abs().max() < 0.1 * exact.abs().max()


def test_auto_takes_the_plain_road_for_small_inputs_only():
    cpu = torch.device("cpu")
    assert pick_road(device=cpu, n_batch=1, n_heads=8, n_segments=25, n_channels=8) == "math"
    assert pick_road(device=cpu, n_batch=1, n_heads=8, n_segments=32, n_channels=64) == "sdpa"
    assert pick_road(device=cpu, n_batch=32, n_heads=8, n_segments=25, n_channels=8) == "sdpa"
    # 16 × 16 tokens: without a backward pass the segments win earlier
    sizes = dict(n_batch=1, n_heads=8, n_segments=16, n_channels=16)
    assert pick_road(device=cpu, **sizes) == "math"
    assert pick_road(device=cpu, **sizes, gradient=False) == "sdpa"


@pytest.mark.parametrize("batched", [False, True], ids=["one distance", "distances per sample"])
def test_inference_in_parts_is_inference_at_once(batched):
    """8 MB hold one of these samples, so that each is a part of its own."""
    layer = MultivariateParallelAttention(8, n_heads=2)
    tokens, tables = torch.randn(3, 4, 300, 8), torch.randn(300, 8)
    mask = torch.arange(300) < torch.tensor([[300], [299], [150]])
    distance = torch.randint(0, 150, (3, 300, 300) if batched else (300, 300))
    at_once = layer(tokens, tables, tables, mask, distance)
    with torch.no_grad():
        in_parts = layer(tokens, tables, tables, mask, distance)
    assert torch.allclose(in_parts, at_once, atol=1e-6)


@pytest.mark.parametrize("T", [3, 6])
@pytest.mark.parametrize("backend", ["math", "sdpa"])
def test_bfloat16_runs_under_autocast_and_alone(backend, T):
    layer = MultivariateParallelAttention(16, n_heads=2, content_window=2, backend=backend)
    tokens, tables = torch.randn(2, T, 3, 16), torch.randn(8, 16)
    exact = layer(tokens, tables, tables)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer(tokens, tables, tables)
    mixed.float().sum().backward()
    half = layer.bfloat16()(tokens.bfloat16(), tables.bfloat16(), tables.bfloat16())
    assert half.dtype == torch.bfloat16
    for out in (mixed, half):
        assert (out.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_the_sdpa_road_keeps_less_than_all_pairs():
    """What autograd holds until the backward pass, in floats, against one matrix of logits."""
    B, T, C, D, H = 1, 24, 24, 16, 2
    layer = MultivariateParallelAttention(D, n_heads=H, content_window=3, backend="sdpa")
    kept: dict[int, int] = {}

    def remember(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    tokens, tables = torch.randn(B, T, C, D, requires_grad=True), torch.randn(T, D)
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda x: x):
        layer(tokens, tables, tables)
    tokens_in_all = B * T * C
    assert sum(kept.values()) < 8 * tokens_in_all * (12 * D + 6 * H * (T + C))
    assert sum(kept.values()) < 4 * H * tokens_in_all**2
