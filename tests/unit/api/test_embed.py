"""`neurofm.load(...).embed(...)`: the same recording in every form gives the same vectors, beside a plain loop."""

import dataclasses
import warnings

import mne
import numpy as np
import pytest
import torch

import neurofm
from data_prep.stages.resample import Resample
from neurofm.hub.load import load_model
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError

NAMES = tuple(f"sim:{i:02d}" for i in range(6))


def by_hand(folder, signal, ids=None):
    """Standardize over the whole signal, cut, encode window by window."""
    loaded = load_model(folder)
    x = (signal - signal.mean(1, keepdims=True)) / signal.std(1, keepdims=True)
    rows = []
    for k in range(x.shape[1] // 50):
        window = torch.from_numpy(x[None, :, 50 * k : 50 * (k + 1)]).float()
        batch = NeuralBatch(
            signal=window, channel_mask=torch.ones(1, len(x), dtype=torch.bool), rate_hz=50.0,
            time_mask=torch.ones(1, 50, dtype=torch.bool),
            channel_ids=torch.tensor([ids or list(range(1, len(x) + 1))]),
        )  # fmt: skip
        with torch.no_grad():
            rows.append(loaded.model.pool(loaded.model(batch))[0].numpy())
    return np.array(rows)


def raw_of(signal, names=NAMES, rate=50.0):
    return mne.io.RawArray(signal * 1e-6, mne.create_info(list(names), rate, "eeg"), verbose="error")


def test_array_equals_a_loop_by_hand(saved, signal):
    folder = saved()
    z = neurofm.load(folder).embed(signal, rate_hz=50, channel_names=NAMES)
    np.testing.assert_allclose(np.asarray(z), by_hand(folder, signal), rtol=1e-4, atol=1e-5)
    assert len(z) == 20
    assert z.channel_names_used == NAMES
    np.testing.assert_allclose(z.start_s, np.arange(20))
    assert z.vectors.std(axis=0).min() > 1e-3


def test_every_form_gives_the_same(saved, signal, recordings, tmp_path):
    m = neurofm.load(saved())
    expected = np.asarray(m.embed(recordings["02"]))
    raw = raw_of(signal)
    raw.save(tmp_path / "given_raw.fif", verbose="error")
    forms = {
        "raw": m.embed(raw),
        "file": m.embed(tmp_path / "given_raw.fif"),
        "volts": m.embed(signal * 1e-6, rate_hz=50, channel_names=NAMES, unit="V"),
        "trials": m.embed(signal.reshape(6, 10, 100).swapaxes(0, 1), rate_hz=50, channel_names=NAMES),
        "epochs": m.embed(mne.make_fixed_length_epochs(raw, 2.0, verbose="error")),
    }
    for name, z in forms.items():
        np.testing.assert_allclose(np.asarray(z), expected, rtol=1e-3, atol=1e-4, err_msg=name)
    assert forms["epochs"].interval.tolist() == np.repeat(np.arange(10), 2).tolist()


def test_order_and_spelling_of_channels_do_not_matter(saved, signal):
    m = neurofm.load(saved())
    expected = np.asarray(m.embed(signal, rate_hz=50, channel_names=NAMES))
    order = np.random.default_rng(0).permutation(6)
    # "03" is what follows the prefix of "sim:03", and of nothing else
    z = m.embed(signal[order], rate_hz=50, channel_names=[NAMES[i].upper() if i % 2 else f"{i:02d}" for i in order])
    np.testing.assert_allclose(np.asarray(z), expected, rtol=1e-5, atol=1e-6)
    assert z.channel_names_used == NAMES


def test_calibration_looks_at_its_part_only(saved, signal):
    m = neurofm.load(saved())
    late = signal.copy()
    late[:, 600:] *= 50
    how = dict(rate_hz=50, channel_names=NAMES, calibration_s=10)
    a, b = m.embed(signal, **how), m.embed(late, **how)
    np.testing.assert_array_equal(a.vectors[:12], b.vectors[:12])
    assert not a.transductive
    assert "first 10 s" in a.notes[0]
    whole = m.embed(late, rate_hz=50, channel_names=NAMES)
    assert whole.transductive
    assert "transductive" in whole.notes[0]
    # a calibration longer than the recording is all of it
    assert m.embed(late, rate_hz=50, channel_names=NAMES, calibration_s=3000).transductive
    assert np.abs(whole.vectors[:12] - a.vectors[:12]).max() > 1e-3


def test_any_transform_that_learns_is_calibrated(saved, signal):
    m = neurofm.load(saved(transform="spatial_whiten"))
    z = m.embed(signal, rate_hz=50, channel_names=NAMES, calibration_s=10)
    assert z.notes == ("spatial_whiten: learned from the first 10 s of the recording only",)
    assert np.isfinite(z.vectors).all()


def test_without_a_transform_nothing_is_learned(saved, signal):
    z = neurofm.load(saved(transform=None)).embed(signal / 20, rate_hz=50, channel_names=NAMES)
    assert (z.transductive, z.notes) == (False, ())


def test_a_recording_of_the_training_keeps_its_statistics(saved, recordings):
    m = neurofm.load(saved())
    z = m.embed(recordings["01"])
    assert not z.transductive
    assert "know this recording" in z.notes[0]
    x = np.array(recordings["01"].signal.read(0, 0, 1000)).T
    same = m.embed(x, rate_hz=50, channel_names=NAMES, recording_id=recordings["01"].recording_id)
    np.testing.assert_array_equal(np.asarray(z), np.asarray(same))
    with pytest.raises(ConfigError, match="not one that the model's transforms know"):
        m.embed(x, rate_hz=50, channel_names=NAMES, recording_id="nobody")


def test_stages_of_the_training_are_run(saved, signal):
    folder = saved(stages=[{"name": "resample", "rate_hz": 50}])
    fast = np.repeat(signal, 2, axis=1)
    z = neurofm.load(folder).embed(fast, rate_hz=100, channel_names=NAMES)
    stage = Resample(rate_hz=50)
    from data_prep.stages.base import SignalInfo

    stage.start(SignalInfo(rate_hz=100.0, channels=()))
    slow = np.concatenate([stage.push(fast.T), stage.flush()]).T
    np.testing.assert_allclose(np.asarray(z), by_hand(folder, slow), rtol=1e-3, atol=1e-4)


def test_another_rate_is_resampled_and_said(saved, signal):
    z = neurofm.load(saved()).embed(np.repeat(signal, 2, axis=1), rate_hz=100, channel_names=NAMES)
    assert len(z) == 20
    assert "resampled from 100 to 50 Hz" in z.notes


def test_flat_channels_are_left_out(saved, signal):
    signal[2] = 4.0
    z = neurofm.load(saved(stages=[{"name": "quality"}])).embed(signal, rate_hz=50, channel_names=NAMES)
    assert "sim:02" not in z.channel_names_used
    assert any("sim:02" in note for note in z.notes)


def test_policies_for_unknown_channels(saved, signal):
    folder = saved(n_channels=6)
    m = neurofm.load(folder)
    names = [*NAMES[:5], "EMG1"]
    with pytest.raises(DataError, match=r"does not know 1 of 6 channels: EMG1;.*channel_policy='drop'"):
        m.embed(signal, rate_hz=50, channel_names=names)
    with pytest.warns(UserWarning, match="EMG1; they were left out"):
        z = m.embed(signal, rate_hz=50, channel_names=names, channel_policy="drop")
    np.testing.assert_allclose(np.asarray(z), by_hand(folder, signal[:5]), rtol=1e-4, atol=1e-5)
    assert "1 of the 6 channels that the model knows are not in this recording" in z.notes
    with pytest.warns(UserWarning, match="without a name"):
        kept = m.embed(signal, rate_hz=50, channel_names=names, channel_policy="keep")
    np.testing.assert_allclose(np.asarray(kept), by_hand(folder, signal, [1, 2, 3, 4, 5, 0]), rtol=1e-4, atol=1e-5)


def test_trial_models_take_the_first_window_of_a_trial(saved, signal):
    z = neurofm.load(saved(task="trial")).embed(
        signal.reshape(6, 10, 100).swapaxes(0, 1), rate_hz=50, channel_names=NAMES
    )
    assert z.interval.tolist() == list(range(10))


def test_predict(saved, signal):
    m = neurofm.load(saved(classes=("left", "right")))
    p = m.predict(signal, rate_hz=50, channel_names=NAMES, stride_s=0.5)
    assert np.asarray(p).shape == (39, 2)
    np.testing.assert_allclose(p.probabilities.sum(1), 1, rtol=1e-5)
    assert set(p.labels) <= {"left", "right"}


def test_predict_needs_a_classifier(saved, signal):
    with pytest.raises(ConfigError, match="knows no classes"):
        neurofm.load(saved()).predict(signal, rate_hz=50, channel_names=NAMES)


def test_a_card_can_import_nothing(saved, signal):
    folder = saved(stages=[{"name": "os:getcwd"}])
    with pytest.raises(ConfigError, match="import path"):
        neurofm.load(folder).embed(signal, rate_hz=50, channel_names=NAMES)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (dict(channel_names=NAMES), "pass rate_hz="),
        (dict(rate_hz=50), "channel_names=, one for each of its 6 rows, got none"),
        (dict(rate_hz=50, channel_names=NAMES[:4]), "got 4"),
        (dict(rate_hz=50, channel_names=NAMES, unit="mv"), "did you mean 'mV'"),
        (dict(rate_hz=50, channel_names=NAMES, modality="egg"), "or 'eeg'"),
        (dict(rate_hz=50, channel_names=NAMES, channel_policy="dropp"), "did you mean 'drop'"),
        (dict(rate_hz=50, channel_names=NAMES, calibration_s=-1), "above 0"),
        (dict(rate_hz=50, channel_names=["sim:00", "SIM:00", *NAMES[2:]]), "both 'sim:00'"),
    ],
)
def test_wrong_arguments_get_a_sentence(saved, signal, how, sentence):
    with pytest.raises((ConfigError, DataError), match=sentence):
        neurofm.load(saved()).embed(signal, **how)


