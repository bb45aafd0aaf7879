"""Tokens compete in the batch of all ranks, so that the number of ranks does not change what is learned."""

import datetime
import os

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=10.0, window_s=1.2, max_channels=4, channels=("a", "b", "c", "d"))


def batch_of(rows):
    """Some of six windows, of two to four channels each, padded to the widest among them."""
    g = torch.Generator().manual_seed(5)
    signal, counts = torch.randn(6, 4, 12, generator=g, dtype=torch.float64), torch.tensor([4, 2, 3, 2, 4, 2])
    there = torch.arange(4) < counts[:, None]
    signal, there = (signal * there[..., None])[rows], there[rows]
    width = int(there.sum(1).max())
    return NeuralBatch(
        signal=signal[:, :width], channel_mask=there[:, :width], rate_hz=10.0,
        time_mask=torch.ones(len(signal), 12, dtype=torch.bool), channel_ids=torch.arange(1, width + 1).expand(len(signal), -1),
    )  # fmt: skip


def build(choices):
    torch.manual_seed(7)
    model = MODELS.build(
        "mvpformer", FACTS, patch_samples=3, dim=8, n_layers=1, n_heads=2, ffn_dim=8, dropout=0.0, n_channels=5,
        backend="math",
    )  # fmt: skip
    objective = OBJECTIVES.build("next_state", model, FACTS, n_negatives=5, **choices)
    return model.double(), objective.double()


def gradients(model, objective, rows):
    loss = objective(model, batch_of(rows), torch.Generator().manual_seed(0))
    loss.total.backward()
    return loss, [p.grad for p in [*model.parameters(), *objective.parameters()] if p.grad is not None]


def _rank(rank, address, choices, result):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    # the odd windows have two channels: the ranks pad to different widths; five windows: one rank holds one more
    loss, grads = gradients(*build(choices), torch.arange(5)[rank::2])
    figures = [loss.total.detach(), loss.metrics["top1"], *grads]
    for x in figures:
        # what data-parallel training does
        dist.all_reduce(x)
        x /= 2
    if rank == 0:
        torch.save(figures, result)
    dist.destroy_process_group()


@pytest.mark.parametrize("choices", [{}, {"sampling": "published", "detach_targets": True}])
def test_two_ranks_contrast_what_one_process_would(tmp_path, choices):
    multiprocessing.spawn(_rank, (f"file://{tmp_path}/store", choices, str(tmp_path / "out.pt")), nprocs=2)
    got = torch.load(tmp_path / "out.pt", weights_only=True)
    loss, grads = gradients(*build(choices), torch.arange(5))
    want = [loss.total.detach(), loss.metrics["top1"], *grads]
    assert len(got) == len(want) > 8
    for a, b in zip(got, want, strict=True):
        assert (a - b).abs().max() <= (1e-10 if b.dtype == torch.float64 else 1e-6) * b.abs().max()
