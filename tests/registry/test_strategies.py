"""Every strategy with every model: it trains something and the loss can be computed, or it says why not and what instead."""

from dataclasses import replace

import pytest
import torch

from neurofm.adapt import ADAPT
from neurofm.hub.load import LoadedModel
from neurofm.objectives import OBJECTIVES
from neurofm.schema.errors import ConfigError
from tests.registry.cases import SMALL, VARIANTS, build, make_batch

# why a strategy may refuse a model; all others must take it
REASONS = {
    "subject_layer": "has no layer that belongs to a subject|has no mean over subjects",
    "unit_embedding": "has no embedding per unit",
    "reset": "has no layer that belongs to a subject|grew with its subjects",
    "lora": "has no linear maps named",
    "bitfit": "has no biases",
    "norm": "has no norm layer with weights",
}


def _adapted(strategy, loaded):
    try:
        return ADAPT.build(strategy, loaded, None, {"name": "supervised"}), ""
    except ConfigError as error:
        return None, str(error)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_strategy_with_this_model(name):
    choices = {**SMALL[name], **VARIANTS[name][0]}
    model, facts = build(name, choices)
    facts = replace(facts, classes=("a", "b"))
    objective = OBJECTIVES.build("supervised", model, facts)
    card = {
        "model": {"name": name, "choices": choices}, "objective": {"name": "supervised", "choices": {}},
        "facts": facts.to_json(), "transforms": [], "provenance": {},
    }  # fmt: skip
    loaded = LoadedModel(model.eval(), objective.eval(), facts, [], card)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    batch = replace(make_batch(facts, (6, 6)), target=torch.tensor([0, 1]))
    taken = set()
    for strategy in ADAPT.names():
        adapted, refusal = _adapted(strategy, loaded)
        if adapted is None:
            assert any(reason in refusal for reason in REASONS.get(strategy, "-").split("|")), (
                f"{strategy}, {name}: {refusal}"
            )
            assert "use " in refusal, "what to do instead"
            continue
        taken.add(strategy)
        trainable = adapted.trainable()
        assert trainable, f"{strategy} trains nothing of {name}"
        loss = adapted.loaded.objective(adapted.loaded.model, batch, torch.Generator().manual_seed(0))
        assert torch.isfinite(loss.total), f"{strategy}: {name}"
        assert adapted.merged().model is not loaded.model
    assert taken >= {"full", "probe", "scratch"}
    after = loaded.model.state_dict()
    assert all(torch.equal(t, after[n]) for n, t in before.items()), "the pretrained model is left as it is"