def test_wrong_recordings_get_a_sentence(saved, signal, tmp_path):
    m = neurofm.load(saved())
    how = dict(rate_hz=50, channel_names=NAMES)
    with pytest.raises(DataError, match=r"longest valid stretch is 0\.8 s"):
        m.embed(signal[:, :40], **how)
    with pytest.raises(ConfigError, match="transposed"):
        m.embed(signal.T, **how)
    hole = signal.copy()
    hole[3, 7] = np.nan
    with pytest.raises(DataError, match="'sim:03' holds values that are not finite"):
        m.embed(hole, **how)
    with pytest.raises(DataError, match="no such file"):
        m.embed(tmp_path / "no.edf")
    (tmp_path / "broken.edf").write_bytes(b"x" * 300)
    with pytest.raises(DataError, match="mne cannot open it"):
        m.embed(tmp_path / "broken.edf")
    with pytest.raises(ConfigError, match="type dict"):
        m.embed({})


def test_nothing_learned_across_calls(saved, signal):
    m = neurofm.load(saved())
    how = dict(rate_hz=50, channel_names=NAMES)
    a = m.embed(signal, **how)
    m.embed(signal * 7 + 3, **how)
    np.testing.assert_array_equal(np.asarray(a), np.asarray(m.embed(signal, **how)))


def test_result_is_an_array(saved, signal):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = neurofm.load(saved()).embed(signal, rate_hz=50, channel_names=NAMES)
        assert np.asarray(z, dtype=np.float64).dtype == np.float64
        assert np.asarray(z) is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        z.window_s = 2.0
