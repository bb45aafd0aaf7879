"""prepare(): the same bytes every time, nothing lost after a kill, and a sentence for whatever goes wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from data_prep.writer import atomic, fragment
from data_prep.writer.shards import publish
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.manifest import Manifest
from neurofm.schema.recording import Channel, Recording, Stream
from neurofm.schema.segments import read_index
from neurofm.schema.tables import read_table

SOURCE = {"name": "simulated", "n_subjects": 5, "n_channels": 6, "duration_s": 30, "n_trials": 6}
STAGES = ({"name": "quality"}, {"name": "resample", "rate_hz": 50})


def prep(out, **choices):
    defaults = {"source": SOURCE, "stages": STAGES, "dask": "none", "progress": False, "segment_s": 10.0}
    return prepare(out=out, **{**defaults, **choices})


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def recording(array: np.ndarray, subject: str, **rest) -> Recording:
    channels = tuple(Channel(name=f"c{i}", kind="eeg", unit="uV") for i in range(array.shape[1]))
    stream = Stream.from_arrays([array], rate_hz=100.0, channels=channels)
    return Recording(dataset="toy", subject=subject, modality="eeg", streams=(stream,), **rest)


class Toy(Source):
    """Recordings by name: functions that return or raise."""

    name = id = "toy"
    modalities = ("eeg",)

    def __init__(self, **openers) -> None:
        self.openers = openers

    def list(self):
        return [Item(key=k, fingerprint=k, open=f, subject=k, source_file=f"{k}.edf") for k, f in self.openers.items()]


def good(subject: str, n: int = 500) -> Recording:
    return recording(np.random.default_rng(n).standard_normal((n, 3)), subject)


def broken(error: Exception) -> Recording:
    raise error


def test_writes_the_contract(tmp_path):
    report = prep(tmp_path / "d", shard_bytes=20_000)
    manifest = Manifest.read(tmp_path / "d")
    assert report.totals["n_recordings"] == 15
    assert report.totals["n_subjects"] == 5
    assert 0 < manifest.round_trip_error < 2**-15
    recordings = {r["recording_id"]: r for r in read_table(tmp_path / "d", "recordings")}
    first = recordings["simulated_sub-01_task-rest"]
    assert len(first["shards"]) > 1
    assert first["valid"] == [[0.0, 30.0]]
    seen = []
    for shard in manifest.shards:
        size, segments = read_index(tmp_path / "d" / "shards" / f"{shard.file}.idx")
        assert (tmp_path / "d" / "shards" / shard.file).stat().st_size == size == shard.bytes
        assert shard.file.startswith(f"sub-{shard.subject}-0")
        seen += [(s.recording_id, shard.file) for s in segments]
    assert {r: set(x["shards"]) for r, x in recordings.items()} == {
        r: {f for q, f in seen if q == r} for r in recordings
    }
    assert all(r["rate_hz"] == 50 for r in read_table(tmp_path / "d", "streams"))
    assert len(read_table(tmp_path / "d", "events")) == 5 * 6
    assert not (tmp_path / "d" / ".staging").exists()


def test_second_run_is_a_no_op_that_says_so(tmp_path):
    prep(tmp_path / "d")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "d").rglob("*")}
    report = prep(tmp_path / "d")
    assert report.unchanged
    assert "nothing changed" in report.sentence()
    assert report.seconds < 1
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "d").rglob("*")}


def test_bytes_do_not_depend_on_run_or_parallelism(tmp_path):
    prep(tmp_path / "a")
    prep(tmp_path / "b", dask={"kind": "local", "n_workers": 2, "eager": True})
    prep(tmp_path / "c", dask="local")
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "c")


def test_a_scheduler_address(tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        prep(tmp_path / "a", dask=cluster.scheduler_address)
    prep(tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_no_scheduler_at_the_address_is_a_sentence(tmp_path, monkeypatch):
    import distributed

    monkeypatch.setattr(distributed, "Client", partial(broken_client, OSError("timed out")))
    with pytest.raises(ConfigError, match=r"tcp://127\.0\.0\.1:9: no scheduler answers"):
        prep(tmp_path / "a", dask="tcp://127.0.0.1:9")


def broken_client(error, *args, **kwargs):
    raise error


@pytest.mark.parametrize("dask", ["locl", {"kind": "local", "workers": 2}])
def test_wrong_dask_choices(tmp_path, dask):
    with pytest.raises(ConfigError, match="did you mean"):
        prep(tmp_path / "a", dask=dask)


SCRIPT = """
import sys
from data_prep.pipeline import prepare
{patch}
if __name__ == "__main__":
    prepare(source={source}, stages={stages}, out=sys.argv[1], dask={dask}, progress=False, segment_s=10.0, overwrite=True)
