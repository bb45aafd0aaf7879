"""Memory does not grow with the recording: four times as long takes no more."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np

import data_prep.writer.spool
from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.schema.recording import Channel, Recording, Stream

RATE, N_CHANNELS = 256.0, 8
STAGES = (
    {"name": "unit_repair"},
    {"name": "quality"},
    {"name": "notch", "line_hz": 50},
    {"name": "iir", "low_hz": 0.5},
    {"name": "bad_channels", "min_correlation": None},
    {"name": "rereference"},
    {"name": "resample", "rate_hz": 100},
)


def read(interval: int, start: int, stop: int) -> np.ndarray:
    return 30 * np.random.default_rng(start).standard_normal((stop - start, N_CHANNELS))


def open_made_up(n: int) -> Recording:
    channels = tuple(Channel(name=f"A{i + 1}", kind="seeg", unit="uV") for i in range(N_CHANNELS))
    stream = Stream(rate_hz=RATE, channels=channels, n_samples=(n,), unit="uV", read=read)
    return Recording(dataset="d", subject="s", modality="ieeg", streams=(stream,))


class MadeUp(Source):
    name = id = "made_up"
    modalities = ("ieeg",)

    def __init__(self, n: int) -> None:
        self.n = n

    def list(self) -> list[Item]:
        return [Item(key="a", fingerprint="1", open=partial(open_made_up, self.n))]


def test_peak_memory_does_not_grow_with_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(data_prep.writer.spool, "MEMORY_BYTES", 0)

    def peak(minutes: int) -> float:
        source = MadeUp(round(60 * minutes * RATE))
        tracemalloc.start()
        try:
            prepare(source=source, out=tmp_path / str(minutes), stages=STAGES, dask="none", progress=False)
            return tracemalloc.get_traced_memory()[1] / 2**20
        finally:
            tracemalloc.stop()

    peak(1)
    short, long = peak(6), peak(24)
    # two more standing histograms for each of three quantities, half a megabyte each
    assert long < 1.25 * short + 3
