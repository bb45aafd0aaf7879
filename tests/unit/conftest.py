"""A tiny real model and batches of planted structure, for the tests of objectives, training, hub and adaptation."""

from types import SimpleNamespace

import pytest
import torch

from neurofm.models import MODELS
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts

N_CHANNELS, N_SAMPLES = 5, 12
CHANNELS = tuple(f"c{i}" for i in range(N_CHANNELS))
MODEL_CHOICES = dict(
    tokenizer="linear_patch", patch_samples=3, dim=16, n_layers=2, n_heads=2, n_kv_heads=1, ffn_dim=24, dropout=0.0,
    n_channels=8, mask_token=True, channel_embedding=True, backend="math",
)  # fmt: skip


def facts(**changes):
    plain = dict(rate_hz=10.0, window_s=1.2, max_channels=N_CHANNELS, channels=CHANNELS, classes=("left", "right"))
    return Facts(**(plain | changes))


def model(seed=0, **changes):
    torch.manual_seed(seed)
    return MODELS.build("mvpformer", facts(), **(MODEL_CHOICES | changes))


def batch(n=6, seed=0, n_valid=None, n_channels=N_CHANNELS, dtype=torch.float32):
    """Channels 0 and 1 carry one slow wave each, 2 to 4 are mixtures; the class is the offset of the first."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(N_SAMPLES) / 10.0
    label = torch.randint(2, (n,), generator=g)
    phase = torch.rand(n, 2, generator=g) * 6.28
    # the phase runs on from window to window, so windows differ and the next segment follows from the present ones
    a = torch.sin(2 * torch.pi * 1.0 * t + phase[:, :1]) * 1.4
    b = torch.sin(2 * torch.pi * 1.7 * t + phase[:, 1:]) * 1.4
    a = a + (label * 2.0 - 1)[:, None]
    signal = torch.stack([a, b, (a + b) / 2, (a - b) / 2, b - a], dim=1)[:, :N_CHANNELS]
    mask = torch.ones(n, N_CHANNELS, dtype=torch.bool)
    if n_valid is not None:
        for i, k in enumerate(n_valid):
            mask[i, k:] = False
    signal = signal * mask[..., None]
    ids = torch.arange(1, N_CHANNELS + 1).expand(n, -1) * mask
    extra = n_channels - N_CHANNELS
    pad = torch.nn.functional.pad
    return NeuralBatch(
        signal=pad(signal, (0, 0, 0, extra)).to(dtype),
        channel_mask=pad(mask, (0, extra)),
        time_mask=torch.ones(n, N_SAMPLES, dtype=torch.bool),
        channel_ids=pad(ids, (0, extra)),
        rate_hz=10.0,
        target=label,
        recording_id=["r"] * n,
        start_s=torch.arange(n).double() * 1.2,
        sample_id=torch.arange(n) + 100,
    )


@pytest.fixture
def tiny():
    """Builders: tiny.model(), tiny.batch(), tiny.facts()."""
    return SimpleNamespace(model=model, batch=batch, facts=facts, choices=MODEL_CHOICES)
