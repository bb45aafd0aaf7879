"""The shard round trip: what is written can be read by anyone and comes back within the promised error."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.flow import run_stages
from data_prep.running.worker import rows_of
from data_prep.writer.atomic import WriteError, writing
from data_prep.writer.fragment import write_fragment
from data_prep.writer.quantize import DTYPES, quantizer
from data_prep.writer.segment import npy_bytes
from data_prep.writer.shards import Staged, pack
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel, Event, Recording, Stream
from neurofm.schema.segments import read_index


def make(arrays: list[np.ndarray], rate_hz: float = 10.0, **rest: object) -> Recording:
    channels = tuple(Channel(name=f"c{i}", kind="eeg", unit="uV") for i in range(arrays[0].shape[1]))
    stream = Stream.from_arrays(arrays, rate_hz=rate_hz, channels=channels)
    starts = tuple(float(1000 * i) for i in range(len(arrays)))
    return Recording(dataset="d", subject="s1", modality="eeg", streams=(stream,), interval_start_s=starts, **rest)


def write(recording: Recording, folder: Path, segment_s: float | None, dtype: str, shard_bytes: int = 1 << 30):
    path = folder / "fragment"
    flow = run_stages(recording, [])
    fragment = write_fragment(recording, flow, path, segment_s=segment_s, storage_dtype=dtype)
    receipt = json.loads(json.dumps(rows_of(recording, flow, fragment, dtype)))
    (folder / "shards").mkdir(exist_ok=True)
    shards, _ = pack([Staged(item_key="a", receipt=receipt, fragment=path)], folder / "shards", shard_bytes)
    return fragment, receipt, shards


def load_npy(tar: tarfile.TarFile, name: str) -> np.ndarray:
    return np.load(io.BytesIO(tar.extractfile(name).read()), allow_pickle=False)


def read_back(folder: Path, receipt: dict, n_intervals: int) -> list[np.ndarray]:
    """Read every interval with the standard library's tarfile and numpy, by the segments' own JSON."""
    parts: dict[int, list[tuple[float, np.ndarray]]] = {i: [] for i in range(n_intervals)}
    scale = np.array([c["scale"] for c in receipt["channels"]])
    offset = np.array([c["offset"] for c in receipt["channels"]])
    for tar_path in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(tar_path) as tar:
            names = tar.getnames()
            for name in names[::2]:
                meta = json.load(tar.extractfile(name))
                stored = load_npy(tar, name.replace(".json", ".signal.npy"))
                assert meta["n_valid"]["signal"] == len(stored)
                parts[meta["interval"]].append((meta["start_s"], stored * scale + offset))
    return [np.concatenate([v for _, v in sorted(p, key=lambda x: x[0])]) for p in parts.values()]


@settings(max_examples=60, deadline=None)
@given(
    n_channels=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 130), min_size=1, max_size=3),
    dtype=st.sampled_from(list(DTYPES)),
    segment_s=st.sampled_from([None, 0.1, 0.7, 3.0, 60.0]),
    shard_bytes=st.sampled_from([1, 4000, 1 << 30]),
    offset=st.sampled_from([0.0, 4000.0, -1e6]),
    spread=st.sampled_from([1e-3, 10.0, 1e4]),
    seed=st.integers(0, 9),
)
def test_round_trip(tmp_path_factory, n_channels, lengths, dtype, segment_s, shard_bytes, offset, spread, seed):
    folder = tmp_path_factory.mktemp("round")
    rng = np.random.default_rng(seed)
    if dtype == "float16":
        offset, spread = offset / 1e6, min(spread, 1e3)
    arrays = [offset + spread * rng.standard_normal((n, n_channels)) for n in lengths]
    recording = make(arrays)
    fragment, receipt, shards = write(recording, folder, segment_s, dtype, shard_bytes)
    back = read_back(folder, receipt, len(arrays))
    everything = np.concatenate(arrays)
    extent = np.ptp(everything, axis=0)
    extent[extent == 0] = np.abs(everything).max(axis=0)[extent == 0]
    error = max(float((np.abs(a - b) / extent).max()) for a, b in zip(arrays, back, strict=True))
    assert error == pytest.approx(fragment.round_trip_error, rel=1e-6, abs=1e-15)
    if dtype == "int16":
        assert error <= 2.0**-15
    if dtype == "float32" and offset == 0:
        assert error < 1e-6
    size = 10**9 if segment_s is None else max(1, round(segment_s * 10))
    assert sum(s.n_segments for s in shards) == sum(-(-n // size) for n in lengths)


def test_offset_of_4000_costs_no_precision(tmp_path):
    x = 4000 + 10 * np.sin(np.linspace(0, 50, 5000))[:, None]
    fragment, receipt, _ = write(make([x]), tmp_path, 60, "int16")
    error = np.abs(read_back(tmp_path, receipt, 1)[0] - x).max() / np.ptp(x)
    assert error < 2**-16
    # …and not in float32 either, which is what readers compute in
    stored = np.rint((x - fragment.offset) / fragment.scale).astype(np.float32)
    single = stored * np.float32(fragment.scale) + np.float32(fragment.offset)
    assert np.abs(single - x).max() / np.ptp(x) < 2**-15


def test_constant_channels_come_back_exactly(tmp_path):
    x = np.stack([np.full(50, 1234.5678), np.zeros(50), np.linspace(0, 1, 50), np.full(50, -1e-320)], axis=1)
    _, receipt, _ = write(make([x]), tmp_path, 60, "int16")
    back = read_back(tmp_path, receipt, 1)[0]
    assert np.array_equal(back[:, [0, 1, 3]], x[:, [0, 1, 3]])


def test_quantizer_uses_the_whole_range():
    scale, offset = quantizer(np.array([-1.0, 5.0]), np.array([3.0, 5.0]))
    assert np.allclose((np.array([-1.0, 3.0]) - offset[0]) / scale[0], [-32767, 32767])
    assert (scale[1], offset[1]) == (1.0, 5.0)


def test_index_finds_the_bytes_of_every_member(tmp_path):
    rng = np.random.default_rng(0)
    _, _, shards = write(
        make([rng.standard_normal((95, 3)), rng.standard_normal((11, 3))]), tmp_path, 2.0, "int16", 3000
    )
    assert len(shards) > 2
    for shard in shards:
        path = tmp_path / "shards" / shard.file
        data = path.read_bytes()
        size, segments = read_index(str(path) + ".idx")
        assert size == len(data) == shard.bytes
        assert len(segments) == shard.n_segments
        with tarfile.open(path) as tar:
            for segment in segments:
                span = segment.streams["signal"]
                inside = data[span.offset : span.offset + span.size]
                assert inside == tar.extractfile(f"{segment.key}.signal.npy").read()
                assert zlib.crc32(inside) == span.crc32


def test_plain_webdataset_reads_every_segment_once(tmp_path):
    import webdataset

    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    _, receipt, shards = write(make([x]), tmp_path, 3.0, "int16", 4000)
    urls = [str(tmp_path / "shards" / s.file) for s in shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode())
    assert len(samples) == 7
    stored = np.concatenate([s["signal.npy"] for s in samples])
    scale, offset = (np.array([c[k] for c in receipt["channels"]]) for k in ("scale", "offset"))
    assert np.abs(stored * scale + offset - x).max() < np.ptp(x) * 2**-15
    assert [s["json"]["start_s"] for s in samples] == [3.0 * i for i in range(7)]


def test_members_carry_no_time_user_or_mode(tmp_path):
    _, _, shards = write(make([np.eye(4)]), tmp_path, None, "float32")
    with tarfile.open(tmp_path / "shards" / shards[0].file) as tar:
        for m in tar:
            assert (m.mtime, m.uid, m.gid, m.mode, m.uname, m.gname) == (0, 0, 0, 0o644, "", "")


def metas_of(folder: Path, file: str) -> list[dict]:
    with tarfile.open(folder / "shards" / file) as tar:
        return [json.load(tar.extractfile(n)) for n in tar.getnames() if n.endswith(".json")]


def test_segments_carry_their_events_without_the_fields_that_say_nothing(tmp_path):
    x = np.random.default_rng(1).standard_normal((50, 2))
    events = (Event(onset_s=0.0, label="a"), Event(onset_s=2.0, label="b", value=3.0), Event(onset_s=4.9, trial=0))
    _, _, shards = write(make([x], events=events), tmp_path, 2.0, "float32")
    metas = metas_of(tmp_path, shards[0].file)
    timing = {"duration_s": 0.0, "kind": "event"}
    assert [m["events"] for m in metas] == [
        [{"onset_s": 0.0, "label": "a", **timing}],
        [{"onset_s": 2.0, "label": "b", "value": 3.0, **timing}],
        [{"onset_s": 4.9, "trial": 0, **timing}],
    ]
    assert metas[0]["rate_hz"] == {"signal": 10.0}


def test_long_segments_carry_their_statistics_and_short_ones_do_without(tmp_path):
    x = np.random.default_rng(1).standard_normal((2500, 2))
    _, _, shards = write(make([x]), tmp_path, 100.0, "float32")
    first, second, third = metas_of(tmp_path, shards[0].file)
    assert second["channel_statistics"]["signal"]["sd"] == pytest.approx(x[1000:2000].std(axis=0), rel=1e-6)
    assert first["channel_statistics"]["signal"]["max"] == pytest.approx(x[:1000].max(axis=0), rel=1e-6)
    assert "channel_statistics" not in third


def test_further_streams_keep_their_own_clock(tmp_path):
    x, force = np.random.default_rng(1).standard_normal((50, 2)), np.arange(500.0)[:, None]
    recording = make([x])
    covariate = Stream.from_arrays(
        [force], rate_hz=100.0, channels=(Channel(name="grip"),), name="covariate", role="covariate"
    )
    recording = Recording(dataset="d", subject="s1", modality="eeg", streams=(*recording.streams, covariate))
    _, receipt, shards = write(recording, tmp_path, 2.0, "int16")
    with tarfile.open(tmp_path / "shards" / shards[0].file) as tar:
        names = [n for n in tar.getnames() if n.endswith("covariate.npy")]
        back = [load_npy(tar, n) for n in names]
    assert [len(b) for b in back] == [200, 200, 100]
    assert np.array_equal(np.concatenate(back), force.astype("f4"))
    assert [s["name"] for s in receipt["streams"]] == ["signal", "covariate"]


def test_values_that_are_not_finite_are_an_error_that_names_the_channel(tmp_path):
    x = np.zeros((9, 2))
    x[3, 1] = np.nan
    with pytest.raises(DataError, match=r"'c1'.*quality"):
        write(make([x]), tmp_path, None, "int16")


def test_float16_overflow_is_refused(tmp_path):
    with pytest.raises(DataError, match="int16"):
        write(make([np.full((4, 1), 1e6)]), tmp_path, None, "float16")


def test_npy_bytes_are_numpys_own():
    x = np.arange(12, dtype="<i2").reshape(4, 3)
    assert np.array_equal(np.load(io.BytesIO(npy_bytes(x))), x)


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    import errno
    import os

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"), writing(tmp_path / "x") as f:
        f.write(b"abc")
    assert list(tmp_path.iterdir()) == []