"""
SLOW = {"name": "simulated", "n_subjects": 12, "n_channels": 32, "duration_s": 600}


def start(script: Path, out: Path, **fields) -> subprocess.Popen:
    fields = {"patch": "", "source": SLOW, "stages": STAGES, "dask": '"none"', **fields}
    script.write_text(SCRIPT.format(**fields))
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, str(script), str(out)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(script.parent)},
    )


@pytest.mark.parametrize("dask", ['"none"', '{"kind": "local", "n_workers": 2, "eager": True}'])
def test_kill_minus_nine_and_resume(tmp_path, dask):
    process = start(tmp_path / "run.py", tmp_path / "a", dask=dask)
    staging = tmp_path / "a" / ".staging" / "fragments"
    deadline = time.monotonic() + 60
    while len(list(staging.glob("*.json"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    if "local" in dask:
        time.sleep(2)  # orphaned workers notice that their parent is gone
    done = {p.name: p.stat().st_mtime_ns for p in staging.glob("*.json")}
    assert len(done) >= 3
    assert not (tmp_path / "a" / "dataset.json").exists()
    kept = []
    original = fragment.write_fragment

    def spy(rec, *args, **kwargs):
        kept.append(rec.subject)
        return original(rec, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.running.worker.write_fragment", spy)
        prep(tmp_path / "a", source=SLOW)
    assert len(kept) == 12 - len(done), "what had a receipt was not made again"
    prep(tmp_path / "b", source=SLOW)
    assert content(tmp_path / "a") == content(tmp_path / "b")


KILL_AT = """
import os, signal
import data_prep.writer.shards as packing
calls, replace = [], os.replace
def deadly(a, b):
    calls.append(a)
    if len(calls) == {k}:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(a, b)
