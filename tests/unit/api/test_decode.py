"""Streamed answers are those of the same causal chain run offline, whatever the blocks; what is refused says why."""

import sys
import types

import numpy as np
import pytest
import torch
from scipy.signal import freqz, sosfilt

import neurofm
from data_prep.flow import build_stages, run_stages
from data_prep.live import Chain, MinimumPhase, causal_form
from data_prep.stages.base import SignalInfo
from data_prep.stages.filter import Filter
from neurofm.hub.load import load_model
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel

NAMES = tuple(f"sim:{i:02d}" for i in range(6))
CLASSES = ("rest", "left", "right")
STAGES = [
    {"name": "notch", "line_hz": 12.0, "transition_hz": 2.0, "harmonics": 1},
    {"name": "iir", "low_hz": 1.0, "high_hz": 20.0},
    {"name": "resample", "rate_hz": 50.0},
]


def fast(signal):
    """The same at 125 Hz, so that there is something to resample."""
    at = np.arange(int(signal.shape[1] * 2.5)) / 2.5
    return np.stack([np.interp(at, np.arange(signal.shape[1]), row) for row in signal])


@pytest.fixture
def classifier(saved):
    """A decoder with weights in its head, which starts from zero."""

    def make(**choices):
        folder = saved(classes=CLASSES, **choices)
        m = neurofm.load(folder)
        torch.manual_seed(1)
        torch.nn.init.normal_(m.loaded.objective.head.weight, std=0.5)
        return m

    return make


def offline(m, recording, *, calibration_s, stages=STAGES):
    """The causal chain on the whole recording at once, through `run_stages`, then a plain loop over windows."""
    causal, _ = causal_form(build_stages(stages))
    flow = run_stages(recording, causal)
    x = np.concatenate(list(flow.blocks(0, 0, None))).T
    n = round(calibration_s * 50)
    # as Standardize learns and stores it
    mean, std = x[:, :n].mean(1, keepdims=True), x[:, :n].std(1, keepdims=True)
    x = (x - mean) / std
    rows = []
    for a in range(n, x.shape[1] - 49, 25):
        batch = NeuralBatch(
            signal=torch.from_numpy(x[None, :, a : a + 50].copy()).float(), channel_mask=torch.ones(1, 6, dtype=torch.bool),
            time_mask=torch.ones(1, 50, dtype=torch.bool), rate_hz=50.0, channel_ids=torch.arange(1, 7)[None],
        )  # fmt: skip
        with torch.no_grad():
            rows.append(m.loaded.objective.predict(m.loaded.model, batch).softmax(1)[0].numpy())
    return np.array(rows)


@pytest.mark.parametrize("block_s", [0.008, 0.05, 0.37, 100.0])
def test_streamed_equals_the_same_chain_offline(classifier, signal, block_s):
    m = classifier(stages=STAGES)
    recording = m.recording_of(fast(signal), rate_hz=125, channel_names=NAMES)
    decoded = m.decode(recording, block_s=block_s, stride_s=0.5, calibration_s=5.0, compare=False)
    expected = offline(m, recording, calibration_s=5.0)
    assert len(decoded) == len(expected) == 29
    np.testing.assert_allclose(np.asarray(decoded), expected, rtol=1e-4, atol=1e-5)
    assert expected.std(0).min() > 3e-3, "the answers differ from window to window"
    np.testing.assert_allclose(decoded.start_s, 5 + 0.5 * np.arange(29))
    assert decoded.behind_s[:-1].min() >= 0


def test_what_was_not_yet_measured_changes_no_answer(classifier, signal):
    m = classifier(stages=STAGES)
    x = fast(signal)
    later = x.copy()
    later[:, 1500:] += 500.0
    how = dict(rate_hz=125, channel_names=NAMES, calibration_s=5.0, compare=False, block_s=0.04)
    one, other = m.decode(x, **how), m.decode(later, **how)
    # resampling waits 0.2 s at most; what had been answered by 12 s is the same
    before = one.start_s + 1.0 + one.behind_s < 11.9
    assert before.sum() >= 5
    assert np.array_equal(np.asarray(one)[before], np.asarray(other)[before])
    assert not np.allclose(np.asarray(one)[-3:], np.asarray(other)[-3:])


def test_without_filters_there_is_no_gap(classifier, signal):
    m = classifier()
    decoded = m.decode(signal, rate_hz=50, channel_names=NAMES, calibration_s=5.0, block_s=0.1, stride_s=0.5)
    assert decoded.gap["gap_windows"] == 29
    assert decoded.gap["gap_probability_max"] < 1e-5
    assert decoded.gap["gap_same_label"] == 1
    filtered = classifier(stages=STAGES)
    gap = filtered.decode(fast(signal), rate_hz=125, channel_names=NAMES, calibration_s=5.0).gap
    assert gap["gap_probability_max"] > 1e-3, "causal filters have another phase, and it is reported"


def test_figures(classifier, signal):
    m = classifier()
    f = m.decode(signal, rate_hz=50, channel_names=NAMES, calibration_s=2.0, duration_s=10).figures
    assert f["n_windows"] == 8
    assert 0 < f["latency_ms_p50"] <= f["latency_ms_p95"] <= f["latency_ms_p99"] <= f["latency_ms_max"]
    assert f["decodes_per_s"] > 1


