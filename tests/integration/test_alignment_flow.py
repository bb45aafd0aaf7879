"""An aligned model goes through the training module and comes back from its folder."""

import pytest
import torch

from neurofm.hub.load import load_model
from neurofm.hub.save import save_model
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts
from neurofm.training.module import NeuroModule

FACTS = Facts(
    rate_hz=128.0, window_s=1.0, max_channels=4, channels=tuple("abcd"), subjects=("s", "t"), embedding_shape=(8,)
)
CASES = [
    ("nice", dict(n_filters=4), dict(head="residual", learn_temperature=True)),
    ("mindbridge", dict(n_pooled=6, dim=8, bottleneck=2), dict(loss="bi_mix_co_soft_clip", mix_steps=2)),
    ("speech_decoder", dict(n_virtual=4, n_frequencies=2, dim=8, n_layers=2), dict(readout="tokens", head="mlp")),
]


def batch_of(n):
    g = torch.Generator().manual_seed(0)
    return NeuralBatch(
        signal=torch.randn(n, 4, 128, generator=g), channel_mask=torch.ones(n, 4, dtype=torch.bool),
        time_mask=torch.ones(n, 128, dtype=torch.bool), channel_ids=torch.arange(1, 5).expand(n, -1),
        positions=0.1 * torch.randn(1, 4, 3, generator=g).expand(n, -1, -1), rate_hz=128.0,
        subject=torch.arange(n) % 2 + 1, stimulus=torch.arange(1, n + 1),
        stimulus_embedding={"image": torch.randn(n, 8, generator=g)},
    )  # fmt: skip


@pytest.mark.parametrize(("name", "model_choices", "choices"), CASES, ids=[c[0] for c in CASES])
def test_saved_and_loaded_models_predict_the_same(name, model_choices, choices, tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(name, FACTS, **model_choices)
    objective = OBJECTIVES.build("alignment", model, FACTS, **choices)
    module = NeuroModule(model=model, objective=objective, total_steps=4)
    optimizer = module.configure_optimizers()["optimizer"]
    for step in range(4):
        loss = module.loss(batch_of(8), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    model.eval(), objective.eval()
    save_model(
        tmp_path / "model", model=model, objective=objective, model_name=name, model_choices=model_choices,
        objective_name="alignment", objective_choices=choices, facts=FACTS,
        provenance={"datasets": [], "seed": 0},
    )  # fmt: skip
    again = load_model(tmp_path / "model")
    assert int(again.objective.steps) == 4
    batch = batch_of(5)
    assert torch.equal(again.objective.predict(again.model, batch), objective.predict(model, batch))
