"""Reading: any window equals the same slice of the whole array, and damage is named."""

import multiprocessing
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurofm.data.dataset import Dataset
from neurofm.data.storage.segments import CorruptError
from neurofm.schema.errors import ConfigError, DataError


@pytest.fixture
def copy(ramps, tmp_path):
    return shutil.copytree(ramps, tmp_path / "copy")


def test_window_across_segments_equals_the_whole(ramps, shard_maker):
    d = Dataset(ramps)
    got = d.read("sim_sub-2", 5.0, 150)  # segments of 6 s: crosses three borders
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, shard_maker.ramp(400, 3)[50:200].astype(np.float32))


def test_bad_channels_are_left_out_and_listed_on_request(ramps):
    d = Dataset(ramps)
    assert [c["name"] for c in d.channels("sim_sub-1")] == ["c0", "c2"]
    assert len(d.channels("sim_sub-1", include_bad=True)) == 3
    np.testing.assert_allclose(d.read("sim_sub-1", 31.0, 2), [[31.0, 2031.0], [31.1, 2031.1]], rtol=1e-7)


@pytest.mark.parametrize(("start_s", "n"), [(19.0, 11), (25.0, 1), (-0.2, 5), (44.0, 11), (19.9, 0)])
def test_no_window_crosses_a_gap(ramps, start_s, n):
    with pytest.raises(DataError, match="one valid interval of 'sim_sub-1'"):
        Dataset(ramps).read("sim_sub-1", start_s, n)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_read_equals_the_slice(tmp_path_factory, shard_maker, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    rate = data.draw(st.sampled_from([1 / 0.72, 10.0, 112.5, 1000.0]))
    dtype = data.draw(st.sampled_from(["<i2", "<f2", "<f4"]))
    n_channels = data.draw(st.integers(1, 5))
    lengths = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    starts = np.cumsum([0.0, *[n / rate + data.draw(st.floats(0, 3)) for n in lengths]])[:-1].tolist()
    arrays = [rng.integers(-3000, 3000, (n, n_channels)).astype(dtype) for n in lengths]
    m = shard_maker.Made("r", arrays, rate_hz=rate, starts_s=starts, scale=0.25, offset=-7.0, dtype=dtype)
    folder = shard_maker.make(tmp_path_factory.mktemp("h"), [m], segment_s=data.draw(st.floats(1, 12)) / rate)
    d = Dataset(
        folder, verify=data.draw(st.sampled_from(["touch", "none"])), cache_mb=data.draw(st.sampled_from([0, 1]))
    )
    for _ in range(4):
        k = data.draw(st.integers(0, len(lengths) - 1))
        first = data.draw(st.integers(0, lengths[k] - 1))
        n = data.draw(st.integers(1, lengths[k] - first))
        got = d.read("r", starts[k] + first / rate, n)
        np.testing.assert_array_equal(got, (arrays[k][first : first + n].astype(np.float64) * 0.25 - 7).astype("f4"))


def test_truncated_shard(copy):
    tar = copy / "shards" / "sub-2-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-3000])
    with pytest.raises(CorruptError, match=r"sub-2-000000.tar: has \d+ bytes .* truncated, copy it again"):
        Dataset(copy)
    d = Dataset(copy, on_corrupt="skip")
    assert list(d.recordings) == ["sim_sub-1", "sim_sub-3"]
    assert "sub-2-000000.tar" in d.skipped[0]


@pytest.mark.parametrize("sample", [0, 61, 399])
def test_one_flipped_byte(copy, sample):
    tar = copy / "shards" / "sub-2-000000.tar"
    data = bytearray(tar.read_bytes())
    at = data.index(np.float32(sample / 10 + 1000).tobytes())
    data[at + 1] ^= 1
    tar.write_bytes(data)
    d = Dataset(copy)
    with pytest.raises(CorruptError, match=r"sub-2-000000.tar: .*crc32"):
        d.read("sim_sub-2", sample / 10, 1)
    d.read("sim_sub-1", 0.0, 10)
    with pytest.raises(CorruptError, match=r"sub-2-000000.tar: sha256"):
        Dataset(copy, verify="full")


def test_index_missing_or_edited(copy):
    idx = copy / "shards" / "sub-3-000000.tar.idx"
    text = idx.read_text()
    idx.write_text(text.replace('"interval":0', '"interval":1', 1))
    with pytest.raises(CorruptError, match=r"tar.idx: sha256 differs"):
        Dataset(copy).read("sim_sub-3", 2.5, 1)
    idx.unlink()
    with pytest.raises(DataError, match=r"sub-3-000000.tar.idx: is missing"):
        Dataset(copy)


def test_other_schema_version_and_no_dataset(copy, tmp_path):
    text = (copy / "dataset.json").read_text()
    (copy / "dataset.json").write_text(text.replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(DataError, match="schema_version is 9"):
        Dataset(copy)
    with pytest.raises(DataError, match="not a prepared dataset"):
        Dataset(tmp_path / "nowhere")


def test_empty_dataset(tmp_path, shard_maker):
    with pytest.raises(DataError, match="holds no recordings"):
        Dataset(shard_maker.make(tmp_path / "empty", []))


def test_select_names_the_nearest(ramps):
    d = Dataset(ramps)
    assert d.select(subject=["1", "3"]) == ["sim_sub-1", "sim_sub-3"]
    assert d.select(subject=[1, "3"]) == d.select(subject=["1", "3"])
    assert d.select(subject=3) == d.select(subject="3")
    with pytest.raises(ConfigError, match="no recording_id 'sim_sub1': did you mean 'sim_sub-1'"):
        d.select(recording_id="sim_sub1")
    with pytest.raises(ConfigError, match="no subject '7'"):
        d.select(subject="7")
    with pytest.raises(DataError, match="no recording 'sim_sub-9'"):
        d.read("sim_sub-9", 0, 1)


def test_choosing_subjects_opens_only_their_shards(copy):
    d = Dataset(copy)
    (copy / "shards" / "sub-2-000000.tar").unlink()
    (copy / "shards" / "sub-2-000000.tar.idx").unlink()
    for r in d.select(subject=["1", "3"]):
        d.read_interval(r, 0)


def test_pickle_and_preload(ramps):
    d = Dataset(ramps)
    a = d.read("sim_sub-3", 4.1, 30)
    b = pickle.loads(pickle.dumps(d)).read("sim_sub-3", 4.1, 30)
    d.preload()
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, d.read("sim_sub-3", 4.1, 30))


def _sum(dataset):
    return float(dataset.read("sim_sub-2", 3.0, 200).sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(ramps, method):
    d = Dataset(ramps)
    expected = _sum(d)
    with multiprocessing.get_context(method).Pool(1) as pool:
        if method == "fork":  # a spawned process cannot import this test module by name
            assert pool.map(_sum, [d, d]) == [expected, expected]
        else:
            assert float(pool.apply(d.read, ("sim_sub-2", 3.0, 200)).sum()) == expected


def test_remote_url(ramps):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.put(str(ramps), "/bucket/set", recursive=True)
    remote, local = Dataset("memory://bucket/set"), Dataset(ramps)
    np.testing.assert_array_equal(remote.read("sim_sub-2", 5.0, 150), local.read("sim_sub-2", 5.0, 150))
    np.testing.assert_array_equal(remote.read("sim_sub-2", 7.0, 20), local.read("sim_sub-2", 7.0, 20))


def test_every_channel_bad_is_said(tmp_path, shard_maker):
    m = shard_maker.Made("r", [np.zeros((20, 2))], bad=(0, 1))
    with pytest.raises(DataError, match="every channel of 'r' is flagged bad"):
        Dataset(shard_maker.make(tmp_path, [m])).read("r", 0, 5)
