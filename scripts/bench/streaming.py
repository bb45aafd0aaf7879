"""Windows per second of the road from shards to batches, against five other ways to the same windows, in one run.

    python scripts/bench/streaming.py                                   # 8 people × 5 min × 64 channels at 500 Hz, windows of 4 s (64 × 2000)
    python scripts/bench/streaming.py --people 2 --minutes 2            # quick
    python scripts/bench/streaming.py --window-s 1 --workers 2          # other windows, and worker processes

The same windows of the same recordings everywhere, to float32 in physical units, in batches, all files in the system's
cache, one process and one thread (`--workers` adds a line for the loader with worker processes):

  loader       `WindowLoader` over int16 shards, random order, complete `NeuralBatch`es (masks, ids), time_first=True: signal
               is a view [window, channel, time] of memory [window, time, channel]
  loader_ct    the same with contiguous signal [window, channel, time], the default
  memmap       one memory-mapped int16 file, the loader's own random order, scaled to float32 into [window, time, channel]
  memmap_ct    the same, into [window, channel, time] as a batch needs it
  webdataset   the same tars by plain `webdataset.WebDataset`, from beginning to end, each sample cut into its windows
  fif          MNE-style lazy windows: `mne.io.read_raw_fif(preload=False)`, one slice per window, random order
  hdf5         one HDF5 dataset per window, float32, random order
  hdf5_chunks  one HDF5 dataset of all windows, one chunk each, float32, random order

Before anything is timed, all ways are checked to give the same numbers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.data.dataset import Dataset
from neurofm.data.loading.loader import WindowLoader
from neurofm.data.splits.parts import whole
from neurofm.data.windows import sliding
from neurofm.schema.recording import Channel, Recording, Stream

RATE_HZ = 500.0
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Batches = Iterator[tuple[np.ndarray, np.ndarray]]


class People(Source):
    """Random walks in microvolts, one recording each."""

    name = id = "bench"

    def __init__(self, n: int, minutes: float, n_channels: int) -> None:
        self.n, self.minutes, self.n_channels = n, minutes, n_channels

    def array(self, i: int) -> np.ndarray:
        """Samples of one person, shape (time, channel)."""
        rng = np.random.default_rng(i)
        steps = rng.standard_normal((round(self.minutes * 60 * RATE_HZ), self.n_channels), dtype=np.float32)
        return 30 * steps + np.sin(np.arange(len(steps), dtype=np.float32) / 40)[:, None]

    def open(self, i: int) -> Recording:
        """Recording of one person."""
        channels = tuple(Channel(name=f"c{k}", unit="uV") for k in range(self.n_channels))
        stream = Stream.from_arrays([self.array(i)], rate_hz=RATE_HZ, channels=channels, unit="uV")
        return Recording(
            dataset=self.id, subject=f"{i:03d}", modality="eeg", interval_start_s=(0.0,), streams=(stream,)
        )

    def list(self) -> list[Item]:
        """All people."""
        return [
            Item(key=str(i), fingerprint="1", subject=f"{i:03d}", open=partial(self.open, i)) for i in range(self.n)
        ]


def write_others(folder: Path, dataset: Dataset, windows: list) -> None:
    """Write the recordings of a dataset as one flat file, as FIF, and window by window as HDF5."""
    import h5py
    import mne

    with (
        open(folder / "flat.i2", "wb") as flat,
        h5py.File(folder / "each.h5", "w") as each,
        h5py.File(folder / "chunks.h5", "w") as chunks,
    ):
        shape = (windows[0].n_samples, len(dataset.channels(windows[0].recording_id)))
        table = chunks.create_dataset("windows", (len(windows), *shape), "f4", chunks=(1, *shape))
        for r in dataset.recordings:
            x = dataset.read_interval(r, 0)
            scale = np.array([c["scale"] for c in dataset.channels(r)], np.float32)
            offset = np.array([c["offset"] for c in dataset.channels(r)], np.float32)
            np.rint((x - offset) / scale).astype(np.int16).tofile(flat)
            info = mne.create_info(len(scale), RATE_HZ, "eeg")
            mne.io.RawArray(1e-6 * x.T, info, verbose="error").save(
                folder / f"{r}_raw.fif", fmt="single", verbose="error"
            )
        for i, w in enumerate(windows):
            x = dataset.read(w.recording_id, w.start_s, w.n_samples)
            each.create_dataset(str(i), data=x)
            table[i] = x


def loader_batches(loader: WindowLoader) -> Batches:
    loader.set_epoch(1)
    loader.set_epoch(0)
    for b in loader:
        yield b.sample_id.numpy(), b.signal.numpy().transpose(0, 2, 1)


def memmap_batches(plan: np.ndarray, folder: Path, dataset: Dataset, windows: list, *, channel_first: bool) -> Batches:
    first, at = {}, 0
    for r in dataset.recordings:
        first[r] = at
        at += dataset.interval_samples(r)[0]
    rows = {r: dataset.channels(r) for r in dataset.recordings}
    # torch's copy, product and sum in place: the fastest conversion known here, and the loader's own
    scale = {r: torch.tensor([c["scale"] for c in rows[r]]) for r in rows}
    offset = {r: torch.tensor([c["offset"] for c in rows[r]]) for r in rows}
    shifted = any(bool(o.any()) for o in offset.values())
    n, n_channels = windows[0].n_samples, len(scale[next(iter(scale))])
    held = torch.from_numpy(np.memmap(folder / "flat.i2", np.int16, "r+").reshape(-1, n_channels))
    scratch = torch.empty((n, n_channels))
    places = [(w.recording_id, first[w.recording_id] + round(w.start_s * RATE_HZ)) for w in windows]
    for ids in plan:
        # numpy's memory comes in large pages, torch's does not
        whole = torch.from_numpy(
            np.empty((len(ids), n_channels, n) if channel_first else (len(ids), n, n_channels), np.float32)
        )
        for k, i in enumerate(ids.tolist()):
            r, begin = places[i]
            x = (scratch if channel_first else whole[k]).copy_(held[begin : begin + n]).mul_(scale[r])
            if shifted:
                x.add_(offset[r])
            if channel_first:
                whole[k].copy_(scratch.t())
        yield ids, (whole.transpose(1, 2) if channel_first else whole).numpy()


def webdataset_batches(folder: Path, dataset: Dataset, windows: list, batch_size: int) -> Batches:
    import webdataset as wds

    number = {(w.recording_id, round(w.start_s * RATE_HZ)): i for i, w in enumerate(windows)}
    n = windows[0].n_samples
    rows = {r: dataset.channels(r) for r in dataset.recordings}
    scale = {r: np.array([c["scale"] for c in rows[r]], np.float32) for r in rows}
    offset = {r: np.array([c["offset"] for c in rows[r]], np.float32) for r in rows}
    urls = sorted(str(p) for p in folder.glob("shards/*.tar"))
    ids, found = [], []
    for sample in wds.WebDataset(urls, shardshuffle=False).decode():
        r, start = sample["json"]["recording_id"], round(sample["json"]["start_s"] * RATE_HZ)
        x = sample["signal.npy"] * scale[r]
        if offset[r].any():
            x += offset[r]
        for at in range(0, len(x) - n + 1, n):
            if (r, start + at) not in number:
                continue  # it has no windows across segments
            ids.append(number[r, start + at])
            found.append(x[at : at + n])
            if len(ids) == batch_size:
                yield np.array(ids), torch.from_numpy(np.stack(found)).numpy()
                ids, found = [], []


def fif_batches(plan: np.ndarray, folder: Path, windows: list) -> Batches:
    import mne

    raws = {r: mne.io.read_raw_fif(folder / f"{r}_raw.fif", verbose="error") for r in {w.recording_id for w in windows}}
    for ids in plan:
        found = []
        for i in ids.tolist():
            w = windows[i]
            begin = round(w.start_s * RATE_HZ)
            found.append((1e6 * raws[w.recording_id][:, begin : begin + w.n_samples][0]).astype(np.float32))
        yield ids, torch.from_numpy(np.stack(found)).numpy().transpose(0, 2, 1)


def hdf5_batches(plan: np.ndarray, path: Path) -> Batches:
    import h5py

    with h5py.File(path, "r") as f:
        one = f.get("windows")
        for ids in plan:
            found = [one[i] if one is not None else f[str(i)][()] for i in ids.tolist()]
            yield ids, torch.from_numpy(np.stack(found)).numpy()


def rate_of(batches: Callable[[], Batches], most: int, clock: Callable[[], float]) -> float:
    """Windows per second over at most so many windows."""
    seen, started = 0, clock()
    for ids, _ in batches():
        seen += len(ids)
        if seen >= most:
            break
    return seen / (clock() - started)


def check(ways: dict[str, Callable[[], Batches]], dataset: Dataset, windows: list) -> None:
    """Every way gives the dataset's own numbers for its first batch."""
    for name, batches in ways.items():
        ids, x = next(batches())
        for i, got in zip(ids.tolist(), x, strict=True):
            w = windows[i]
            expected = dataset.read(w.recording_id, w.start_s, w.n_samples)
            worst = np.abs(got - expected).max() / np.abs(expected).max()
            assert worst <= 1e-5, f"{name}: window {i} is off by {worst:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--window-s", type=float, default=4.0)
    parser.add_argument("--segment-s", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cache-mb", type=float, default=256, help="the loader's memory for segments; 0 = none")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: the reading process's own time, where others work too"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shards, others = folder / "shards", folder / "others"
        others.mkdir()
        source = People(given.people, given.minutes, given.channels)
        prepare(source=source, out=shards, segment_s=given.segment_s, dask="none", progress=False)
        dataset = Dataset(shards, cache_mb=given.cache_mb)
        windows = sliding(dataset, whole(dataset, sorted(dataset.recordings)), window_s=given.window_s)
        write_others(others, dataset, windows)
        loader, contiguous = (
            WindowLoader(Dataset(shards, cache_mb=given.cache_mb), windows, batch_size=given.batch, time_first=first)
            for first in (True, False)
        )
        plan = loader.plan(0)
        ways: dict[str, Callable[[], Batches]] = {
            "loader": partial(loader_batches, loader),
            "loader_ct": partial(loader_batches, contiguous),
            "memmap": partial(memmap_batches, plan, others, dataset, windows, channel_first=False),
            "memmap_ct": partial(memmap_batches, plan, others, dataset, windows, channel_first=True),
            "webdataset": partial(webdataset_batches, shards, dataset, windows, given.batch),
            "hdf5": partial(hdf5_batches, plan, others / "each.h5"),
            "hdf5_chunks": partial(hdf5_batches, plan, others / "chunks.h5"),
            "fif": partial(fif_batches, plan, others, windows),
        }
        if given.workers:
            more = WindowLoader(
                Dataset(shards, cache_mb=given.cache_mb), windows, batch_size=given.batch, n_workers=given.workers,
                time_first=True,
            )  # fmt: skip
            ways["loader_workers"] = partial(loader_batches, more)
        check(ways, dataset, windows)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.repeats + 1):
            for name, batches in ways.items():
                # the slow ones get fewer windows: enough for a rate
                rates[name].append(
                    rate_of(batches, len(windows) if name not in ("fif",) else 20 * given.batch, CLOCKS[given.clock])
                )
    size_mb = sum(len(p) for p in plan) * windows[0].n_samples * given.channels * 4 / 2**20
    print(
        f"{len(windows)} windows of {given.channels} channels × {windows[0].n_samples} samples, {size_mb:.0f} MB as float32, "
        f"batches of {given.batch}; median of {given.repeats} rounds after one to warm up"
    )
    # rounds are taken in turns, so a ratio compares what ran within seconds of each other
    for name in ways:
        rounds = rates[name][1:]
        ratio = np.median([a / b for a, b in zip(rates["loader"][1:], rounds, strict=True)])
        print(f"{name:14s} {np.median(rounds):9.0f} windows/s   loader / {name} = {ratio:6.2f}")

    def against(name: str) -> float:
        return float(np.median([a / b for a, b in zip(rates["loader"][1:], rates[name][1:], strict=True)]))

    for what, value, wanted in (
        ("of memory-mapped cutting in the same order", against("memmap"), 0.7),
        ("× plain WebDataset", against("webdataset"), 3.0),
        ("× lazy windows from FIF", against("fif"), 2.0),
        ("× an HDF5 dataset per window", against("hdf5"), 2.0),
    ):
        print(f"{'reached' if value >= wanted else 'MISSED '}  {value:5.2f} {what} (wanted {wanted})")


if __name__ == "__main__":
    main()
