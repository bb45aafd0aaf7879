"""Attention over times: against a slow loop, and only differences of times matter."""

import math

import pytest
import torch

from neurofm.nn.rotary_time import RotaryAttention, RotaryTime
from neurofm.schema.errors import ConfigError


def made(turn_values=True):
    torch.manual_seed(0)
    layer = RotaryAttention(8, context_dim=6, n_heads=2, head_dim=8, turn_values=turn_values).double()
    rotary = RotaryTime(8, shortest_s=1e-4, longest_s=2.0)
    g = torch.Generator().manual_seed(1)
    x, context = torch.randn(2, 3, 8, generator=g).double(), torch.randn(2, 5, 6, generator=g).double()
    t, s = torch.rand(2, 3, generator=g).double(), torch.rand(2, 5, generator=g).double()
    return layer, rotary, x, context, t, s


def loop(layer, rotary, x, context, t, s):
    """One query, one head, one key at a time, with rotation matrices."""

    def matrix(time):
        out = torch.eye(8, dtype=torch.float64)
        n = len(rotary.turns_per_s)
        for i, rate in enumerate(rotary.turns_per_s):
            a = 2 * math.pi * rate * float(time)
            out[i, i] = out[i + n, i + n] = math.cos(a)
            out[i, i + n], out[i + n, i] = -math.sin(a), math.sin(a)
        return out

    result = torch.zeros(2, 3, 8, dtype=torch.float64)
    for b in range(2):
        q = layer.query(layer.norm(x[b])).view(3, 2, 8)
        k, v = (z.view(5, 2, 8) for z in layer.key_value(layer.norm_context(context[b])).chunk(2, -1))
        for i in range(3):
            heads = []
            for h in range(2):
                back = [matrix(s[b, j] - t[b, i]) for j in range(5)]
                logits = torch.stack([q[i, h] @ (back[j] @ k[j, h]) for j in range(5)]) / math.sqrt(8)
                w = logits.softmax(0)
                heads.append(sum(w[j] * ((back[j] @ v[j, h]) if layer.turn_values else v[j, h]) for j in range(5)))
            result[b, i] = layer.out(torch.cat(heads))
    return result


@pytest.mark.parametrize("turn_values", [True, False])
def test_it_is_attention_with_rotation_matrices(turn_values):
    layer, rotary, x, context, t, s = made(turn_values)
    got = layer(x, rotary.angles(t, x.dtype), context, rotary.angles(s, x.dtype))
    want = loop(layer, rotary, x, context, t, s)
    assert (got - want).abs().max() / want.abs().max() < 1e-10


def test_only_differences_of_times_enter():
    layer, rotary, x, context, t, s = made()
    outs = [layer(x, rotary.angles(t + d, x.dtype), context, rotary.angles(s + d, x.dtype)) for d in (0.0, 10.0)]
    assert (outs[0] - outs[1]).abs().max() < 1e-9


def test_angles_keep_their_precision_under_autocast():
    rotary, t = RotaryTime(8), torch.tensor([[0.1234567]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cos, _ = rotary.angles(t, torch.bfloat16)
    assert cos.dtype == torch.float32


def test_a_head_that_does_not_halve_is_a_sentence():
    with pytest.raises(ConfigError, match="multiple of 4"):
        RotaryTime(6)