os.replace = deadly
"""


@pytest.mark.parametrize("k", [12, 26, 33])
def test_kill_at_any_rename_leaves_the_old_dataset_or_none(tmp_path, k):
    """SIGKILL at the k-th rename: while staging, while packing, while publishing over an older dataset."""
    out = tmp_path / "a"
    prep(out, segment_s=5.0)
    old = content(out)
    process = start(tmp_path / "run.py", out, patch=KILL_AT.format(k=k), source=SOURCE)
    assert process.wait() == -signal.SIGKILL
    now = content(out)
    if "dataset.json" in now:
        assert {k: v for k, v in now.items() if not k.startswith(".staging")} == old
    prep(out, overwrite=True)
    prep(tmp_path / "b")
    assert content(out) == content(tmp_path / "b")


def test_second_prep_into_the_same_folder_is_refused(tmp_path):
    process = start(tmp_path / "run.py", tmp_path / "a")
    try:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "a").glob(".staging/fragments/*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(ConfigError, match="another `neurofm prep` is writing here"):
            prep(tmp_path / "a", source=SLOW)
    finally:
        process.kill()
        process.wait()


def test_rejected_recordings_are_listed_with_their_reason_and_the_others_go_on(tmp_path):
    holed = np.random.default_rng(0).standard_normal((500, 3))
    holed[:, 1] = np.nan
    source = Toy(
        a=partial(good, "a"),
        b=partial(broken, DataError("header says 3 channels, found 2")),
        c=partial(broken, ValueError("bad\nmagic number")),
        d=partial(recording, holed, "d"),
        e=partial(recording, np.zeros((500, 3)), "e"),
        f=partial(broken, EOFError("truncated")),
        g=partial(broken, OSError("cannot open '/home/jane.doe/eeg files/g.edf' (/data/jane/x.edf:3)")),
    )
    report = prep(tmp_path / "d", source=source)
    rows = {r["recording_id"]: r["reason"] for r in read_table(tmp_path / "d", "rejected")}
    assert report.totals["n_recordings"] == 2
    assert report.totals["n_rejected"] == 5
    assert rows["toy_b"] == "header says 3 channels, found 2"
    assert rows["toy_c"] == "could not be read (ValueError: bad magic number)"
    assert "jane" not in rows["toy_g"]
    assert "all 3 channels are bad" in rows["toy_e"]
    assert "truncated" in rows["toy_f"]
    bad = {(c["recording_id"], c["name"]): c["reason"] for c in read_table(tmp_path / "d", "channels") if c["bad"]}
    assert bad == {("toy_sub-d", "c1"): "no finite value"}
    assert "5 rejected" in report.sentence()


def test_a_source_that_ends_early_is_rejected_in_words(tmp_path):
    whole = good("b").signal
    cut = Stream(rate_hz=100.0, channels=whole.channels, n_samples=(800,), read=whole.read)
    source = Toy(a=partial(good, "a"), b=lambda: good("b").with_signal(cut))
    prep(tmp_path / "d", source=source)
    (row,) = read_table(tmp_path / "d", "rejected")
    assert "shorter than its header says" in row["reason"]
    assert row["source_file"] == "b.edf"


def test_strict_makes_a_rejection_fatal(tmp_path):
    source = Toy(a=partial(good, "a"), b=partial(broken, DataError("no good")))
    with pytest.raises(DataError, match=r"b\.edf: no good"):
        prep(tmp_path / "d", source=source, strict=True)
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_two_recordings_with_one_id(tmp_path):
    prep(tmp_path / "d", source=Toy(a=partial(good, "x"), b=partial(good, "x", 300)))
    (row,) = read_table(tmp_path / "d", "rejected")
    assert "same recording id as a" in row["reason"]


def test_an_empty_dataset_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="lists no recording"):
        prep(tmp_path / "d", source=Toy())
    with pytest.raises(DataError, match="all 2 recordings were rejected; the first, a: no good"):
        prep(
            tmp_path / "d",
            source=Toy(a=partial(broken, DataError("no good")), b=partial(broken, DataError("nor this"))),
        )
    assert not (tmp_path / "d").exists()


def test_an_unwritable_folder_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="cannot be written"):
        prep(tmp_path / "file" / "d")
    with pytest.raises(DataError, match="cannot be written"):
        prep(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("after", [0, 7, 40])
def test_a_full_disk_leaves_no_dataset_and_nothing_half_written(tmp_path, monkeypatch, after):
    written = []
    original = atomic._Guarded.write

    def full(self, data):
        written.append(data)
        if len(written) > after:
            return self.guard(lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        return original(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(atomic._Guarded, "write", full)
        with pytest.raises(DataError, match=r"No space left on device.*finished recordings are kept"):
            prep(tmp_path / "d")
    left = content(tmp_path / "d")
    assert "dataset.json" not in left
    assert not any(name.endswith(".part") for name in left)
    prep(tmp_path / "d")
    prep(tmp_path / "e")
    assert content(tmp_path / "d") == content(tmp_path / "e")


@pytest.mark.parametrize("when", ["packing", "publishing"])
def test_a_full_disk_at_the_end(tmp_path, monkeypatch, when):
    original = atomic._Guarded.write

    def full(self, data):
        if "new" in self.path.parts:
            return self.guard(partial(broken_client, OSError(errno.ENOSPC, "No space left on device")))
        return original(self, data)

    with monkeypatch.context() as patch:
        if when == "packing":
            patch.setattr(atomic._Guarded, "write", full)
        else:
            patch.setattr("data_prep.writer.place.publish", partial(publish_without_room, monkeypatch))
        with pytest.raises(DataError, match="No space left on device"):
            prep(tmp_path / "d")
    left = content(tmp_path / "d")
    assert "dataset.json" not in left
    assert not any(name.endswith(".part") for name in left)
    prep(tmp_path / "d")
    prep(tmp_path / "e")
    assert content(tmp_path / "d") == content(tmp_path / "e")


def publish_without_room(monkeypatch, new, out):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", partial(broken_client, OSError(errno.ENOSPC, "No space left on device")))
        publish(new, out)


def test_other_settings_need_overwrite(tmp_path):
    prep(tmp_path / "d")
    before = content(tmp_path / "d")
    with pytest.raises(ConfigError, match="overwrite=true"):
        prep(tmp_path / "d", storage_dtype="float32")
    assert content(tmp_path / "d") == before
    prep(tmp_path / "d", storage_dtype="float32", overwrite=True)
    prep(tmp_path / "e", storage_dtype="float32")
    assert content(tmp_path / "d") == content(tmp_path / "e")


@pytest.mark.parametrize("damage", ["missing", "cut", "index", "table"])
def test_a_damaged_dataset_is_made_whole_again(tmp_path, damage):
    prep(tmp_path / "d")
    before = content(tmp_path / "d")
    tar = tmp_path / "d" / "shards" / "sub-03-000000.tar"
    if damage == "missing":
        tar.unlink()
    elif damage == "cut":
        tar.write_bytes(tar.read_bytes()[:-600])
    elif damage == "index":
        Path(f"{tar}.idx").write_text("{}")
    else:
        (tmp_path / "d" / "events.parquet").unlink()
    assert not prep(tmp_path / "d").unchanged
    assert content(tmp_path / "d") == before


def test_new_files_are_noticed(tmp_path):
    np.save(tmp_path / "s1.npy", np.random.default_rng(0).standard_normal((400, 2)))
    source = {"name": "arrays", "root": tmp_path, "glob": "*.npy", "rate_hz": 100}
    prep(tmp_path / "d", source=source)
    np.save(tmp_path / "s2.npy", np.random.default_rng(1).standard_normal((400, 2)))
    with pytest.raises(ConfigError, match="other files"):
        prep(tmp_path / "d", source=source)
    assert prep(tmp_path / "d", source=source, overwrite=True).totals["n_recordings"] == 2
    assert str(tmp_path) not in (tmp_path / "d" / "dataset.json").read_text()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"source": {"name": "simulatd"}}, "did you mean 'simulated'"),
        ({"stages": [{"name": "qualty"}]}, "did you mean 'quality'"),
        ({"storage_dtype": "int8"}, "int16"),
        ({"segment_s": 0}, "segment_s is 0"),
        ({"shard_bytes": 0}, "shard_bytes"),
    ],
)
def test_wrong_choices_are_told_before_anything_is_written(tmp_path, choices, message):
    with pytest.raises(ConfigError, match=message):
        prep(tmp_path / "d", **choices)
    assert not (tmp_path / "d").exists()


LONG = """
import resource, sys
import numpy as np
from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.schema.recording import Channel, Recording, Stream

def read(i, a, b):
    return np.sin(np.arange(a, b)[:, None] / 100.0 + np.arange(64)) * 20

def load():
    channels = tuple(Channel(name=f"c{i}", kind="eeg", unit="uV") for i in range(64))
    stream = Stream(rate_hz=1000.0, channels=channels, n_samples=(int(sys.argv[2]),), read=read)
    return Recording(dataset="t", subject="1", modality="eeg", streams=(stream,))

class Long(Source):
    name = id = "long"
    def list(self):
        return [Item(key="1", fingerprint="1", open=load)]

stages = [{"name": "quality"}, {"name": "filter", "low_hz": 1}, {"name": "resample", "rate_hz": 500}]
prepare(source=Long(), stages=stages, out=sys.argv[1], dask="none", progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path):
    """7 and 20 minutes of 64 channels at 1000 Hz (205 and 614 MB as float64) take the same memory."""
    peaks = []
    for n_samples in (400_000, 1_200_000):
        command = [sys.executable, "-c", LONG, str(tmp_path / str(n_samples)), str(n_samples)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 60
