"""THINGS-EEG2: what its two kinds of files hold, where the reference leaves room for error."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from data_prep.sources.things_eeg2 import ThingsEeg2, triggers
from neurofm.schema.errors import DataError


def test_a_held_trigger_counts_once_and_across_blocks(monkeypatch):
    monkeypatch.setattr("data_prep.sources.things_eeg2.SCAN", 4)
    channel = np.array([0, 5, 0, 7, 7, 9, 0, 0, 9, 99999.0])
    assert triggers(channel) == [(1, 5), (3, 7), (5, 9), (8, 9), (9, 99999)]


def preprocessed(root, part, **changes):
    path = root / "sub-03" / f"preprocessed_eeg_{part}.npy"
    path.parent.mkdir(exist_ok=True)
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 25))
    content = {"preprocessed_eeg_data": x, "ch_names": list("abcd"), "times": np.arange(25) / 250.0} | changes
    path.write_bytes(pickle.dumps(content, protocol=4))
    return x


def test_conditions_repetitions_and_images(tmp_path):
    x = preprocessed(tmp_path, "test")
    preprocessed(tmp_path, "training")
    (item, _) = ThingsEeg2(root=tmp_path).list()
    r = item.load()
    assert (r.subject, r.part, r.signal.rate_hz, len(r.valid), len(r.events)) == ("03", "test", 250.0, 6, 6)
    np.testing.assert_array_equal(r.signal.read(3, 5, 9), x[1, 1, :, 5:9].T)
    assert [e.label for e in r.events] == ["1", "1", "2", "2", "3", "3"]
    train = ThingsEeg2(root=tmp_path).list()[1].load()
    assert not {e.stimulus_id for e in r.events} & {e.stimulus_id for e in train.events}
    names = {
        "test_img_concepts": ["00001_ant", "00002_bed", "00003_cap"], "test_img_files": ["a.jpg", "b.jpg", "c.jpg"]
    }  # fmt: skip
    np.save(tmp_path / "image_metadata.npy", np.array(names, dtype=object))
    event = ThingsEeg2(root=tmp_path).list()[0].load().events[2]
    assert (event.label, event.stimulus_id) == ("00002_bed", "b.jpg")


def test_onset_is_where_the_time_axis_says(tmp_path):
    preprocessed(tmp_path, "test", times=np.arange(25) / 250.0 - 0.02)
    r = ThingsEeg2(root=tmp_path).list()[0].load()
    assert [e.onset_s - t for e, t in zip(r.events, r.interval_start_s, strict=True)] == pytest.approx([0.02] * 6)
    preprocessed(tmp_path, "test", times=np.arange(30) / 250.0 - 0.02)
    r = ThingsEeg2(root=tmp_path).list()[0].load()
    assert [e.onset_s - t for e, t in zip(r.events, r.interval_start_s, strict=True)] == pytest.approx([0.0] * 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"ch_names": list("abc")}, "3 channels"), ({"times": np.arange(3)}, "3 times for 25 samples")],
)
def test_contradictions_are_told(tmp_path, changes, message):
    preprocessed(tmp_path, "test", **changes)
    with pytest.raises(DataError, match=message):
        ThingsEeg2(root=tmp_path).list()[0].load()
