"""Batches of spikes for the tests of spiking models."""

import torch

from neurofm.schema.batch import Events, NeuralBatch
from neurofm.schema.facts import Facts


def facts(n_units=6, *, window_s=1.0, rate_hz=100.0, n_sessions=1):
    return Facts(
        rate_hz=rate_hz, window_s=window_s, max_channels=n_units, channels=tuple(f"s/u{i}" for i in range(n_units)),
        sessions=tuple(f"d{i}" for i in range(n_sessions)),
    )  # fmt: skip


def batch_of(rows, *, n_units=6, window_s=1.0, rate_hz=100.0, ids=None):
    """One window per list of (time_s, unit)."""
    B, T = len(rows), round(window_s * rate_hz)
    signal = torch.zeros(B, n_units, T)
    for b, row in enumerate(rows):
        for t, u in row:
            signal[b, u, int(t * rate_hz + 1e-6)] += 1
    flat = [e for row in rows for e in row]
    return NeuralBatch(
        signal=signal,
        channel_mask=torch.ones(B, n_units, dtype=torch.bool),
        time_mask=torch.ones(B, T, dtype=torch.bool),
        rate_hz=rate_hz,
        channel_ids=torch.arange(1, n_units + 1).expand(B, -1) if ids is None else ids,
        session=torch.ones(B, dtype=torch.long),
        events=Events(
            torch.tensor([u for _, u in flat], dtype=torch.long),
            torch.tensor([t for t, _ in flat], dtype=torch.float32),
            torch.tensor([0, *(len(r) for r in rows)]).cumsum(0),
        ),
    )


def random_rows(n_rows, *, n_units=6, window_s=1.0, n=30, seed=0, grid_s=None):
    g = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(n_rows):
        t = (torch.rand(n, generator=g) * window_s).double()
        if grid_s:
            t = (t / grid_s).floor() * grid_s
        u = torch.randint(n_units, (n,), generator=g)
        rows.append(sorted(zip(t.tolist(), u.tolist(), strict=True)))
    return rows
