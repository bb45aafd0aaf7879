"""Closed-form directions against a plain loop; planted networks that differ between windows are found, labels or not."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch

from neurofm.models import MODELS
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

NAMES = ("a", "b", "c", "d", "e")
FACTS = Facts(rate_hz=64.0, window_s=2.0, max_channels=5, channels=NAMES)
MIX = 2.0 * np.random.default_rng(7).standard_normal(5)


def trial(rng, gain, ids=(1, 2, 3, 4, 5), person=1, n=128):
    """White noise and one source whose power is exp(gain), seen through MIX."""
    source = np.exp(gain / 2) * rng.standard_normal(n)
    signal = rng.standard_normal((5, n)) + MIX[:, None] * source * (1 if person == 1 else 0.8)
    at = [i - 1 for i in ids]
    return NeuralBatch(
        signal=torch.tensor(signal[at][None], dtype=torch.float32),
        channel_mask=torch.ones(1, len(ids), dtype=torch.bool),
        time_mask=torch.ones(1, n, dtype=torch.bool), rate_hz=64.0, channel_ids=torch.tensor([ids]),
        subject=torch.tensor([person]),
    )  # fmt: skip


def build(**choices):
    torch.manual_seed(0)
    return MODELS.build("log_covariance", FACTS, **{"patch_samples": 32, "dim": 1, "band_hz": (2, 30), **choices})


def test_features_are_the_log_of_a_covariance_in_a_band():
    batch = trial(np.random.default_rng(0), 0.0)
    model = build(band_hz=(8, 16)).double()
    found = model.covariance_logs(batch.signal.double(), batch.channel_mask)[0, 1]
    patch = batch.signal[0, :, 32:64].double().numpy()
    spectrum = np.fft.fft(patch, axis=1)
    frequency = np.abs(np.fft.fftfreq(32, 1 / 64))
    spectrum[:, (frequency < 8) | (frequency > 16)] = 0
    passed = np.fft.ifft(spectrum, axis=1).real
    # as if the band were all there is: white noise of variance 1 keeps 1
    covariance = passed @ passed.T / 32 * 32 / ((frequency >= 8) & (frequency <= 16)).sum()
    wanted = scipy.linalg.logm(0.9 * covariance + 0.1 * np.eye(5))
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_solved_weights_are_the_leading_direction_between_segments():
    rng = np.random.default_rng(0)
    order = {1: (1, 2, 3, 4, 5), 2: (4, 2, 1)}
    batches = [trial(rng, rng.standard_normal(), order[p], p) for p in (1, 2) for _ in range(12)]
    model = build(dim=2).double()
    model.solve(iter(batches), new_subject=False)
    # by loops over pairs of segments, in the space of whole matrices
    total = np.zeros((36, 36))
    for person, ids in order.items():
        logs = []
        for b in batches:
            if int(b.subject) == person:
                full = np.zeros((4, 6, 6))
                full[:, np.array(ids)[:, None], ids] = model.covariance_logs(b.signal.double(), b.channel_mask)[
                    0
                ].numpy()
                logs.append(full.reshape(4, 36))
        x = np.array(logs) - np.mean(logs, axis=(0, 1))
        for w in x:
            for t in range(4):
                for u in range(4):
                    if t != u:
                        total += np.outer(w[t], w[u]) / 12 / 24
    tokens = torch.cat([model(b.with_signal(b.signal.double())).tokens[0] for b in batches]).detach()
    assert tokens.mean(0).abs().max() < 1e-9
    value, vector = np.linalg.eigh(total)
    for d in range(2):
        mine = model.weight[..., d].detach().numpy().ravel()
        wanted = vector[:, -1 - d] / np.sqrt(value[-1 - d])
        assert min(np.abs(mine - wanted).max(), np.abs(mine + wanted).max()) < 1e-6 * np.abs(wanted).max()


def test_one_number_follows_what_varies_between_windows_and_other_people_too():
    rng = np.random.default_rng(1)
    model = build()
    model.solve((trial(rng, rng.standard_normal(), person=p) for p in (1, 2) for _ in range(150)), new_subject=False)
    before = model.weight.detach().clone()
    gains = rng.standard_normal(100)
    tests = [trial(rng, g, person=3) for g in gains]
    with torch.no_grad():
        found = [float(model.pool(model(b))[0, 0]) for b in tests]
    assert abs(np.corrcoef(found, gains)[0, 1]) > 0.9
    # neither a new person nor a random start is solved
    model.solve(iter(tests), new_subject=True)
    assert torch.equal(model.weight, before)
    fresh = build(start="random")
    before = fresh.weight.detach().clone()
    fresh.solve(iter(tests), new_subject=False)
    assert torch.equal(fresh.weight, before)


def test_electrodes_are_known_by_name_and_unknown_ones_leave_no_trace():
    rng = np.random.default_rng(2)
    batch = trial(rng, 0.0)
    model = build(dim=2).double().eval()
    batch = batch.with_signal(batch.signal.double())
    turned = [3, 0, 4, 1, 2]
    other = replace(batch.with_signal(batch.signal[:, turned]), channel_ids=batch.channel_ids[:, turned])
    torch.testing.assert_close(model(batch).tokens, model(other).tokens)
    few = replace(
        batch.with_signal(batch.signal[:, :3]),
        channel_ids=batch.channel_ids[:, :3],
        channel_mask=batch.channel_mask[:, :3],
    )
    for unknown in (0, 99):
        ids = batch.channel_ids.clone()
        ids[:, 3:] = unknown
        torch.testing.assert_close(model(few).tokens, model(replace(batch, channel_ids=ids)).tokens)


def test_what_cannot_be_is_said():
    with pytest.raises(ConfigError, match="holds no frequency"):
        build(band_hz=(40, 50))
    with pytest.raises(ConfigError, match=r"start='share' is unknown.*shared"):
        build(start="share")
    with pytest.raises(DataError, match="two segments"):
        build(patch_samples=128).solve([trial(np.random.default_rng(0), 0.0)], new_subject=False)
