"""Codes of parcels: planted courses recovered, error falls with the levels, absent parcels change nothing."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score

from neurofm.models import MODELS
from neurofm.models.base import CodebookModel
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=1.25, window_s=12.8, max_channels=3, channels=("a", "b", "c"))
SMALL = dict(patch_samples=4, dim=24, n_heads=2, code_dim=6, decay=0.9)
COURSES = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1], [-1.5, -0.5, 0.5, 1.5]])


def planted(n=24, seed=0, noise=0.15):
    rng = np.random.default_rng(seed)
    kind = rng.integers(4, size=(n, 4, 3))
    x = COURSES[kind].transpose(0, 2, 1, 3).reshape(n, 3, 16) + noise * rng.standard_normal((n, 3, 16))
    batch = NeuralBatch(
        signal=torch.from_numpy(x).float(), channel_mask=torch.ones(n, 3, dtype=torch.bool),
        time_mask=torch.ones(n, 16, dtype=torch.bool), rate_hz=1.25, channel_ids=torch.arange(1, 4).expand(n, -1),
    )  # fmt: skip
    return batch, kind


def trained(steps=150, make=planted, **choices):
    torch.manual_seed(0)
    model = MODELS.build("parcel_tokenizer", FACTS, **{**SMALL, **choices})
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        total = sum(model.losses(make(seed=step)[0], None)[0].values())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return model.eval()


def r2(model, batch, levels=None):
    codes = model.codes(batch)
    with torch.no_grad():
        back = model.decode(codes._replace(code=codes.code[..., :levels]), batch)
    return float(1 - (back - batch.signal).square().sum() / batch.signal.square().sum())


def test_planted_courses_are_recovered():
    model = trained(quantizer="vector", n_codes=4, n_layers=0, n_decoder_layers=0)
    batch, kind = planted(seed=999)
    code = model.codes(batch).code
    assert isinstance(model, CodebookModel)
    assert adjusted_mutual_info_score(kind.reshape(-1), code.flatten().numpy()) > 0.8
    assert r2(model, batch) > 0.8


def noise(n=24, seed=0):
    return planted(n, seed, noise=1.0)


def test_more_levels_give_more_of_the_signal():
    model = trained(make=noise, quantizer="residual", n_codes=8, n_levels=3, level_dropout=True)
    batch, _ = noise(200, seed=999)
    found = [r2(model, batch, k) for k in (1, 2, 3)]
    assert found[0] > 0.2
    assert found[0] < found[1] < found[2]


def test_finite_scalars_need_no_codebook():
    model = trained(quantizer="finite", grid_levels=[5, 5, 5], n_layers=0, n_decoder_layers=0)
    assert model.n_codes == (125,)
    assert r2(model, planted(seed=999)[0]) > 0.7


def test_wrong_name():
    with pytest.raises(ConfigError, match="did you mean 'residual'"):
        MODELS.build("parcel_tokenizer", FACTS, **SMALL, quantizer="residul")
