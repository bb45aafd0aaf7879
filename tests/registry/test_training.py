"""Walks every model with every objective that fits it: what is trainable is trained, and what is not says so."""

from dataclasses import replace

import pytest
import torch

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.errors import ConfigError
from neurofm.training.module import NeuroModule
from neurofm.training.seeds import torch_generator
from tests.registry.cases import ELSEWHERE, MODEL_CASES, OBJECTIVE_CASES, facts_for, make_batch

PAIRS = [
    pytest.param(m, mc, o, oc, id=f"{m}-{i}-{o}-{j}")
    for i, (m, mc) in enumerate(MODEL_CASES)
    for j, (o, oc) in enumerate(OBJECTIVE_CASES)
]
REMOVED_BY_A_NORM = {("meg_image", "behaviour"): {"model.time_bias"}}
WITH_A_TOKENIZER = {"masked_code"}  # needs a trained one; followed in tests/integration/test_tokenizers.py
FITTING = {"model": set(), "objective": set()}


@pytest.mark.parametrize(("model_name", "model_choices", "objective_name", "objective_choices"), PAIRS)
def test_every_trainable_parameter_moves(model_name, model_choices, objective_name, objective_choices):
    """After three steps: a head that starts from zero lets nothing through at the first, nor what lies before two such."""
    torch.manual_seed(0)
    facts = replace(facts_for(model_choices), classes=("x", "y", "z"))
    batch = replace(
        make_batch(facts, (6, 4, 3, 6, 5, 6), pad_to=6), target=torch.tensor([0, 1, 2, 0, 1, 2]),
        sample_id=torch.arange(6),
    )  # fmt: skip
    if objective_name in ("in_context", "masked_summary"):  # windows of one person are each other's context, or mean
        batch = replace(batch, subject=torch.ones(6, dtype=torch.long))
    try:
        model = MODELS.build(model_name, facts, **model_choices)
        objective = OBJECTIVES.build(objective_name, model, facts, **objective_choices)
        module = NeuroModule(model=model, objective=objective, total_steps=4, lr_peak=1e-2, weight_decay=0.0)
        module.forward_only(batch)
    except ConfigError as error:
        pytest.skip(f"do not go together: {error}")
    if (model_name, objective_name) == ("lipcot", "tokenizer"):
        pytest.skip("its codes are solved, not trained")
    FITTING["model"].add(model_name)
    FITTING["objective"].add(objective_name)
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    optimizer = module.train().configure_optimizers()["optimizer"]
    for step in range(3):
        optimizer.zero_grad()
        loss = module.loss(batch, torch_generator("step", step))
        assert all(v.isfinite() for v in [loss.total, *loss.terms.values(), *loss.metrics.values()])
        loss.total.backward()
        optimizer.step()
    still = {n for n, p in module.named_parameters() if p.requires_grad and torch.equal(p, before[n])}
    still -= REMOVED_BY_A_NORM.get((model_name, objective_name), set())
    assert not still, f"trainable, but never trained; name them in {objective_name}.idle or mend the model: {still}"
    moved = {n for n, p in module.named_parameters() if not p.requires_grad and not torch.equal(p, before[n])}
    assert not moved, f"frozen, but moved: {moved}"
    in_groups = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert in_groups == {id(p) for p in module.parameters() if p.requires_grad}


def test_nothing_is_left_out():
    """Runs after the walk: each model learned something, and each objective taught some model."""
    if FITTING["model"]:  # not when this test is asked for alone
        assert {
            "model": set(MODELS.names()) - ELSEWHERE,
            "objective": set(OBJECTIVES.names()) - WITH_A_TOKENIZER,
        } == FITTING
