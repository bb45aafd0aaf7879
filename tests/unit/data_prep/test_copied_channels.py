"""The stride bug and plain copies are found, ordinary channels are not; what the bug does to a masked objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from data_prep.flow import build_stages, run_stages
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts
from neurofm.schema.recording import Channel, Recording, Stream

RATE, C, T = 128.0, 6, 896


def trials(n=5, seed=0):
    """Independent channels, (T, C) each."""
    rng = np.random.default_rng(seed)
    return [4000 + lfilter([1.0], [1, -0.95], rng.standard_normal((T, C)), axis=0) for _ in range(n)]


def stride_bug(x):
    """Channel k is flat[C k : C k + T] of the channel-major trial, as three published sets are stored."""
    flat = x.T.reshape(-1)
    return np.stack([flat[C * k : C * k + T] for k in range(C)], axis=1)


def judged(arrays, **choices):
    channels = tuple(Channel(name=f"E{i}", kind="eeg", unit="uV") for i in range(arrays[0].shape[1]))
    stream = Stream.from_arrays(arrays, rate_hz=RATE, channels=channels)
    starts = tuple(100.0 * i for i in range(len(arrays)))
    rec = Recording(dataset="d", subject="s", modality="eeg", streams=(stream,), interval_start_s=starts)
    flow = run_stages(rec, build_stages([{"name": "copied_channels", **choices}]))
    return {c.name: c.reason for c in flow.info.channels if c.bad}, flow.figures


def test_the_stride_bug_is_found():
    bad, figures = judged([stride_bug(x) for x in trials()])
    assert figures["copied_channels"] == C - 1
    assert list(bad) == [f"E{i}" for i in range(1, C)]
    for k in range(1, C):
        assert bad[f"E{k}"] == f"holds the values of channel E{k - 1} shifted by {C} samples: stored or read wrongly"


@pytest.mark.parametrize("lag", [0, 7, -20])
def test_a_single_copy_is_found(lag):
    made = trials()
    for x in made:
        x[:, 4] = np.roll(x[:, 1], -lag) if lag else x[:, 1]
        # what is rolled in from the other end is no copy
        if lag > 0:
            x[-lag:, 4] = 4000
        elif lag < 0:
            x[:-lag, 4] = 4000
    bad, _ = judged(made)
    assert list(bad) == ["E4"]
    assert ("shifted by" in bad["E4"]) == bool(lag)
    if lag:
        assert f"E1 shifted by {lag} samples" in bad["E4"]


def test_ordinary_channels_are_not():
    assert judged(trials())[0] == {}
    # very much alike, mains in all, one dead: still no copies
    rng = np.random.default_rng(1)
    common = [lfilter([1.0], [1, -0.95], rng.standard_normal((T, 1)), axis=0) for _ in range(5)]
    mains = np.sin(2 * np.pi * 50 / RATE * np.arange(T))[:, None]
    alike = [c + 0.01 * rng.standard_normal((T, C)) + mains for c in common]
    for x in alike:
        x[:, 2] = 3.0
    assert judged(alike)[0] == {}


def test_a_copy_is_one_in_every_interval():
    made = trials()
    made[0][:, 3] = made[0][:, 0]
    assert judged(made)[0] == {}
    with pytest.raises(ConfigError, match="four times"):
        judged(made, max_lag_s=3.0)


def masked_r2(arrays, arrays_test):
    """R² of hidden channels by the linear path of the masked objective, on trials that it was not solved on."""
    names = tuple(f"E{i}" for i in range(C))
    facts = Facts(rate_hz=RATE, window_s=T / RATE, max_channels=C, channels=names)

    def batch(x):
        signal = torch.from_numpy(np.stack(x).transpose(0, 2, 1) - 4000).float()
        return NeuralBatch(
            signal=signal / signal.std(), channel_mask=torch.ones(len(x), C, dtype=torch.bool),
            time_mask=torch.ones(len(x), T, dtype=torch.bool), rate_hz=RATE,
            channel_ids=torch.arange(1, C + 1).expand(len(x), -1), subject=torch.ones(len(x), dtype=torch.long),
        )  # fmt: skip

    torch.manual_seed(0)
    model = MODELS.build(
        "mvpformer",
        facts,
        patch_samples=T // 8,
        dim=8,
        n_layers=1,
        n_heads=1,
        n_kv_heads=1,
        mask_token=True,
        backend="math",
    )
    lags = [-C, 0, C]
    skip = {
        "name": "ridge",
        "lags": lags,
        "penalty": [1.0] * 3,
        "penalty_own": [1.0] * 3,
        "penalty_alone": 1.0,
        "pooled_share": 1.0,
        "penalty_first": 1.0,
    }
    objective = OBJECTIVES.build("masked_region", model, facts, skip=skip, hide_count=[1, 1])
    train = batch(arrays)
    objective.solve([train.with_signal(train.signal)], new_subject=False)
    with torch.no_grad():
        return float(objective(model, batch(arrays_test), torch.Generator().manual_seed(0)).metrics["r2"])


def test_what_the_bug_does_to_a_masked_objective():
    # independent channels cannot be told from each other; stored wrongly they look as if they could, perfectly
    right, right_test = trials(20, seed=1), trials(20, seed=2)
    wrong, wrong_test = [stride_bug(x) for x in right], [stride_bug(x) for x in right_test]
    honest, too_good = masked_r2(right, right_test), masked_r2(wrong, wrong_test)
    assert honest < 0.1
    assert too_good > 0.9
    # preparation says so before any model is trained
    assert judged(right)[1]["copied_channels"] == 0
    assert judged(wrong)[1]["copied_channels"] == C - 1
