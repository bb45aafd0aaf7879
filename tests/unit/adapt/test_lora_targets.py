"""Which maps LoRA changes: the published ones, or others by choice."""

import pytest
import torch

from neurofm.adapt import ADAPT
from neurofm.hub.load import LoadedModel
from neurofm.objectives import OBJECTIVES
from neurofm.schema.errors import ConfigError

ROWS = {"query": ("query", slice(None)), "key": ("key_value", slice(0, 8)), "value": ("key_value", slice(8, 16))}


@pytest.fixture
def loaded(tiny):
    model = tiny.model()
    objective = OBJECTIVES.build("masked_region", model, tiny.facts())
    card = {
        "model": {"name": "mvpformer", "choices": tiny.choices},
        "objective": {"name": "masked_region", "choices": {}},
        "facts": tiny.facts().to_json(),
    }
    return LoadedModel(model.eval(), objective.eval(), tiny.facts(), [], card)


def changed(loaded, **choices):
    """Which of query, key and value are other weights after every change got random numbers, and the adapted model."""
    adapted = ADAPT.build("lora", loaded, None, None, rank=2, **choices)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in adapted.loaded.model.named_parameters():
            if name.endswith("up"):
                p.normal_()
    old, new = loaded.model.blocks[1].attention, adapted.merged().model.blocks[1].attention
    moved = {
        name
        for name, (leaf, rows) in ROWS.items()
        if not torch.equal(getattr(old, leaf).weight[rows], getattr(new, leaf).weight[rows])
    }
    others = {n for n, p in old.named_parameters() if not torch.equal(p, dict(new.named_parameters())[n])}
    assert others <= {"query.weight", "key_value.weight"}
    return moved, adapted


def test_published_is_query_and_value(loaded):
    moved, adapted = changed(loaded)
    assert moved == {"query", "value"}
    # rank × (in + out) of the 16 → 16 query and of the 16 → 8 values, in two blocks
    n = sum(w.numel() for name, w in adapted.trainable().items() if name.startswith("model"))
    assert n == 2 * 2 * ((16 + 16) + (16 + 8))


@pytest.mark.parametrize("targets", [["value"], ["key"], ["query", "key", "value"], "query"], ids=str)
def test_others_by_choice(loaded, targets):
    moved, adapted = changed(loaded, targets=targets)
    assert moved == set([targets] if isinstance(targets, str) else targets)
    # every one has a change of its own, so that two of one map together have twice the rank
    downs = [name for name in adapted.trainable() if name.endswith("down")]
    assert len(downs) == 2 * len(moved)


def test_merged_model_gives_the_adapted_numbers_and_leaves_the_adapted_one_usable(loaded, tiny):
    _, adapted = changed(loaded, targets=["key", "value"])
    batch = tiny.batch(3)
    with torch.no_grad():
        torch.testing.assert_close(adapted.merged().model(batch).tokens, adapted.loaded.model(batch).tokens)


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [(["values"], "did you mean 'value'"), (["query", "query"], "at most once"), ([], "at most once")],
)
def test_refusals(loaded, targets, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ADAPT.build("lora", loaded, None, None, targets=targets)