def test_refusals(classifier, saved, signal, tmp_path):
    how = dict(rate_hz=50, channel_names=NAMES)
    with pytest.raises(ConfigError, match="knows no classes"):
        neurofm.load(saved()).decode(signal, **how)
    m = classifier()
    with pytest.raises(ConfigError, match="pass calibration_s"):
        m.decode(signal, **how)
    with pytest.raises(ConfigError, match="stride_s=2"):
        m.decode(signal, stride_s=2.0, calibration_s=1.0, **how)
    with pytest.raises(DataError, match=r"before one window of 1 s was complete after 19\.5 s"):
        m.decode(signal, calibration_s=19.5, **how)
    with pytest.raises(ConfigError, match=r"Detrend.*needs what is still to come"):
        classifier(stages=[{"name": "detrend"}]).decode(signal, calibration_s=1.0, **how)
    broken = signal.copy()
    broken[2, 500] = np.nan
    with pytest.raises(DataError, match="are not finite"):
        m.decode(broken, calibration_s=1.0, compare=False, **how)


def test_minimum_phase_keeps_the_gain_and_loses_the_delay():
    info = SignalInfo(rate_hz=250.0, channels=(Channel(name="a", kind="eeg", unit="uV"),))
    for stage in (Filter(low_hz=1.0), Filter(high_hz=40.0), Filter(low_hz=4.0, high_hz=30.0)):
        made = MinimumPhase(stage)
        made.start(info)
        kernel = stage.design(info)
        _, before = freqz(kernel, worN=4096, fs=250)
        after = freqz(made._kernel, worN=4096, fs=250)[1]
        passed = np.abs(before) > 0.5
        np.testing.assert_allclose(np.abs(after)[passed], np.abs(before)[passed], atol=0.02)
        assert np.abs(after)[np.abs(before) < 0.01].max() < 0.03
        # half of the energy has come long before the middle of the linear-phase kernel
        energy = np.cumsum(made._kernel**2) / np.sum(made._kernel**2)
        assert np.searchsorted(energy, 0.5) < len(kernel) // 4
        # a constant passes as it does there, from the first sample on
        out = made.push(np.full((300, 1), 1000.0))
        np.testing.assert_allclose(out, 1000.0 * kernel.sum(), atol=1e-6)


def test_causal_iir_is_scipys_forward_pass(signal):
    stages, notes = causal_form(build_stages([{"name": "iir", "low_hz": 1.0, "high_hz": 20.0, "order": 2}]))
    chain = Chain(stages)
    info = SignalInfo(rate_hz=50.0, channels=tuple(Channel(name=n, kind="eeg", unit="uV") for n in NAMES))
    chain.start(info)
    x = signal.T - signal.T[0]
    out = np.concatenate([chain.push(b) for b in np.array_split(x, 37)])
    np.testing.assert_allclose(out, sosfilt(stages[0].design(50.0), x, axis=0), atol=1e-9)
    assert "forward pass" in notes[0]


class FakeStream:
    """What decode uses of mne_lsl.stream.StreamLSL, fed from an array in volts."""

    data: np.ndarray

    def __init__(self, bufsize, *, name):
        self.at, self.name, self.info, self.ch_names = 0, name, {"sfreq": 50.0}, list(NAMES)

    def connect(self, acquisition_delay, timeout):
        if self.name == "absent":
            raise RuntimeError("nothing found")

    @property
    def n_new_samples(self):
        return min(7, self.data.shape[1] - self.at)

    def get_data(self, winsize):
        n = round(winsize * 50)
        self.at += n
        return self.data[:, self.at - n : self.at], None

    def disconnect(self):
        pass


def test_live_stream(classifier, signal, monkeypatch):
    m = classifier()
    monkeypatch.setitem(sys.modules, "mne_lsl", None)
    with pytest.raises(ConfigError, match=r"neurofm\[live\]"):
        m.decode("lsl:amp", calibration_s=5.0)
    module = types.ModuleType("mne_lsl.stream")
    module.StreamLSL = FakeStream
    FakeStream.data = signal * 1e-6
    monkeypatch.setitem(sys.modules, "mne_lsl", types.ModuleType("mne_lsl"))
    monkeypatch.setitem(sys.modules, "mne_lsl.stream", module)
    monkeypatch.setattr("data_prep.live_lsl.SILENCE_S", 0.05)
    live = m.decode("lsl:amp", calibration_s=5.0)
    file = m.decode(signal, rate_hz=50, channel_names=NAMES, calibration_s=5.0, compare=False)
    np.testing.assert_allclose(np.asarray(live), np.asarray(file), atol=1e-5)
    with pytest.raises(DataError, match="no stream named 'absent'"):
        m.decode("lsl:absent", calibration_s=5.0)


def test_trials_of_an_array_restart_the_chain(classifier, signal):
    """Nothing of one interval reaches into the next: each is decoded as if it were alone."""
    m = classifier(stages=[{"name": "iir", "low_hz": 1.0, "high_hz": 20.0}])
    trials = signal.reshape(6, 10, 100).swapaxes(0, 1)
    how = dict(rate_hz=50, channel_names=NAMES, recording_id=_known(m), compare=False)
    together = m.decode(trials, **how)
    alone = np.concatenate([np.asarray(m.decode(t[None], **how)) for t in trials])
    np.testing.assert_allclose(np.asarray(together), alone, atol=1e-6)
    assert together.interval.tolist() == [i for i in range(10) for _ in range(2)]


def _known(m):
    state = load_model(m.loaded.folder).transforms[0]["state"]
    return next(iter(state.get("recordings", state)))
