"""What int16 storage costs and saves, from preparation to what a reader gets."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.data.dataset import Dataset
from neurofm.schema.recording import Channel, Event, Recording, Stream

RATE = 200.0


class Given(Source):
    """Arrays as the valid intervals of one recording, ten seconds apart where there are several, with an event each."""

    name = id = "given"
    modalities = ("eeg",)

    def __init__(self, arrays: list[np.ndarray], rate_hz: float) -> None:
        channels = tuple(Channel(name=f"c{i}", kind="eeg", unit="uV") for i in range(arrays[0].shape[1]))
        starts = tuple(10.0 * i for i in range(len(arrays)))
        self.recording = Recording(
            dataset="d",
            subject="s",
            modality="eeg",
            streams=(Stream.from_arrays(arrays, rate_hz=rate_hz, channels=channels),),
            interval_start_s=starts,
            events=tuple(
                Event(onset_s=t, duration_s=1.0, kind="trial", label=f"word{i % 7}", trial=i, stimulus_id=f"s{i % 50}")
                for i, t in enumerate(starts)
            ),
        )

    def list(self) -> list[Item]:
        return [Item(key="a", fingerprint="1", open=lambda: self.recording)]


def prepared(folder, arrays: list[np.ndarray], storage_dtype: str, rate_hz: float = RATE) -> int:
    prepare(source=Given(arrays, rate_hz), out=folder, storage_dtype=storage_dtype, dask="none", progress=False)
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_int16_takes_at_most_052_of_float32_with_all_tables(tmp_path):
    x = 4000 + 10 * np.random.default_rng(0).standard_normal((60_000, 32))
    small, large = (prepared(tmp_path / d, [x], d) for d in ("int16", "float32"))
    assert small <= 0.52 * large
    assert small <= 0.52 * 4 * x.size


def test_int16_takes_at_most_052_of_float32_for_trials_of_a_second(tmp_path):
    """400 trials of 64 channels at 250 Hz, with labels, stimuli, tables and indexes."""
    rng = np.random.default_rng(0)
    trials = [rng.standard_normal((250, 64)) for _ in range(400)]
    small, large = (prepared(tmp_path / d, trials, d, 250.0) for d in ("int16", "float32"))
    assert small <= 0.52 * large


@pytest.mark.parametrize("n_channels", [1, 7, 20, 80, 400])
def test_int16_tars_take_at_most_052_of_float32_from_25_000_values_per_segment_on(tmp_path, n_channels):
    """The limit that docs/shards.md states, at its worst: the fill of the last blocks is what it happens to be."""
    rng = np.random.default_rng(0)
    for extra in (0, 3):
        trials = [rng.standard_normal((25_000 // n_channels + 1 + extra, n_channels)) for _ in range(8)]
        sizes = []
        for d in ("int16", "float32"):
            prepared(tmp_path / f"{d}{extra}", trials, d, 1000.0 * 20 / n_channels)
            sizes.append(sum(p.stat().st_size for p in (tmp_path / f"{d}{extra}" / "shards").iterdir()))
        assert sizes[0] <= 0.52 * sizes[1]


def test_int16_takes_at_most_052_of_float32_for_one_volume_of_voxels_per_trial(tmp_path):
    """As the betas of NSD: the shards alone, since 750 trials share the table of voxels there, not 40."""
    rng = np.random.default_rng(0)
    trials = [rng.standard_normal((1, 15_000)) for _ in range(40)]
    for d in ("int16", "float32"):
        prepared(tmp_path / d, trials, d, 0.25)
    small, large = (sum(p.stat().st_size for p in (tmp_path / d / "shards").iterdir()) for d in ("int16", "float32"))
    assert small <= 0.52 * large


@pytest.mark.parametrize("offset", [0.0, 4000.0, -250_000.0])
def test_what_is_read_is_within_a_part_in_32768_of_the_range(tmp_path, offset):
    n = 30_000
    rng = np.random.default_rng(0)
    x = np.stack([10 * np.sin(np.arange(n) / 30), 0.01 * rng.standard_normal(n), np.linspace(-1e5, 1e5, n)], axis=1)
    prepared(tmp_path / "d", [offset + x], "int16")
    data = Dataset(tmp_path / "d")
    (rid,) = data.recordings
    error = np.abs(data.read_interval(rid, 0) - (offset + x)).max(axis=0) / np.ptp(x, axis=0)
    # a float32 cannot say 250 000.01 any better than to 1/64, however it is stored
    spacing = np.spacing(np.float32(np.abs(offset) + np.abs(x).max(axis=0))) / np.ptp(x, axis=0)
    assert (error < 2.0**-15 + spacing).all()
    assert data.manifest.round_trip_error < 2.0**-16
    if offset == 4000:
        assert error[0] < 2.0**-15
