"""The simulator's truth: its oracle against trials, its averaging against theory, its files against each other."""

import numpy as np
import pytest

from data_prep.sources.sim_base import rng_of
from data_prep.sources.sim_image_eeg import SimImageEeg, simulate
from data_prep.sources.sim_image_model import lead_field, person_of, world_of
from data_prep.sources.sim_image_oracle import information, oracle, ranks_by_cosine, ranks_known, whitened
from neurofm.schema.embeddings import EmbeddingFile
from neurofm.schema.hashing import read_json

SMALL = dict(
    n_subjects=2, n_train_concepts=6, n_train_images=2, n_train_repetitions=1, n_test_concepts=30, n_test_repetitions=6,
    n_families=3, n_features=5, n_dims=8, n_dipoles=4, noise=2.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def source():
    return SimImageEeg(**SMALL)


def likelihoods(choices, n_repetitions):
    """Log-likelihood of every image for every averaged test trial, with the full covariance, the slow way."""
    person, gallery = person_of(choices, 1), world_of(choices).features["test"]
    recording = simulate(choices, 1, "test")
    values = {}
    for i, event in enumerate(recording.events):
        values.setdefault(int(event.stimulus_id[5:]), []).append(recording.signal.read(i, 0, 60).T)
    covariance = np.kron(person.channel_root @ person.channel_root.T, person.time_root @ person.time_root.T)
    inverse = np.linalg.inv(covariance)
    out = np.empty((len(gallery), len(gallery)))
    for i in range(len(gallery)):
        y = np.mean(values[i][:n_repetitions], axis=0)
        for j in range(len(gallery)):
            d = (y - person.mean - person.pattern @ gallery[j]).ravel()
            out[i, j] = -0.5 * n_repetitions * d @ inverse @ d
    return out


def test_the_oracle_is_what_the_full_likelihood_reaches(source):
    choices = source.choices
    said = oracle(choices)["by_subject"]["01"]
    for n in (1, 5):
        found = (likelihoods(choices, n).argmax(axis=1) == np.arange(30)).mean()
        # 30 trials: three standard errors
        assert found == pytest.approx(said[str(n)]["top1"], abs=3 * 0.5 / np.sqrt(30))


def test_the_short_road_is_the_likelihood(source):
    # a score up to what does not depend on the candidate
    person, gallery = person_of(source.choices, 1), world_of(source.choices).features["test"]
    y = simulate(source.choices, 1, "test").signal.read(0, 0, 60).T
    a = information(person)
    s = np.einsum("ctr,ct->r", whitened(person, person.pattern), whitened(person, y - person.mean))
    score = gallery @ s - 0.5 * np.einsum("ir,rs,is->i", gallery, a, gallery)
    covariance = np.kron(person.channel_root @ person.channel_root.T, person.time_root @ person.time_root.T)
    inverse = np.linalg.inv(covariance)
    slow = [-0.5 * (d := (y - person.mean - person.pattern @ z).ravel()) @ inverse @ d for z in gallery]
    np.testing.assert_allclose(np.diff(score), np.diff(slow), rtol=1e-6, atol=1e-6)


def test_an_estimate_compared_by_cosine_is_brute_force(source):
    """E[z | y] from simulated trials and the full covariance, on one draw of the noise; the short road agrees over many."""
    world = world_of(source.choices)
    person, gallery = person_of(source.choices, 1), world.features["test"]
    prior = np.cov(world.features["train"].T)
    pattern = person.pattern.reshape(-1, len(prior))
    covariance = np.kron(person.channel_root @ person.channel_root.T, person.time_root @ person.time_root.T) / 2
    gain = prior @ pattern.T @ np.linalg.inv(pattern @ prior @ pattern.T + covariance)
    rng, unit = np.random.default_rng(0), gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    slow = []
    for _ in range(20):
        noise = (
            person.channel_root
            @ rng.standard_normal((len(gallery), *person.mean.shape))
            @ person.time_root.T
            / np.sqrt(2)
        )
        score = ((gallery @ pattern.T + noise.reshape(len(gallery), -1)) @ gain.T) @ unit.T
        slow.append((score > np.diag(score)[:, None]).sum(1))
    short = ranks_by_cosine(person, gallery, 2, np.random.default_rng(1), prior)
    assert abs((np.concatenate(slow) < 1).mean() - (short < 1).mean()) < 0.05
    assert (short < 1).mean() < (ranks_known(person, gallery, 2, np.random.default_rng(1)) < 1).mean()


def test_averaging_n_is_noise_over_root_n(source):
    person, gallery = person_of(source.choices, 1), world_of(source.choices).features["test"]
    four = ranks_known(person, gallery, 4, rng_of(source.choices, 1))
    half = person._replace(channel_root=person.channel_root / 2)
    np.testing.assert_array_equal(four, ranks_known(half, gallery, 1, rng_of(source.choices, 1)))
    top = [v["top1"] for v in oracle(source.choices)["by_subject"]["01"].values()]
    assert top == sorted(top)
    assert top[-1] > top[0] + 0.1


def test_noise_has_the_stated_covariance(source):
    choices = {**source.choices, "n_test_repetitions": 60}
    recording, person = simulate(choices, 2, "test"), person_of(choices, 2)
    z = world_of(choices).features["test"]
    noise = np.stack([
        recording.signal.read(i, 0, 60).T - person.pattern @ z[int(e.stimulus_id[5:])] - person.mean
        for i, e in enumerate(recording.events)
    ])  # fmt: skip
    over_channels = np.einsum("nct,ndt->cd", noise, noise) / noise.shape[0] / noise.shape[2]
    wanted = person.channel_root @ person.channel_root.T
    assert np.abs(over_channels - wanted).max() < 0.08 * wanted.max()
    # slow waves are strong: neighbours in time agree, as in 1/f
    lag1 = np.corrcoef(noise[:, 0, :-1].ravel(), noise[:, 0, 1:].ravel())[0, 1]
    assert 0.3 < lag1 < 0.95


def test_lead_field_is_of_a_sphere():
    place = np.array([[0.0, 0.0, 0.05], [0.0, -0.05, 0.02]])
    radial = place / np.linalg.norm(place, axis=1, keepdims=True)
    field = lead_field(place, radial)
    np.testing.assert_allclose(field.mean(axis=0), 0, atol=1e-12)
    # a source below the vertex is strongest at Cz, and turning it round turns its field round
    from data_prep.sources.sim_image_model import ELECTRODES

    assert ELECTRODES[np.argmax(field[:, 0])] == "Cz"
    np.testing.assert_allclose(lead_field(place, -radial), -field, rtol=1e-9)


def test_people_differ_but_are_alike(source):
    a, b = person_of(source.choices, 1).pattern.ravel(), person_of(source.choices, 2).pattern.ravel()
    assert 0.2 < np.corrcoef(a, b)[0, 1] < 0.98
    same = {**source.choices, "subject_spread": 0.0}
    np.testing.assert_allclose(person_of(same, 1).pattern, person_of(same, 2).pattern)


def test_files_beside_the_shards(source, tmp_path):
    rows = source.stimuli(tmp_path)
    file = EmbeddingFile(tmp_path / "embeddings" / "truth.safetensors")
    world = world_of(source.choices)
    np.testing.assert_allclose(file.read("test-00003"), world.features["test"][3] @ world.mix, rtol=1e-5, atol=1e-6)
    # rotated, so cosines are those of the features
    assert np.allclose(world.mix @ world.mix.T, np.eye(5))
    train, test = ({r["concept"] for r in rows if r["part"] == p} for p in ("train", "test"))
    assert not train & test
    assert (len(train), len(test)) == (6, 30)
    assert read_json(tmp_path / "oracle.json")["candidates"] == 30


def test_outliers_are_rare_and_large():
    plain = simulate(SimImageEeg(**SMALL).choices, 1, "train").signal.read(0, 0, 60)
    choices = SimImageEeg(**SMALL, outlier_share=0.01).choices
    wild = np.concatenate([simulate(choices, 1, "train").signal.read(i, 0, 60) for i in range(12)])
    share = (np.abs(wild) > 20 * plain.std()).mean()
    assert 0.003 < share < 0.012
