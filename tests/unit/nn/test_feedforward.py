import torch

from neurofm.nn.feedforward import SwiGLU


def test_swiglu_is_what_it_says():
    layer = SwiGLU(4, inner_dim=6).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    gate, up = x @ layer.gate.weight.T, x @ layer.up.weight.T
    expected = (gate / (1 + torch.exp(-gate)) * up) @ layer.down.weight.T
    assert (layer(x) - expected).abs().max() < 1e-12
