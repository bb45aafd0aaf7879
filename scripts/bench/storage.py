"""Size of a dataset stored as int16 over the same as float32, all files counted, by the number of values per segment.

    python scripts/bench/storage.py

Values halve; what stands around them does not. A segment takes a JSON (a tar header of 512 bytes and one or more
blocks of 512), the array's tar header (512), its .npy header (128) and what fills the last block, beside rows in the
index and the tables. A segment of at least `ENOUGH` values is where the ratio stays at 0.52 or less.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.schema.recording import Channel, Event, Recording, Stream

LIMIT = 0.52
# name, segments, samples in each, channels, Hz
CASES = (
    ("continuous EEG, 10 min", 1, 150_000, 32, 250.0),
    ("continuous sEEG, 2 min", 1, 122_880, 64, 1024.0),
    ("one channel, 10 min", 1, 150_000, 1, 250.0),
    ("fMRI run, 400 parcels", 4, 300, 400, 0.5),
    ("fMRI betas, a trial each", 300, 1, 15_724, 0.25),
    ("trials of 4 s, 22 channels", 288, 1000, 22, 250.0),
    ("trials of 1 s, 64 channels", 300, 250, 64, 250.0),
    ("trials of 1 s, 48 channels", 300, 250, 48, 250.0),
    ("trials of 1 s, 32 channels", 300, 250, 32, 250.0),
    ("trials of 1 s, 8 channels", 300, 250, 8, 250.0),
    ("trials of 0.5 s, 8 channels", 300, 125, 8, 250.0),
)


class Given(Source):
    """One recording of noise, an interval and an event per segment."""

    name = id = "given"
    modalities = ("eeg",)

    def __init__(self, n: int, samples: int, channels: int, rate_hz: float) -> None:
        rng = np.random.default_rng(0)
        length_s = samples / rate_hz
        starts = tuple(float(i) * (np.ceil(length_s) + 1) for i in range(n))
        self.recording = Recording(
            dataset="d",
            subject="01",
            session="1",
            modality="eeg",
            streams=(
                Stream.from_arrays(
                    [4000 + 10 * rng.standard_normal((samples, channels)) for _ in range(n)],
                    rate_hz=rate_hz,
                    channels=tuple(Channel(name=f"E{i}", kind="eeg", unit="uV") for i in range(channels)),
                ),
            ),
            interval_start_s=starts,
            events=tuple(
                Event(onset_s=t, duration_s=1.0, kind="trial", label=f"class{i % 4}", trial=i, stimulus_id=f"s{i % 50}")
                for i, t in enumerate(starts)
            ),
        )

    def list(self) -> list[Item]:
        """Return the one item."""
        return [Item(key="a", fingerprint="1", open=lambda: self.recording)]


def sizes(case: tuple, dtype: str) -> tuple[int, int]:
    """Bytes of the whole dataset, and of its tars."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "d"
        prepare(source=Given(*case[1:]), out=out, storage_dtype=dtype, dask="none", progress=False)
        return tuple(sum(p.stat().st_size for p in out.rglob(g) if p.is_file()) for g in ("*", "*.tar"))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{'case':30s} {'values/segment':>14s} {'beside/segment':>14s} {'tars':>7s} {'all files':>9s}")
    for case in CASES:
        name, n, samples, channels, rate = case
        (small, small_tar), (large, large_tar) = sizes(case, "int16"), sizes(case, "float32")
        # continuous data are cut at 60 s
        segments = n * max(1, int(np.ceil(samples / rate / 60)))
        beside = (small - 2 * n * samples * channels) / segments
        within = small <= LIMIT * large
        print(
            f"{name:30s} {n * samples * channels / segments:14.0f} {beside:12.0f} B {small_tar / large_tar:7.3f} "
            f"{small / large:9.3f}{'' if within else f'   above {LIMIT}'}"
        )


if __name__ == "__main__":
    main()
