"""Chunked classifiers of codes against plain cross-entropy."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from neurofm.nn import code_heads
from neurofm.nn.code_heads import CodeHeads
from neurofm.schema.errors import ConfigError


def plain(heads, tokens, code):
    x = tokens.unflatten(-1, (heads.n_branches, -1))
    losses, hits, start = [], [], 0
    for k, size in enumerate(heads.sizes):
        logits = x[:, k * heads.n_branches // len(heads.sizes)] @ heads.weight[start : start + size].T
        logits = logits + heads.bias[start : start + size]
        losses.append(F.cross_entropy(logits, code[:, k]))
        hits.append((logits.argmax(1) == code[:, k]).double().mean())
        start += size
    return torch.stack(losses), torch.stack(hits)


@pytest.mark.parametrize(("sizes", "branches"), [((7, 5, 11, 7), 2), ((9,), 1), ((4, 6), 1)])
@pytest.mark.parametrize("held", [16, 2**22])
def test_losses_and_gradients_are_those_of_plain_cross_entropy(monkeypatch, sizes, branches, held):
    monkeypatch.setattr(code_heads, "_LOGITS", held)
    torch.manual_seed(0)
    heads = CodeHeads(8, sizes=sizes, n_branches=branches).double()
    torch.nn.init.normal_(heads.weight)
    torch.nn.init.normal_(heads.bias)
    tokens = torch.randn(13, 8, dtype=torch.float64, requires_grad=True)
    code = torch.stack([torch.randint(v, (13,)) for v in sizes], 1)
    weight = torch.rand(len(sizes), dtype=torch.float64)
    results = []
    for f in (heads, lambda t, c: plain(heads, t, c)):
        loss, hits = f(tokens, code)
        results.append([loss, hits, *torch.autograd.grad((loss * weight).sum(), [tokens, heads.weight, heads.bias])])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    number = len(sizes) - 1
    expected = F.cross_entropy(heads.logits(tokens, number), code[:, number])
    assert torch.allclose(expected, results[0][0][number])


def test_no_tokens_cost_nothing():
    heads = CodeHeads(4, sizes=(3, 5))
    loss, hits = heads(torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 2, dtype=torch.long))
    loss.sum().backward()
    assert not loss.any()
    assert not hits.any()
    assert not heads.weight.grad.any()


def test_half_precision_gives_losses_in_full():
    heads = CodeHeads(8, sizes=(9, 9))
    tokens, code = torch.randn(20, 8), torch.randint(9, (20, 2))
    loss, _ = heads(tokens.bfloat16().requires_grad_(), code)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert torch.allclose(loss, heads(tokens, code)[0], rtol=0.02)


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Most numbers that one tensor made inside holds."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor):
                self.most = max(self.most, t.untyped_storage().nbytes() // t.element_size())
        return out


def test_no_tensor_grows_with_the_number_of_codebooks_but_the_weights(monkeypatch):
    monkeypatch.setattr(code_heads, "_LOGITS", 4096)
    n, size = 600, 64
    for levels in (2, 16):
        heads = CodeHeads(4, sizes=(size,) * levels)
        tokens = torch.randn(n, 4, requires_grad=True)
        with _Largest() as seen:
            loss, _ = heads(tokens, torch.randint(size, (n, levels)))
            loss.sum().backward()
        # all logits would be n · size · levels
        assert seen.most <= max(heads.weight.numel(), 4096, n * levels, n * 4)


def test_branches_that_do_not_fit_get_a_sentence():
    with pytest.raises(ConfigError, match="3 codebooks and tokens of 8 numbers do not fall into 2"):
        CodeHeads(8, sizes=(5, 5, 5), n_branches=2)
