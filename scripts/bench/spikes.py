"""Spikes as events against spikes in bins: time of forward and backward, memory, and how fast a loader gives them.

    python scripts/bench/spikes.py                      (500 units, 10 s at 5 Hz)
    python scripts/bench/spikes.py --device cuda
    python scripts/bench/spikes.py --units 60 --duration-s 5 --repeats 2      (small)

1. The population decoder over events against the same decoder, same weights' sizes, over bins of 5 ms, a token for every
   (unit, bin). Beside it, a network of another kind over the same bins: `ndt`, one token per bin.
2. Memory that the event road keeps for the backward pass, at 1, 2, 4 and 8 times the rate.
3. Spikes per second out of shards through one worker.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.data.corpus import Corpus
from neurofm.data.task import Task
from neurofm.models import MODELS
from neurofm.schema.batch import Events, NeuralBatch
from neurofm.schema.facts import Facts
from neurofm.schema.recording import Channel, EventStream, Recording

BIN_S = 0.005
WINDOW_S = 1.0


def spikes(n_units: int, duration_s: float, rate_hz: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Poisson spikes of equal rate, sorted."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(n_units * duration_s * rate_hz)
    return np.sort(rng.uniform(0, duration_s, n)), rng.integers(0, n_units, n)


def batch_of(n_units: int, duration_s: float, rate_hz: float, device: str) -> NeuralBatch:
    """The duration cut into windows of one second, one batch."""
    time_s, unit = spikes(n_units, duration_s, rate_hz)
    n = round(duration_s / WINDOW_S)
    window = np.minimum((time_s / WINDOW_S).astype(int), n - 1)
    offsets = np.searchsorted(window, np.arange(n + 1))
    at = np.minimum(((time_s - window * WINDOW_S) / BIN_S).astype(int), round(WINDOW_S / BIN_S) - 1)
    signal = np.zeros((n, n_units, round(WINDOW_S / BIN_S)), np.float32)
    np.add.at(signal, (window, unit, at), 1)
    return NeuralBatch(
        signal=torch.from_numpy(signal),
        channel_mask=torch.ones(n, n_units, dtype=torch.bool),
        time_mask=torch.ones(n, signal.shape[2], dtype=torch.bool),
        rate_hz=1 / BIN_S,
        channel_ids=torch.arange(1, n_units + 1).expand(n, -1),
        events=Events(
            torch.from_numpy(unit), torch.from_numpy(time_s - window * WINDOW_S).float(), torch.from_numpy(offsets)
        ),
    ).to(device)


def facts_of(n_units: int) -> Facts:
    return Facts(
        rate_hz=1 / BIN_S, window_s=WINDOW_S, max_channels=n_units, channels=tuple(f"u{i}" for i in range(n_units))
    )


def decoder(n_units: int, device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build("population_decoder", facts_of(n_units), dim=64, depth=2).to(device)


def over_bins(model: torch.nn.Module, batch: NeuralBatch) -> torch.Tensor:
    """The decoder with a token per (unit, bin), the logit of k spikes raised by ln k; equal to its event road."""
    B, C, T = batch.signal.shape
    kind = model.kind.weight
    tokens = (model.unit(batch.channel_ids) + kind[0])[:, :, None].expand(-1, -1, T, -1).flatten(1, 2)
    time_s = ((torch.arange(T, device=tokens.device) + 0.5) * BIN_S).repeat(C).expand(B, -1)
    ends = [model.unit(batch.channel_ids) + kind[k] for k in (1, 2)]
    stamps = [torch.full((B, C), t, device=tokens.device) for t in (0.0, WINDOW_S)]
    bias = torch.cat([batch.signal.flatten(1).log(), torch.zeros(B, 2 * C, device=tokens.device)], 1)
    mask = torch.ones_like(bias, dtype=torch.bool)
    return model.encode_tokens(batch, torch.cat([tokens, *ends], 1), torch.cat([time_s, *stamps], 1), mask, bias).tokens


def seconds(step, repeats: int, device: str) -> float:
    """Median time of a step."""
    found = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begin)
    return float(np.median(found[1:]))


def speed(n_units: int, duration_s: float, rate_hz: float, repeats: int, device: str) -> None:
    batch, model = batch_of(n_units, duration_s, rate_hz, device), decoder(n_units, device)
    torch.manual_seed(0)
    ndt = MODELS.build("ndt", facts_of(n_units), dim=64, n_layers=2, ffn_dim=256).to(device)

    def run(forward):
        def step():
            forward().square().mean().backward()

        return seconds(step, repeats, device)

    events = run(lambda: model(batch).tokens)
    # one window at a time: a token per (unit, bin) of all of them would not fit into a small machine
    parts = [_rows(batch, slice(i, i + 1)) for i in range(len(batch))]

    def step_over_bins() -> None:
        for part in parts:
            over_bins(model, part).square().mean().backward()

    bins = seconds(step_over_bins, 1, device)
    per_bin = run(lambda: ndt(batch).tokens)
    print(f"spikes                                     {len(batch.events.unit)}")
    print(f"population decoder over events             {events * 1e3:9.1f} ms forward + backward")
    print(f"the same over {BIN_S * 1e3:g} ms bins (unit × bin)    {bins * 1e3:9.1f} ms  ratio {bins / events:.1f}")
    print(f"ndt, one token per bin                     {per_bin * 1e3:9.1f} ms  ratio {per_bin / events:.2f}")


def _rows(batch: NeuralBatch, rows: slice) -> NeuralBatch:
    return NeuralBatch(
        signal=batch.signal[rows], channel_mask=batch.channel_mask[rows], time_mask=batch.time_mask[rows],
        rate_hz=batch.rate_hz, channel_ids=batch.channel_ids[rows],
    )  # fmt: skip


def kept_mb(n_units: int, duration_s: float, rate_hz: float, device: str) -> float:
    """What the forward pass keeps for the backward pass, in MB: most of the memory of training."""
    batch, model = batch_of(n_units, duration_s, rate_hz, device), decoder(n_units, device)
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = model(batch).tokens
        total = sum(sizes.values()) / 2**20
        out.square().mean().backward()
    return total


def memory(n_units: int, duration_s: float, rate_hz: float, device: str) -> None:
    found = {k: kept_mb(n_units, duration_s, rate_hz * k, device) for k in (1, 2, 4, 8)}
    per_rate = [(found[2 * k] - found[k]) / k for k in (1, 2, 4)]
    print("kept for backward at 1, 2, 4, 8 times the rate  " + ", ".join(f"{v:.0f}" for v in found.values()) + " MB")
    print("growth per unit of rate (equal = linear)        " + ", ".join(f"{s:.1f}" for s in per_rate) + " MB")


class Synthetic(Source):
    """One long recording of Poisson spikes."""

    name = id = "synthetic"
    modalities = ("spikes",)

    def __init__(self, n_units: int, duration_s: float, rate_hz: float) -> None:
        self.size = (n_units, duration_s, rate_hz)

    def list(self) -> list[Item]:
        """Return the one recording."""
        return [Item(key="1", fingerprint="1", open=self.open, subject="1")]

    def open(self) -> Recording:
        """Make it."""
        n_units, duration_s, _ = self.size
        units = tuple(Channel(name=f"u{i}", kind="unit") for i in range(n_units))
        stream = EventStream.from_arrays([spikes(*self.size)], duration_s=[duration_s], channels=units)
        return Recording(dataset="synthetic", subject="1", modality="spikes", streams=(stream,))


def loading(n_units: int, rate_hz: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "d"
        prepare(source=Synthetic(n_units, 120.0, rate_hz), out=out, dask="none", progress=False)
        for events in (True, False):
            corpus = Corpus(
                path=str(out),
                split={"rule": "everything"},
                bin_s=BIN_S,
                events=events,
                preload=False,
                n_workers=1,
                task=Task(window_s=WINDOW_S),
            )
            loader = corpus.loader("pretrain", corpus.facts("pretrain"), batch_size=10, seed=0, training=True)
            # the first epoch starts the worker
            for _ in loader:
                pass
            begin, n = time.perf_counter(), 0
            for _ in range(2):
                n += sum(len(b.events.unit) for b in loader)
            found = n / (time.perf_counter() - begin)
            print(f"loader, one worker, events {'alone      ' if events else 'and 5 ms bins'} {found:12,.0f} spikes/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--duration-s", type=float, default=10.0)
    parser.add_argument("--rate-hz", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    print(
        f"{given.units} units × {given.duration_s:g} s at {given.rate_hz:g} Hz, {given.device}, torch {torch.__version__}"
    )
    speed(given.units, given.duration_s, given.rate_hz, given.repeats, given.device)
    memory(given.units, given.duration_s, given.rate_hz, given.device)
    loading(given.units, given.rate_hz)


if __name__ == "__main__":
    main()
