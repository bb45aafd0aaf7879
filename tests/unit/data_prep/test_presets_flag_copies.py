"""A preset that works on voltages or fields flags channels that hold another's values, from the file to the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.signal import lfilter

from data_prep.pipeline import prepare
from data_prep.stages.copied_channels import copies
from neurofm.data.dataset import Dataset
from neurofm.schema.tables import read_table

CONF = Path(__file__).parents[3] / "conf"
RATE, T = 500.0, 15_000


def recorded(n_channels: int, seed: int = 0) -> np.ndarray:
    """Channels that have much in common, shape (time, channel), µV."""
    rng = np.random.default_rng(seed)
    x = lfilter([1.0], [1, -0.95], rng.standard_normal((T, n_channels)) + 2 * rng.standard_normal((T, 1)), axis=0)
    return 20 * x / x.std(axis=0)


@pytest.mark.parametrize("preset", ["eeg", "eeg_average", "ieeg", "ieeg_bipolar", "mvpformer", "brainbert", "quality"])
def test_a_preset_flags_copies(tmp_path, preset):
    x = recorded(8)
    x[:, 5] = x[:, 2]  # in place
    x[40:, 7] = x[:-40, 6]  # 40 samples late
    x[:40, 7] = 0
    names = ["A1", "A2", "A3", "A4", "B1", "B2", "B3", "B4"]
    if preset.startswith("eeg"):
        names = ["Fz", "Cz", "Pz", "Oz", "C3", "C4", "P3", "P4"]
    modality, kind = ("eeg", "eeg") if preset.startswith("eeg") else ("ieeg", "seeg")
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        stages = OmegaConf.to_container(compose(config_name=f"prep/{preset}"))["prep"]["stages"]
    order = [s["name"] for s in stages]
    assert order.index("copied_channels") == order.index("quality") + 1
    source = {"name": "arrays", "root": str(tmp_path), "rate_hz": RATE, "channels": names, "modality": modality,
              "kind": kind, "unit": "uV"}  # fmt: skip
    np.save(tmp_path / "s1.npy", x)
    prepare(source=source, stages=stages, out=tmp_path / "d", dask="none", progress=False)
    found = {
        c["name"]: c["reason"] for c in read_table(tmp_path / "d", "channels") if "holds the values" in c["reason"]
    }
    if preset in ("ieeg_bipolar", "brainbert"):
        # a contact that is left out takes the channels made with it along, or is named in them
        assert found or len(Dataset(tmp_path / "d").channels("d_sub-s1")) < 6
    else:
        assert set(found) == {names[5], names[7]}
        assert found[names[5]].startswith(f"holds the values of channel {names[2]}: stored")
        assert f"{names[6]} shifted by -40 samples" in found[names[7]]
    (row,) = read_table(tmp_path / "d", "recordings")
    assert '"copied_channels": 2.0' in row["quality"]


def test_short_trials_are_compared_too():
    trials = [recorded(4, seed)[:60] for seed in range(3)]
    for x in trials:
        x[:-6, 3] = x[6:, 1]
    assert copies(trials, [0, 1, 2, 3], max_lag=500) == {3: (1, 6)}


def test_counts_that_are_equal_by_chance_are_no_copies():
    x = np.zeros((4000, 2))
    x[[1000, 2000], 0] = 1
    x[[1010, 2010], 1] = 1
    assert copies([x], [0, 1], max_lag=500) == {}


def test_many_channels_take_no_time():
    x = np.random.default_rng(0).standard_normal((8192, 256))
    x[:, 255] = x[:, 100]
    assert copies([x], list(range(256)), max_lag=1024) == {255: (100, 0)}


def test_only_the_beginning_is_read():
    from data_prep.flow import build_stages, run_stages
    from neurofm.schema.recording import Channel, Recording, Stream

    read: list[int] = []

    def reader(interval: int, start: int, stop: int) -> np.ndarray:
        read.append(stop)
        return np.random.default_rng(start).standard_normal((stop - start, 2))

    channels = tuple(Channel(name=n, kind="eeg", unit="uV") for n in "ab")
    stream = Stream(rate_hz=RATE, channels=channels, n_samples=(10_000_000,) * 9, read=reader)
    starts = tuple(1e5 * i for i in range(9))
    recording = Recording(dataset="d", subject="s", modality="eeg", streams=(stream,), interval_start_s=starts)
    run_stages(recording, build_stages([{"name": "copied_channels"}]))
    assert len(read) == 4
    assert max(read) == 8 * RATE
