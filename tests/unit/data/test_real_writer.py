"""What data_prep writes, neurofm.data reads: the two sides of the contract against each other."""

import numpy as np
import pytest

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import official_parts, whole
from neurofm.data.windows import trial_windows
from neurofm.schema.recording import Channel, Event, Recording, Stream

RATE = 112.5
STARTS = (0.0, 3.25, 40.0)


def arrays(subject):
    rng = np.random.default_rng(subject)
    return [rng.standard_normal((n, 4)) * 30 + 200 for n in (300, 2000, 77)]


def open_recording(subject):
    channels = tuple(Channel(name=f"c{i}", unit="uV", bad=i == 2, x=0.01 * i, y=0.0, z=0.0) for i in range(4))
    events = tuple(Event(onset_s=t + 0.1, label="ab"[i % 2], trial=i) for i, t in enumerate(STARTS))
    return Recording(
        dataset="two", subject=str(subject), modality="eeg", part="train", interval_start_s=STARTS, events=events,
        streams=(Stream.from_arrays(arrays(subject), rate_hz=RATE, channels=channels, unit="uV"),),
    )  # fmt: skip


class Two(Source):
    """Two people with three intervals each."""

    name = "two"
    id = "two"

    def list(self):
        return [Item(key=str(i), fingerprint="1", subject=str(i), open=lambda i=i: open_recording(i)) for i in (1, 2)]


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_round_trip(tmp_path, dtype):
    prepare(source=Two(), out=tmp_path / "two", segment_s=4.0, storage_dtype=dtype, dask="none", progress=False)
    d = Dataset(tmp_path / "two", verify="full")
    assert d.subjects == ["1", "2"]
    step = np.ptp(np.concatenate(arrays(2)), axis=0)[[0, 1, 3]] / 65534
    for i, x in enumerate(arrays(2)):
        got = d.read_interval("two_sub-2", i)
        assert got.shape == (len(x), 3)
        assert (np.abs(got - x[:, [0, 1, 3]]) <= (0.51 if dtype == "int16" else 0) * step + 2e-5).all()
    np.testing.assert_array_equal(d.read("two_sub-2", 3.25 + 440 / RATE, 40), d.read_interval("two_sub-2", 1)[440:480])
    assert [c["x"] for c in d.channels("two_sub-1")] == [0.0, 0.01, 0.03]
    spans = whole(d, d.select(subject="1"))
    assert [w.target for w in trial_windows(d, spans, classes=["a", "b"])] == [0, 1, 0]
    assert len(official_parts(d, parts={"train": "train"})["train"]) == 6
