import itertools
import math

import pytest
import torch
from torch import nn

from neurofm.schema.errors import ConfigError
from neurofm.training.module import NeuroModule
from neurofm.training.schedule import layer_scales, parameter_groups, warmup_cosine, warmup_stable_decay
from neurofm.training.seeds import seed_of


def test_warmup_then_cosine():
    f = [warmup_cosine(s, warmup_steps=4, total_steps=12, floor=0.1) for s in range(14)]
    assert f[:4] == [0.25, 0.5, 0.75, 1.0]
    assert f[4] == 1.0
    assert f[8] == pytest.approx(0.1 + 0.9 * 0.5)
    assert f[12] == f[13] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(f[4:13]))
    assert warmup_cosine(0, warmup_steps=0, total_steps=1) == 1.0
    assert f[6] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 4)))


def test_warmup_stable_decay():
    f = [warmup_stable_decay(s, warmup_steps=2, total_steps=20, floor=0.1, decay_fraction=0.2) for s in range(22)]
    assert f[:2] == [0.5, 1.0]
    assert f[2:17] == [1.0] * 15
    assert f[17] == pytest.approx(0.1 + 0.9 * 0.5)  # 1 − √(1/4)
    assert f[20] == f[21] == pytest.approx(0.1)
    assert warmup_stable_decay(19, warmup_steps=0, total_steps=20, decay_fraction=0.0) == 1.0
    # a longer run agrees with a shorter one up to where that began to decay
    longer = [warmup_stable_decay(s, warmup_steps=2, total_steps=40, decay_fraction=0.2) for s in range(17)]
    assert longer == f[:17]


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"schedule": "wds"}, "did you mean 'wsd'"),
        ({"schedule": "wsd", "warmup_steps": 9, "decay_fraction": 0.2}, "decay_fraction=0.2 must lie"),
    ],
)
def test_wrong_schedules(tiny, choices, sentence):
    with pytest.raises(ConfigError, match=sentence):
        NeuroModule(model=tiny.model(), objective=nn.Linear(1, 1), total_steps=10, **choices)


def test_groups_of_the_real_model(tiny):
    module = nn.ModuleDict({"model": tiny.model(), "objective": nn.Linear(16, 2)})
    groups = parameter_groups(module, lr_peak=1.0, weight_decay=0.1, layer_decay=0.5)
    names = {id(p): n for n, p in module.named_parameters()}
    where = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert set(where) == set(names.values())
    assert where["objective.weight"] == (1.0, 0.1)
    assert where["objective.bias"] == (1.0, 0.0)
    assert where["model.norm.weight"] == (1.0, 0.0)
    assert where["model.blocks.1.attention.query.weight"] == (0.5, 0.1)
    assert where["model.blocks.0.attention.query.weight"] == (0.25, 0.1)
    assert where["model.blocks.0.attention.bias"] == (0.25, 0.0)
    assert where["model.tokenizer.embed.weight"] == (0.125, 0.1)
    assert where["model.time_table.weight"] == (0.125, 0.0)
    assert where["model.mask_token"] == (0.125, 0.0)


def test_layer_scales_without_blocks():
    assert layer_scales(["head.weight", "embed.weight"], 0.5) == {"head.weight": 1.0, "embed.weight": 0.5}


def test_refusals(tiny):
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        parameter_groups(frozen, lr_peak=1.0, weight_decay=0.0)
    with pytest.raises(ConfigError, match="layer_decay"):
        parameter_groups(nn.Linear(2, 2), lr_peak=1.0, weight_decay=0.0, layer_decay=1.5)
    with pytest.raises(ConfigError, match="warmup_steps=9"):
        NeuroModule(model=frozen, objective=frozen, warmup_steps=9, total_steps=3)


def test_seeds_are_fixed_for_good():
    """A checkpoint of today must draw the same masks with the code of tomorrow."""
    assert seed_of(0, "mask", 7) == 1562872298418293887
    assert len({seed_of(s, k, i) for s in range(5) for k in ("mask", "dropout") for i in range(50)}) == 500
    assert 0 <= seed_of("x") < 2**63
    assert torch.Generator().manual_seed(seed_of("x")).initial_seed() == seed_of("x")
