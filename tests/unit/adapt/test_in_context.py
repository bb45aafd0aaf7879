"""A new subject by example: what the context says is kept, and nothing is trained."""

from dataclasses import replace

import pytest
import torch

from neurofm.adapt.finetune import finetune
from neurofm.hub.load import LoadedModel, load_model
from neurofm.hub.save import save_model
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

E, C = 6, 5
FACTS = Facts(rate_hz=1.0, window_s=1.0, max_channels=C, subjects=("a", "b"), embedding_shape=(E,))
CHOICES = dict(dim=16, n_layers=1, n_heads=2, ffn_dim=16)


@pytest.fixture
def loaded():
    torch.manual_seed(0)
    model = MODELS.build("braincorl", FACTS, **CHOICES)
    objective = OBJECTIVES.build("in_context", model, FACTS, context=[2, 4])
    card = {
        "model": {"name": "braincorl", "choices": CHOICES}, "facts": FACTS.to_json(), "transforms": [], "provenance": {},
        "objective": {"name": "in_context", "choices": {"context": [2, 4]}},
    }  # fmt: skip
    return LoadedModel(model.eval(), objective.eval(), FACTS, [], card)


def trials(n, seed, channels=C):
    g = torch.Generator().manual_seed(seed)
    there = torch.ones(n, channels, dtype=torch.bool)
    there[:, -1] = False  # padding
    return NeuralBatch(
        signal=torch.randn(n, channels, 1, generator=g), channel_mask=there, time_mask=torch.ones(n, 1, dtype=torch.bool),
        rate_hz=1.0, subject=torch.zeros(n, dtype=torch.long), stimulus_embedding={"image": torch.randn(n, E, generator=g)},
    )  # fmt: skip


def test_the_calibration_becomes_the_context_of_every_later_answer(loaded):
    calibration, new = trials(12, 1), trials(7, 2)
    result = finetune(loaded, calibration, strategy="in_context", steps=50)
    assert (result.best_step, result.n_train) == (0, 12)
    own = loaded.model.state_dict()
    assert all(torch.equal(p, own[n]) for n, p in result.loaded.model.state_dict().items())
    with torch.no_grad():
        said = result.loaded.objective.predict(result.loaded.model, new)
        unit = torch.nn.functional.normalize
        expected = loaded.objective.encode(
            loaded.model, unit(calibration.stimulus_embedding["image"], dim=-1), calibration.signal[:, :-1, 0].T,
            unit(new.stimulus_embedding["image"], dim=-1),
        ).T  # fmt: skip
    torch.testing.assert_close(said[:, :-1, 0], expected)
    assert not said[:, -1].any()
    # the answers are about stimuli: what was measured at the time of the test says nothing, nor do its neighbours
    with torch.no_grad():
        blind = result.loaded.objective.predict(result.loaded.model, new.with_signal(torch.full_like(new.signal, 9.0)))
    assert torch.equal(said, blind)


def test_it_is_saved_and_read_back(loaded, tmp_path):
    result, new = finetune(loaded, trials(12, 1), strategy="in_context"), trials(7, 2)
    card = result.loaded.card
    save_model(
        tmp_path, model=result.loaded.model, objective=result.loaded.objective, model_name="braincorl",
        model_choices=CHOICES, objective_name="in_context", objective_choices=card["objective"]["choices"], facts=FACTS,
        transforms=[], prep={}, provenance={}, metrics={}, description="",
    )  # fmt: skip
    again = load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(
            again.objective.predict(again.model, new), result.loaded.objective.predict(result.loaded.model, new)
        )
    assert "held" not in loaded.card["objective"]["choices"], "the checkpoint is left as it is"
    # and a decoder can be calibrated again, with more
    more = finetune(again, trials(30, 3), strategy="in_context")
    assert not torch.equal(more.loaded.objective.context_weights, again.objective.context_weights)


def test_what_does_not_fit_is_refused(loaded):
    decoder = finetune(loaded, trials(12, 1), strategy="in_context").loaded
    with pytest.raises(DataError, match="read from 5 channels, the batch has 4"):
        decoder.objective.predict(decoder.model, trials(3, 2, channels=4))
    two = replace(trials(4, 1), subject=torch.tensor([1, 1, 2, 2]))
    with pytest.raises(DataError, match="several subjects"):
        finetune(loaded, two, strategy="in_context")
    with pytest.raises(ConfigError, match="reads no context"):
        finetune(
            replace(loaded, facts=replace(FACTS, classes=("a", "b"))), trials(4, 1), strategy="in_context",
            objective={"name": "supervised"},
        )  # fmt: skip
