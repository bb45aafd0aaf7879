"""What a list of expected recordings cannot say: facts that hold whichever names and units a reader chose."""

from __future__ import annotations

import re

import numpy as np
import pytest

from data_prep.sources import SOURCES
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Recording

from .expected import Tree
from .trees import bids_fmri, brain_treebank, celegans, du_in, falcon, mayo_fnusa, neuroformer, nsd, swec


def recordings(tree: Tree) -> list[Recording]:
    return [item.load() for item in SOURCES.build(tree.source, **tree.choices).list()]


def read_or_refused(tree: Tree) -> tuple[list[Recording], list[str]]:
    read, refused = [], []
    for item in SOURCES.build(tree.source, **tree.choices).list():
        try:
            read.append(item.load())
        except DataError as error:
            refused.append(str(error))
    return read, refused


def intervals(recording: Recording) -> list[np.ndarray]:
    signal = recording.signal
    return [signal.read(i, 0, n) for i, n in enumerate(signal.n_samples)]


def events_within(recording: Recording, interval: int) -> list:
    start, stop = recording.valid[interval]
    return [e for e in recording.events if start <= e.onset_s < stop]


def test_seizure_lasts_from_onset_to_offset(tmp_path):
    (with_seizures,) = (r for r in recordings(swec.write(tmp_path)) if r.subject == "ID04")
    np.testing.assert_allclose([e.duration_s for e in with_seizures.events], [0.25, 0.7], atol=2e-3)


@pytest.mark.parametrize("fault", [{}, {"constant": True}, {"without_file": True}])
def test_clip_keeps_its_class(tmp_path, fault):
    """One class, one name; power line (0) goes under its own or not at all; a clip without a file shifts no label."""
    tree, category = mayo_fnusa.clips(tmp_path, **fault)
    read, refused = read_or_refused(tree)
    if refused:  # a patient may be refused for a clip that is missing, if the sentence names it
        assert fault == {"without_file": True}
        assert all("000001" in sentence for sentence in refused)
        return
    (recording,) = read
    names: dict[int, set[str]] = {}
    for i, clip in enumerate(intervals(recording)):
        (event,) = events_within(recording, i)
        number = round(float(np.median(clip)) / 100)
        names.setdefault(category[number], set()).add(event.label)
    assert set(names) >= {mayo_fnusa.NOISE, mayo_fnusa.PATHOLOGICAL, mayo_fnusa.PHYSIOLOGICAL}
    assert all(len(n) == 1 for n in names.values())
    assert len(set.union(*names.values())) == len(names)


def test_only_good_contacts_of_a_brain_are_read(tmp_path):
    tree, good, signals = brain_treebank.bad_and_trigger_channels(tmp_path)
    read = recordings(tree)
    assert len({r.recording_id for r in read}) == 2
    assert len({r.subject for r in read}) == 1
    found = []
    for recording in read:
        channels = recording.signal.channels
        contacts = [c for c in channels if c.kind == "seeg" and not c.bad]
        assert [c.name for c in contacts] == good
        # L, I, P are voxel numbers; a position is in metres or unknown
        positions = np.array([(c.x, c.y, c.z) for c in contacts])
        assert np.all(np.isnan(positions) | (np.abs(positions) < 0.5))
        (values,) = intervals(recording)
        found.append({c.name: values[:, i] for i, c in enumerate(channels) if c in contacts})
    first = next(f for f in found if np.allclose(f["LT1a1"], signals["LT1a1"], atol=1e-3))
    for name in good:
        np.testing.assert_allclose(first[name], signals[name], atol=1e-3)


def test_word_belongs_to_its_clip(tmp_path):
    tree, words, clips = du_in.clips(tmp_path)
    (recording,) = recordings(tree)
    read = intervals(recording)
    assert [e.label for i in range(len(read)) for e in events_within(recording, i)] == words
    for values, stored in zip(read, clips, strict=True):
        assert values.shape == stored.T.shape
        factor = values.std() / stored.std()  # the release names no unit: as stored, or volts taken for µV
        assert any(factor == pytest.approx(f, rel=1e-4) for f in (1.0, 1e6))
        np.testing.assert_allclose(values, stored.T * factor, rtol=1e-4, atol=1e-6 * values.std())


