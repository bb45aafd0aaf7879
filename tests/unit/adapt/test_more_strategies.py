"""Reset, closed-form probe, DoRA, another network, learning rates: each does what it says, or says why not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from neurofm.adapt import ADAPT
from neurofm.adapt.finetune import finetune
from neurofm.adapt.ridge_head import PENALTIES
from neurofm.hub.load import LoadedModel
from neurofm.objectives import OBJECTIVES
from neurofm.schema.errors import ConfigError, DataError

SUPERVISED = {"name": "supervised"}


@pytest.fixture
def loaded(tiny):
    model = tiny.model()
    objective = OBJECTIVES.build("masked_region", model, tiny.facts())
    card = {
        "model": {"name": "mvpformer", "choices": tiny.choices}, "objective": {"name": "masked_region", "choices": {}},
        "facts": tiny.facts().to_json(), "transforms": [], "provenance": {},
    }  # fmt: skip
    return LoadedModel(model.eval(), objective.eval(), tiny.facts(), [], card)


def test_ridge_probe_is_scikit_learns_on_the_frozen_features(loaded, tiny):
    batch = tiny.batch(40)
    result = finetune(loaded, batch, strategy="probe", strategy_choices={"solver": "ridge"}, objective=SUPERVISED)
    assert result.best_step == 0
    assert result.n_train == 40
    for n, p in result.loaded.model.named_parameters():
        assert torch.equal(p, loaded.model.state_dict()[n])
    test = tiny.batch(20, seed=5)
    with torch.no_grad():
        x, z = (loaded.model.pool(loaded.model(b)).double().numpy() for b in (batch, test))
        said = result.loaded.objective.predict(result.loaded.model, test).double().numpy()
    y = batch.target.numpy()
    mean, std = x.mean(0), x.std(0)
    weights = 40 / np.bincount(y)[y]
    oracle = RidgeCV(alphas=PENALTIES).fit(
        (x - mean) / std, np.stack([1 - 2.0 * y, 2.0 * y - 1], 1), sample_weight=weights
    )
    np.testing.assert_allclose(said, oracle.predict((z - mean) / std), rtol=1e-3, atol=1e-4)
    assert (said.argmax(1) == test.target.numpy()).mean() > 0.8


def test_ridge_probe_refuses(loaded, tiny):
    with pytest.raises(ConfigError, match="solver=ridge needs objective=supervised or behaviour"):
        finetune(loaded, tiny.batch(8), strategy="probe", strategy_choices={"solver": "ridge"})
    flat = {"name": "supervised", "readout": "flatten"}
    with pytest.raises(ConfigError, match="readout=pool"):
        finetune(loaded, tiny.batch(8), strategy="probe", strategy_choices={"solver": "ridge"}, objective=flat)
    one = replace(tiny.batch(8), target=torch.zeros(8, dtype=torch.long))
    with pytest.raises(DataError, match="all of one class"):
        finetune(loaded, one, strategy="probe", strategy_choices={"solver": "ridge"}, objective=SUPERVISED)
    with pytest.raises(ConfigError, match="did you mean 'ridge'"):
        ADAPT.build("probe", loaded, None, SUPERVISED, solver="rigde")


def test_reset_renews_and_trains_the_named_layers_alone(loaded, tiny):
    adapted = ADAPT.build("reset", loaded, None, SUPERVISED, layers=["tokenizer", "channel_table"], seed=3)
    fresh = loaded.fresh(seed=3).model.state_dict()
    own = loaded.model.state_dict()
    for n, p in adapted.loaded.model.named_parameters():
        shallow = n.startswith(("tokenizer.", "channel_table."))
        assert torch.equal(p, (fresh if shallow else own)[n])
        assert p.requires_grad == shallow
    result = finetune(
        loaded, tiny.batch(16), strategy="reset", strategy_choices={"layers": ["tokenizer"]}, objective=SUPERVISED, steps=4,
        tail="none",
    )  # fmt: skip
    moved = {n for n, p in result.loaded.model.named_parameters() if not torch.equal(p, own[n])}
    assert moved
    assert all(n.startswith("tokenizer.") for n in moved)


def test_reset_refuses(loaded):
    nobody = loaded.copy()
    nobody.model.subject_parameters = list
    with pytest.raises(ConfigError, match=r"has no layer that belongs to a subject; name its shallow layers"):
        ADAPT.build("reset", nobody, None, None)
    with pytest.raises(ConfigError, match="has no layer 'tokeniser': did you mean 'tokenizer'"):
        ADAPT.build("reset", loaded, None, None, layers=["tokeniser"])


def test_dora_starts_where_it_is_trains_lengths_and_merges(loaded, tiny):
    adapted = ADAPT.build("lora", loaded, None, None, rank=2, dora=True)
    batch = tiny.batch(4)
    with torch.no_grad():
        torch.testing.assert_close(adapted.loaded.model(batch).tokens, loaded.model(batch).tokens)
    lengths = {n: p for n, p in adapted.trainable().items() if n.endswith("magnitude")}
    assert lengths
    with torch.no_grad():
        for p in lengths.values():
            p.mul_(1.5)
        for n, p in adapted.trainable().items():
            if n.endswith("up"):
                p.normal_()
        changed = adapted.loaded.model(batch).tokens
    merged = adapted.merged()
    torch.testing.assert_close(merged.model(batch).tokens, changed)
    query = dict(merged.model.named_parameters())["blocks.0.attention.query.weight"]
    before = loaded.model.state_dict()["blocks.0.attention.query.weight"]
    # whatever the direction, the length is the trained one
    torch.testing.assert_close(query.norm(dim=1), 1.5 * before.norm(dim=1))


def test_cnn_takes_nothing_from_the_pretrained_model(loaded, tiny):
    results = []
    for scale in (1.0, 5.0):
        other = loaded.copy()
        with torch.no_grad():
            for p in other.model.parameters():
                p.mul_(scale)
        results.append(
            finetune(other, tiny.batch(24), strategy="cnn", objective=SUPERVISED, steps=30, lr_peak=1e-2, tail="none")
        )
    one, two = ([p for p in r.loaded.model.parameters()] for r in results)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert results[0].loaded.card["model"]["name"] == "nice"
    with pytest.raises(ConfigError, match="cnn classifies windows"):
        ADAPT.build("cnn", loaded, None, None)
    chosen = ADAPT.build(
        "cnn", loaded, None, SUPERVISED, model={"name": "token_transformer", "patch_samples": 4, "dim": 8}
    )
    assert chosen.loaded.card["model"]["name"] == "token_transformer"
