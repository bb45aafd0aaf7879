"""A writer of contract-v1 shards made with tarfile alone, so that the reader has an oracle other than data_prep."""

import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from neurofm.schema.manifest import Manifest, ShardEntry
from neurofm.schema.segments import SegmentEntry, StreamSpan, index_text
from neurofm.schema.tables import COLUMNS, write_table

EMPTY = {"s": "", "f": float("nan"), "i": -1, "b": False, "F": [], "S": []}


@dataclass
class Made:
    """One recording to write: an array (time, channel) per valid interval, as stored."""

    recording_id: str
    arrays: list
    rate_hz: float = 10.0
    starts_s: list = field(default_factory=lambda: [0.0])
    subject: str = "1"
    part: str = ""
    bad: tuple = ()
    scale: float = 1.0
    offset: float = 0.0
    dtype: str = "<f4"
    events: list = field(default_factory=list)
    names: list | None = None


def row(table, **values):
    return {name: values.get(name, EMPTY[kind]) for name, kind in COLUMNS[table].items()}


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def write_tar(path, made, segment_s):
    entries = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            at = tar.offset
            tar.addfile(info, io.BytesIO(data))
            return at + 512

        for m in made:
            size = max(1, round(segment_s * m.rate_hz))
            for interval, (start_s, array) in enumerate(zip(m.starts_s, m.arrays, strict=True)):
                for at in range(0, len(array), size):
                    key = f"{m.recording_id}_{round((start_s + at / m.rate_hz) * 1000):09d}"
                    data = npy(array[at : at + size].astype(m.dtype))
                    add(f"{key}.json", json.dumps({"recording_id": m.recording_id}).encode())
                    span = StreamSpan(
                        add(f"{key}.signal.npy", data), len(data), zlib.crc32(data), len(array[at : at + size])
                    )
                    entries.append(
                        SegmentEntry(key, m.recording_id, interval, start_s + at / m.rate_hz, {"signal": span})
                    )
    return entries


def make_shards(folder, made, segment_s=6.0, dataset_id="sim"):
    folder = Path(folder)
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    shards, rows = [], {name: [] for name in COLUMNS}
    for subject in sorted({m.subject for m in made}):
        path = folder / "shards" / f"sub-{subject}-000000.tar"
        mine = [m for m in made if m.subject == subject]
        entries = write_tar(path, mine, segment_s)
        text = index_text(path.name, path.stat().st_size, entries)
        Path(f"{path}.idx").write_text(text)
        hashes = [hashlib.sha256(b).hexdigest() for b in (path.read_bytes(), text.encode())]
        shards.append(ShardEntry(file=path.name, subject=subject, session="", bytes=path.stat().st_size,
                                 sha256=hashes[0], index_sha256=hashes[1], n_segments=len(entries)))  # fmt: skip
        for m in mine:
            valid = [[s, s + len(a) / m.rate_hz] for s, a in zip(m.starts_s, m.arrays, strict=True)]
            of = {"recording_id": m.recording_id}
            rows["recordings"].append(row("recordings", **of, dataset=dataset_id, subject=subject, part=m.part,
                                          modality="meg", valid=valid, quality="{}", shards=[path.name]))  # fmt: skip
            rows["streams"].append(row("streams", **of, name="signal", role="signal", regular=True, rate_hz=m.rate_hz))
            for i in range(m.arrays[0].shape[1]):
                rows["channels"].append(row("channels", **of, stream="signal", index=i,
                                            name=m.names[i] if m.names else f"c{i}", scale=m.scale, offset=m.offset,
                                            bad=i in m.bad))  # fmt: skip
            rows["events"] += [row("events", **of, **e) for e in m.events]
    for table, content in rows.items():
        write_table(folder, table, content)
    Manifest(id=dataset_id, licence="", citation="", modalities=["meg"], prep={}, versions={}, totals={},
             round_trip_error=0.0, shards=shards).write(folder)  # fmt: skip
    return folder


def ramp(n, n_channels, start_s=0.0, rate_hz=10.0):
    """Value = time of the sample + 1000 · channel: any wrong cut shows."""
    return (start_s + np.arange(n) / rate_hz)[:, None] + 1000 * np.arange(n_channels)


@pytest.fixture(scope="session")
def shard_maker():
    """The writer and its words."""

    class Maker:
        make = staticmethod(make_shards)
        ramp = staticmethod(ramp)
        Made = globals()["Made"]

    return Maker


@pytest.fixture(scope="session")
def ramps(tmp_path_factory):
    """Three people; person 1 has a gap and a bad channel, person 3 another rate and more channels."""
    folder = tmp_path_factory.mktemp("ramps")
    made = [
        Made("sim_sub-1", [ramp(200, 3), ramp(150, 3, 30.0)], starts_s=[0.0, 30.0], subject="1", bad=(1,)),
        Made("sim_sub-2", [ramp(400, 3)], subject="2"),
        Made("sim_sub-3", [ramp(500, 5, 2.5, 12.5)], starts_s=[2.5], rate_hz=12.5, subject="3"),
    ]
    return make_shards(folder, made)


@pytest.fixture(scope="session")
def trials(tmp_path_factory):
    """Epoched: 24 training and 12 test trials of 1 s at 20 Hz, an interval each, label = trial number mod 3."""
    folder = tmp_path_factory.mktemp("trials")
    rng = np.random.default_rng(0)
    made = []
    for part, n in (("train", 24), ("test", 12)):
        events = [
            {"onset_s": 2.0 * i + 0.4, "duration_s": 0.0, "kind": "move", "label": "abc"[i % 3], "trial": i,
             "stimulus_id": f"s{i % 6}"}
            for i in range(n)
        ]  # fmt: skip
        made.append(Made(f"t_sub-1_run-{part}", [rng.standard_normal((20, 2)) * 3 + 5 for _ in range(n)], rate_hz=20.0,
                         starts_s=[2.0 * i for i in range(n)], part=part, events=events))  # fmt: skip
    return make_shards(folder, made, dataset_id="t")
