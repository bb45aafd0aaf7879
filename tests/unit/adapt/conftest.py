"""Prepared trials on disk, by the independent writer of the data tests."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

N_TRAIN, N_TEST, RATE_HZ = 40, 12, 20.0


def _writer():
    path = Path(__file__).parents[1] / "data" / "conftest.py"
    spec = importlib.util.spec_from_file_location("shard_writer_of_data_tests", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def labelled_trials(tmp_path_factory):
    """Two people, official parts, trials of 1 s; class "up" or "down" is the slope that three channels share.

    Test trials are huge, so whoever looks at them shows.
    """
    writer = _writer()
    rng = np.random.default_rng(0)
    made = []
    for person in ("1", "2"):
        for part, n in (("train", N_TRAIN), ("test", N_TEST)):
            labels = rng.permutation(np.arange(n) % 2)
            slope = (labels * 2.0 - 1)[:, None] * np.linspace(-1, 1, 20)
            noise = rng.standard_normal((n, 20, 3))
            trials = slope[..., None] * [2.0, -2.0, 1.0] + noise + noise[..., :1] * 2
            events = [
                {"onset_s": 2.0 * i + 0.4, "duration_s": 0.0, "kind": "trial", "label": ("down", "up")[labels[i]],
                 "trial": i}
                for i in range(n)
            ]  # fmt: skip
            made.append(
                writer.Made(f"p{person}_{part}", list(trials * (1e4 if part == "test" else 1.0)), rate_hz=RATE_HZ,
                            starts_s=[2.0 * i for i in range(n)], subject=person, part=part, events=events)
            )  # fmt: skip
    return writer.make_shards(tmp_path_factory.mktemp("labelled"), made, dataset_id="labelled")
