"""LiPCoT: planted processes are told apart, the vocabulary is the training part's alone, codes become signals again."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter, welch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score

from neurofm.hub.load import load_model
from neurofm.hub.save import save_model
from neurofm.models import MODELS
from neurofm.models.base import CodebookModel
from neurofm.nn.vocabulary import fit_vocabulary
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import DataError
from neurofm.schema.facts import Facts

P, T = 200, 6
FACTS = Facts(rate_hz=100.0, window_s=T * P / 100, max_channels=3, channels=("a", "b", "c"))
CHOICES = dict(patch_samples=P, order=2, warp=0.0, n_codes=4, dim=16, n_layers=1, n_heads=1, ffn_dim=16, dropout=0.0)
# resonances of four kinds of activity, Hz, how long they ring, and what drives them: every feature tells kinds apart, since
# standardising lifts one that does not to the size of those that do
KINDS, RADIUS, DRIVE = (4.0, 12.0, 22.0, 36.0), (0.97, 0.9, 0.8, 0.93), (0.5, 4.0, 2.0, 16.0)


def planted(n=8, seed=0):
    """Every patch of every channel is one of four resonances; return the batch and which, (B, T, C)."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(4, size=(n, T, 3))
    x = np.empty((n, 3, T * P))
    for b, t, c in np.ndindex(kind.shape):
        k = kind[b, t, c]
        r, w = RADIUS[k], 2 * np.pi * KINDS[k] / 100
        noise = DRIVE[k] * rng.standard_normal(P + 300)
        x[b, c, t * P : (t + 1) * P] = lfilter([1.0], [1, -2 * r * np.cos(w), r * r], noise)[300:]
    batch = NeuralBatch(
        signal=torch.from_numpy(x).float(), channel_mask=torch.ones(n, 3, dtype=torch.bool),
        time_mask=torch.ones(n, T * P, dtype=torch.bool), rate_hz=100.0, channel_ids=torch.arange(1, 4).expand(n, -1),
    )  # fmt: skip
    return batch, kind


def solved(seed=0):
    torch.manual_seed(0)
    model = MODELS.build("lipcot", FACTS, **CHOICES)
    model.solve([planted(seed=seed)[0]], new_subject=False)
    return model.eval()


def test_planted_kinds_are_recovered():
    model = solved()
    batch, kind = planted(seed=5)
    codes = model.codes(batch)
    assert isinstance(model, CodebookModel)
    assert codes.code.shape == (8, T * 3, 1)
    assert adjusted_mutual_info_score(kind.reshape(-1), codes.code.flatten().numpy()) > 0.9


def test_signal_to_codes_to_signal_keeps_the_spectrum():
    model = solved()
    batch, kind = planted(seed=6)
    back = model.decode(model.codes(batch), batch)
    assert back.shape == batch.signal.shape
    for k in range(4):
        where = kind.transpose(0, 2, 1) == k
        f, made = welch(back.numpy().reshape(8, 3, T, P)[where], fs=100, nperseg=100)
        _, real = welch(batch.signal.numpy().reshape(8, 3, T, P)[where], fs=100, nperseg=100)
        band = (f > 1) & (f < 45)
        assert np.abs(np.log10(np.median(made, 0)[band] / np.median(real, 0)[band])).max() < 0.4
    assert torch.equal(back, model.decode(model.codes(batch), batch))


def test_vocabulary_is_as_good_as_scikit_learns():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((600, 5)) * [1, 2, 3, 4, 5])
    words = fit_vocabulary(x, 12, seed=1)
    scaled = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    reference = KMeans(12, n_init=10, random_state=0).fit(scaled).inertia_
    distance = torch.cdist(torch.from_numpy(scaled), words.centres.double()).amin(1)
    assert float(distance.square().sum()) <= 1.02 * reference
    again = fit_vocabulary(x, 12, seed=1)
    assert torch.equal(again.centres, words.centres)
    with pytest.raises(DataError, match="needs as many"):
        fit_vocabulary(x[:5], 12)


def test_the_vocabulary_never_changes_after():
    model = solved()
    before = {n: model.get_buffer(n).clone() for n in model.solved}
    batch, _ = planted(seed=9)
    model.train()
    model.codes(batch), model(batch), model.losses(batch, None)
    model.solve([batch], new_subject=True)
    assert all(torch.equal(model.get_buffer(n), t) for n, t in before.items())


def test_saved_with_the_model_and_kept_by_a_fresh_start(tmp_path):
    model = solved()
    facts = Facts(**{**FACTS.__dict__, "classes": ("x", "y")})
    objective = OBJECTIVES.build("supervised", model, facts)
    save_model(
        tmp_path / "m", model=model, objective=objective, model_name="lipcot", model_choices=CHOICES,
        objective_name="supervised", objective_choices={}, facts=facts,
    )  # fmt: skip
    loaded = load_model(tmp_path / "m")
    batch, _ = planted(seed=2)
    assert torch.equal(loaded.model.codes(batch).code, model.codes(batch).code)
    fresh = loaded.fresh(seed=7)
    assert torch.equal(fresh.model.codes(batch).code, model.codes(batch).code)
    assert not torch.equal(fresh.model.code_embedding.weight, model.code_embedding.weight)


def test_padding_does_not_change_codes_or_signals():
    model = solved()
    batch, _ = planted(n=2)
    pad = torch.nn.functional.pad
    wide = NeuralBatch(
        signal=pad(batch.signal, (0, 0, 0, 2)), channel_mask=pad(batch.channel_mask, (0, 2)),
        time_mask=batch.time_mask, rate_hz=100.0, channel_ids=pad(batch.channel_ids, (0, 2)),
    )  # fmt: skip
    a, b = model.codes(batch), model.codes(wide)
    assert torch.equal(a.code[a.mask], b.code[b.mask])
    torch.testing.assert_close(model.decode(b, wide)[:, :3], model.decode(a, batch))