def test_command_in_a_pickle_is_not_run(tmp_path):
    tree = du_in.write_command_in_pickle(tmp_path)
    with pytest.raises(DataError):
        recordings(tree)
    assert not (tmp_path / "executed").exists()


def test_trial_shows_the_image_of_its_row(tmp_path):
    """Ids may count from 0 or 1, but all from the same; the same image has the same id in both sessions."""
    tree, shown = nsd.images(tmp_path)
    shifts = set()
    for recording in recordings(tree):
        events = [e for i in range(len(recording.signal.n_samples)) for e in events_within(recording, i)]
        numbers = np.array([int(re.findall(r"\d+", e.stimulus_id)[-1]) for e in events])
        shifts |= set(numbers - shown[recording.session, recording.part])
    assert len(shifts) == 1
    assert shifts <= {0, 1}


def test_silent_voxel_does_not_spoil_the_others(tmp_path):
    tree, stored = nsd.silent_voxel(tmp_path)
    (recording,) = (r for r in recordings(tree) if r.part == "train")
    read = np.concatenate(intervals(recording))
    assert np.isfinite(read).all()
    silent = ~read.any(axis=0)
    assert [c.bad for c in recording.signal.channels] == silent.tolist()
    kept = read[:, ~silent]
    np.testing.assert_allclose(kept, np.delete(stored, 3, axis=1), atol=1e-4)


def test_confounds_are_taken_out_and_nothing_else(tmp_path):
    tree, signal, motion = bids_fmri.drift(tmp_path)
    (recording,) = recordings(tree)
    (values,) = intervals(recording)
    assert np.isfinite(values).all()
    design = np.c_[np.ones(len(motion)), motion]
    residual = signal - design @ np.linalg.lstsq(design, signal, rcond=None)[0]
    for region in range(signal.shape[1]):
        assert np.corrcoef(values[:, region], residual[:, region])[0, 1] > 0.99
        for confound in motion.T:
            assert abs(np.corrcoef(values[:, region], confound)[0, 1]) < 0.01


def test_first_value_of_a_derivative_spoils_nothing(tmp_path):
    (recording,) = recordings(bids_fmri.write_confounds(tmp_path))
    (values,) = intervals(recording)
    assert np.isfinite(values).all()


def test_seconds_per_bin_are_not_a_rate(tmp_path):
    """250 bins of 20 ms last 5 s; read as 0.02 Hz they would last hours."""
    (recording,) = recordings(falcon.write_h1(tmp_path))
    assert recording.valid[-1][1] - recording.valid[0][0] == pytest.approx(5.0, abs=0.03)


def test_sentence_belongs_to_its_trial(tmp_path):
    tree, cues = falcon.sentences(tmp_path)
    (recording,) = recordings(tree)
    for i, cue in enumerate(cues):
        (event,) = events_within(recording, i)
        assert event.label.replace(">", " ") == cue.replace(">", " ")


def test_worms_of_one_name_are_not_one_worm(tmp_path):
    tree, worms = celegans.worms(tmp_path)
    read = recordings(tree)
    assert len({r.recording_id for r in read}) == len({r.subject for r in read}) == len(worms)
    for traces in worms:
        (recording,) = (r for r in read if list(r.signal.n_samples) == [len(next(iter(traces.values())))])
        assert recording.signal.rate_hz == pytest.approx(1 / celegans.DT_S, rel=1e-3)
        names = [c.name for c in recording.signal.channels]
        # neurons this animal lacks are there too, but marked
        assert {c.name for c in recording.signal.channels if not c.bad} == set(traces)
        assert [n for n in names if n in traces] == sorted(traces)
        (values,) = intervals(recording)
        for name, trace in traces.items():
            np.testing.assert_allclose(values[:, names.index(name)], trace, atol=1e-6)


def test_twenty_trials_saw_one_clip(tmp_path):
    (recording,) = recordings(neuroformer.write_clips(tmp_path))
    assert len(recording.valid) == 60
    shown = [{e.stimulus_id for e in events_within(recording, i)} for i in range(60)]
    thirds = [set.union(*shown[i : i + 20]) for i in (0, 20, 40)]
    assert all(len(t) == 1 for t in thirds)
    assert len(set.union(*thirds)) == 3
