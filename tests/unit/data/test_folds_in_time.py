"""Stretches of one long stimulus tested in turn, and embeddings that cover less than the window."""

import numpy as np
import pytest
import torch

from neurofm.data.in_memory import InMemory
from neurofm.data.splits.stimuli import folds_in_time
from neurofm.objectives.alignment_readout import at_times
from neurofm.schema.errors import ConfigError


def recording():
    return InMemory(
        arrays=[np.zeros((1000, 1))], rate_hz=100.0, interval_start_s=[0.0], channels=[{"name": "a", "canonical": "a"}]
    )


def test_every_moment_is_tested_once_and_nothing_near_it_is_trained_on():
    d = recording()
    tested = [folds_in_time(d, n_folds=5, fold=k, gap_s=0.3) for k in range(5)]
    spans = [s for split in tested for s in split["test"]]
    np.testing.assert_allclose([(s.start_s, s.stop_s) for s in spans], [(2.0 * k, 2.0 * k + 2) for k in range(5)])
    for split in tested:
        (test,) = split["test"]
        for s in split["train"]:
            assert s.stop_s <= test.start_s - 0.3 + 1e-9 or s.start_s >= test.stop_s + 0.3 - 1e-9
        assert split["pretrain"] == split["train"]
    with pytest.raises(ConfigError, match="fold 5 of 5"):
        folds_in_time(d, n_folds=5, fold=5, gap_s=0.3)


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_stretch_for_validation_is_not_trained_on_by_models_but_by_baselines(after):
    d = recording()
    for fold in range(5):
        plain = folds_in_time(d, n_folds=5, fold=fold, gap_s=0.3)
        split = folds_in_time(d, n_folds=5, fold=fold, gap_s=0.3, validation_after=after)
        (validation,) = split["validation"]
        np.testing.assert_allclose(validation.start_s, 2.0 * ((fold + after) % 5))
        assert (split["test"], split["train"]) == (plain["test"], plain["train"])
        left_out = [*split["test"], validation]
        held = np.zeros(1000, bool)
        for s in left_out:
            held[max(0, round(100 * s.start_s) - 30) : round(100 * s.stop_s) + 30] = True
        trained = np.zeros(1000, bool)
        for s in split["pretrain"]:
            trained[round(100 * s.start_s) : round(100 * s.stop_s)] = True
        np.testing.assert_array_equal(trained, ~held)
    with pytest.raises(ConfigError, match="validation_after=5: expected 1 to 4"):
        folds_in_time(d, n_folds=5, fold=0, gap_s=0.3, validation_after=5)


def test_tokens_beyond_the_embedding_are_not_read():
    # 75 samples of 10 ms, the first 50 belong to the embedding's 50 frames
    time_s = ((torch.arange(75) + 0.5) / 100)[None]
    tokens = torch.arange(75.0)[None, :, None]
    read = at_times(tokens, time_s, 50, 0.5)
    torch.testing.assert_close(read[0, :, 0], torch.arange(50.0), atol=1e-4, rtol=0)
