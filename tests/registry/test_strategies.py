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
    "lora": "has no attention whose maps are named",
    "in_context": "reads no context",
    "bitfit": "has no biases",
    "norm": "has no norm layer with weights",
}
# convolutions and plain maps alone: the others must take low-rank changes of their attention
NO_ATTENTION = {
    "eegnet",
    "log_covariance",
    "loongx",
    "meg_image",
    "mindbridge",
    "mindeye",
    "nice",
    "pooled_cnn",
    "speech_decoder",
    "stimulus_filters",
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
    assert ("lora" in taken) == (name not in NO_ATTENTION)
    if "lora" in taken:
        _merges(loaded, batch)
    after = loaded.model.state_dict()
    assert all(torch.equal(t, after[n]) for n, t in before.items()), "the pretrained model is left as it is"


def _merges(loaded, batch):
    """Every attention of the model changes, and the saved form has the same names and gives the same numbers."""
    adapted = ADAPT.build("lora", loaded, None, {"name": "supervised"}, targets=["query", "key", "value"])
    with torch.no_grad():
        for n, p in adapted.trainable().items():
            if n.endswith("up"):
                p.normal_()
    model, merged = adapted.loaded.model.eval(), adapted.merged().model
    assert set(merged.state_dict()) == set(loaded.model.state_dict())
    with torch.no_grad():
        changed = model(batch).tokens
        torch.testing.assert_close(merged(batch).tokens, changed)
        assert not torch.equal(changed, loaded.model(batch).tokens)
