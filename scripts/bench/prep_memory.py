"""Peak memory of preparing one long recording in one process, and hours of recording per minute.

    python scripts/bench/prep_memory.py              # 24 h × 64 channels × 1024 Hz: 22.6 GB of input, a while
    python scripts/bench/prep_memory.py --hours 1    # the same blocks, fewer of them
    python scripts/bench/prep_memory.py --stored 1   # 24 h that are one hour on disk, read again and again

The input is a float32 file written block by block. Where the disk has no room for it (and for the output, twice),
fewer hours are stored and the reader begins again at the file's end; preparation is none the wiser. The stages look at all of it for units, holes and bad channels,
filter, re-reference and resample. Peak memory is the largest resident set of the process, Python and libraries included.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from data_prep.sources.base import Item, Source
from neurofm.schema.recording import Channel, Recording, Stream

LIMIT_MB = 2000
STAGES = (
    {"name": "unit_repair"},
    {"name": "quality"},
    {"name": "notch", "line_hz": 50, "harmonics": 4},
    {"name": "filter", "low_hz": 0.5},
    {"name": "bad_channels"},
    {"name": "rereference"},
    {"name": "resample", "rate_hz": 512},
)


def write_file(path: Path, hours: float, n_channels: int, rate_hz: float) -> int:
    """Write noise with an offset, drifts and line noise, a minute at a time; return the number of samples."""
    size, total, done = round(60 * rate_hz), round(hours * 3600 * rate_hz), 0
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((size + 997, n_channels)).astype(np.float32)
    drift = rng.standard_normal(n_channels)
    with open(path, "wb") as f:
        while done < total:
            n = min(size, total - done)
            t = (done + np.arange(n)) / rate_hz
            k = int(rng.integers(997))
            common = 20 * np.sin(2 * np.pi * 10 * t) + 5 * np.sin(2 * np.pi * 50 * t)
            x = 4000 + 10 * noise[k : k + n] + common[:, None] + 100 * np.sin(t / 1000)[:, None] * drift
            x.astype("<f4").tofile(f)
            done += n
    return total


def read(path: Path, stored: int, n_channels: int, interval: int, start: int, stop: int) -> np.ndarray:
    """Read samples of a file of `stored` samples that goes on from its beginning."""
    parts, at = [], start
    while at < stop:
        n = min(stop - at, stored - at % stored)
        parts.append(np.fromfile(path, "<f4", n * n_channels, offset=4 * (at % stored) * n_channels))
        at += n
    return np.concatenate(parts).reshape(-1, n_channels)


def hours_that_fit(folder: Path, hours: float, n_channels: int, rate_hz: float) -> float:
    """Return how many hours of input the disk takes beside the output, at half the rate in int16, written twice."""
    per_hour = 3600 * rate_hz * n_channels
    room = shutil.disk_usage(folder).free - 2 * hours * per_hour - (2 << 30)
    if room < 0.1 * 4 * per_hour:
        raise SystemExit(f"{folder}: too little room for the output; choose another --folder")
    return min(hours, room / (4 * per_hour))


def open_file(path: Path, stored: int, n: int, n_channels: int, rate_hz: float) -> Recording:
    channels = tuple(Channel(name=f"A{i + 1}", kind="seeg", unit="uV") for i in range(n_channels))
    stream = Stream(
        rate_hz=rate_hz, channels=channels, n_samples=(n,), unit="uV", read=partial(read, path, stored, n_channels)
    )
    return Recording(dataset="long", subject="1", modality="ieeg", streams=(stream,))


class OneFile(Source):
    """The file as the only recording."""

    name = id = "long"
    modalities = ("ieeg",)

    def __init__(self, path: Path, stored: int, n: int, n_channels: int, rate_hz: float) -> None:
        self._open = partial(open_file, path, stored, n, n_channels, rate_hz)

    def list(self) -> list[Item]:
        """Return the one item."""
        return [Item(key="long", fingerprint="1", open=self._open)]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1024.0, help="Hz")
    parser.add_argument("--folder", type=Path, default=None, help="where there is room for input and output")
    parser.add_argument("--stored", type=float, default=None, help="hours on disk; default all that fit")
    args = parser.parse_args()
    from data_prep.pipeline import prepare

    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        top = Path(temporary)
        n = round(args.hours * 3600 * args.rate)
        wanted = args.stored or hours_that_fit(top, args.hours, args.channels, args.rate)
        stored = write_file(top / "long.f4", min(wanted, args.hours), args.channels, args.rate)
        print(
            f"{args.hours:g} h × {args.channels} channels × {args.rate:g} Hz: {n * args.channels * 4 / 1e9:.2f} GB of input, "
            f"{stored * args.channels * 4 / 1e9:.2f} GB of it on disk"
        )
        before = peak_mb()
        source = OneFile(top / "long.f4", stored, n, args.channels, args.rate)
        began, cpu = time.monotonic(), time.process_time()
        report = prepare(source=source, out=top / "out", stages=STAGES, dask="none", progress=False)
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
        print(
            f"before: {before:.0f} MB; peak: {peak_mb():.0f} MB, limit {LIMIT_MB} MB: {'ok' if peak_mb() < LIMIT_MB else 'TOO MUCH'}"
        )
        print(
            f"{wall:.1f} s wall, {cpu:.1f} s CPU: {60 * args.hours / wall:.2f} hours of recording per minute "
            f"({60 * args.hours / cpu:.2f} per minute of CPU); {report.totals['bytes'] / 1e9:.2f} GB out"
        )


if __name__ == "__main__":
    main()
