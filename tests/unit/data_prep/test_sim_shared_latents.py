"""Simulated people with shared latents: the oracle is what a decoder with the true parameters reaches on its trials."""

import numpy as np
import pytest

from data_prep.sources import SOURCES
from data_prep.sources.sim_shared_latents import SimSharedLatents, latents, oracle, pattern, simulate
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import hash_of

SMALL = dict(n_subjects=3, n_channels=20, n_train=30, n_test=60, n_latents=5, n_dims=8, noise=2.0)


def found_by_bayes(choices, subject):
    """Top-1 of argmax p(image | trial) over the trials themselves, one matrix product per image, nothing folded."""
    recording, m, z = simulate(choices, subject, "test"), pattern(choices, subject), latents(choices, "test")
    hits = []
    for k, event in enumerate(recording.events):
        y = recording.signal.read(k, 0, m.shape[1]).T
        error = [((y - m @ one) ** 2).sum() for one in z]
        hits.append(int(np.argmin(error)) == int(event.stimulus_id.split("-")[1]))
    return np.mean(hits)


@pytest.mark.parametrize(
    ("modality", "native", "noise"), [("fmri", False, 1.0), ("fmri", True, 1.0), ("meg", False, 8.0)]
)
def test_the_oracle_is_reached_by_the_true_parameters(modality, native, noise):
    choices = SimSharedLatents(**SMALL | {"noise": noise}, modality=modality, native=native).choices
    best = oracle(choices)["by_subject"]["02"]["1"]["top1"]
    assert 0.2 < best < 0.99
    # three standard errors of 60 trials
    assert found_by_bayes(choices, 2) == pytest.approx(best, abs=0.19)


def test_people_share_a_mixing_or_do_not():
    def alike(**choices):
        c = SimSharedLatents(**SMALL, **choices).choices
        a, b = (pattern(c, s)[:14].ravel() for s in (2, 3))
        return np.corrcoef(a, b)[0, 1]

    assert alike(native=False) > 0.8
    assert abs(alike(native=True)) < 0.4
    with pytest.raises(ConfigError, match="unknown modality 'eeg'"):
        SimSharedLatents(modality="eeg")


def test_outliers_are_as_rare_and_large_as_told():
    choices = SimSharedLatents(**SMALL, modality="meg", outlier_share=0.01, outlier_gain=200.0).choices
    signal = simulate(choices, 1, "train").signal
    values = np.concatenate([signal.read(k, 0, 60) for k in range(30)])
    assert (np.abs(values) > 50).mean() == pytest.approx(0.008, abs=0.003)


@pytest.mark.parametrize(
    ("name", "hashes"),
    [
        ("sim_image_eeg", ("73581cdc0ee21c3b", "ff43cfd3e425822c", "9cd0e9154fd13afa")),
        ("sim_shared_latents", ("e9d7795a74768921", "8b2fb3153291f593", "9b05f0e3e95d6add")),
    ],
)
def test_prepared_data_keep_their_fingerprints(name, hashes):
    source = SOURCES.get(name)()
    assert (hash_of(source.describe()), *(i.fingerprint for i in source.list()[:2])) == hashes


def test_a_simulator_of_nothing_is_a_sentence():
    with pytest.raises(ConfigError, match="source 'sim_shared_latents': n_channels is 0; expected 1 or more"):
        SimSharedLatents(n_channels=0)
    with pytest.raises(ConfigError, match="source 'sim_image_eeg': rate_hz is 0; expected above 0"):
        SOURCES.get("sim_image_eeg")(rate_hz=0)
