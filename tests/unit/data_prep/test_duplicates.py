"""Recordings and trials that hold the same values are found, whatever they are called and however they are cut."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.data.dataset import Dataset
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel, Recording, Stream
from neurofm.schema.tables import read_table

CHANNELS = tuple(Channel(name=f"c{i}", kind="eeg", unit="uV") for i in range(3))


def noise(seed: int, n: int = 400) -> np.ndarray:
    return 20 * np.random.default_rng(seed).standard_normal((n, 3))


def recording(subject: str, arrays: list[np.ndarray], rate_hz: float = 100.0) -> Recording:
    stream = Stream.from_arrays(arrays, rate_hz=rate_hz, channels=CHANNELS)
    starts = tuple(10.0 * i for i in range(len(arrays)))
    return Recording(dataset="d", subject=subject, modality="eeg", streams=(stream,), interval_start_s=starts)


class Given(Source):
    name = id = "given"
    modalities = ("eeg",)

    def __init__(self, *recordings: Recording) -> None:
        self.recordings = recordings

    def list(self) -> list[Item]:
        return [
            Item(key=f"{r.subject}.edf", fingerprint="1", open=partial(replace, r), subject=r.subject)
            for r in self.recordings
        ]


def prep(folder, *recordings, **choices):
    report = prepare(
        source=Given(*recordings), out=folder, stages=choices.pop("stages", ()), dask="none", progress=False, **choices
    )
    return report, {r["recording_id"]: r["reason"] for r in read_table(folder, "rejected")}


def test_one_recording_under_two_subjects_is_kept_once(tmp_path):
    x = noise(0)
    report, rejected = prep(tmp_path / "d", recording("b", [x]), recording("a", [x.copy()]), recording("c", [noise(1)]))
    assert rejected == {"given_b-edf": "holds the same values as a.edf, which is kept"}
    assert sorted(Dataset(tmp_path / "d").recordings) == ["given_sub-a", "given_sub-c"]
    assert report.totals["n_rejected"] == 1
    with pytest.raises(DataError, match="same values"):
        prep(tmp_path / "e", recording("b", [x]), recording("a", [x]), strict=True)


def test_what_differs_is_no_duplicate(tmp_path):
    x = noise(0)
    other = x.copy()
    other[7, 1] += 0.01
    _, rejected = prep(
        tmp_path / "d",
        recording("a", [x]),
        recording("b", [other]),
        recording("c", [x], rate_hz=200.0),
        recording("e", [x[:-1]]),
        recording("f", [x[:200], x[200:]]),
    )
    assert rejected == {}


def test_the_same_trial_twice_is_kept_and_listed(tmp_path):
    a, b, c = noise(0), noise(1), noise(2)
    report, _ = prep(tmp_path / "d", recording("x", [a, b, a]), recording("y", [c, b]))
    rows = read_table(tmp_path / "d", "rejected")
    assert [(r["recording_id"], r["start_s"], r["reason"]) for r in rows] == [
        ("given_sub-x", 20.0, "kept, but holds the same values as given_sub-x at 0 s"),
        ("given_sub-y", 10.0, "kept, but holds the same values as given_sub-x at 10 s"),
    ]
    data = Dataset(tmp_path / "d")
    quality = {r["recording_id"]: json.loads(r["quality"]) for r in data.recordings.values()}
    assert quality["given_sub-x"]["duplicate_trials"] == 1
    assert quality["given_sub-y"]["duplicate_trials"] == 1
    assert len(data.valid("given_sub-x")) == 3
    assert report.totals["n_rejected"] == 0


def test_trials_in_which_nothing_moves_are_not_called_the_same(tmp_path):
    still = np.full((100, 3), 5.0)
    _, rejected = prep(tmp_path / "d", recording("x", [still, noise(0), still]), recording("y", [still, noise(1)]))
    assert rejected == {}


def test_segments_do_not_matter(tmp_path):
    x = noise(0, 5000)
    for segment_s in (1.0, 7.3, None):
        out = tmp_path / f"{segment_s}"
        _, rejected = prep(out, recording("a", [x]), recording("b", [x]), segment_s=segment_s)
        assert list(rejected) == ["given_b-edf"]
