import math

import pytest
import torch

from neurofm.objectives.supervised import Supervised
from neurofm.schema.errors import ConfigError


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_loss_is_the_loop(tiny, smoothing, weights):
    model, batch = tiny.model().double(), tiny.batch(5, dtype=torch.float64)
    batch.target[1] = -1  # no label
    objective = Supervised(model, tiny.facts(), label_smoothing=smoothing, class_weights=weights).double()
    logits = objective.predict(model, batch).tolist()
    w = weights or [1.0, 1.0]
    total = scale = 0.0
    for row, y in zip(logits, batch.target.tolist(), strict=True):
        if y < 0:
            continue
        norm = math.log(sum(math.exp(v) for v in row))
        soft = [(1 - smoothing) * (k == y) + smoothing / 2 for k in range(2)]
        total -= sum(w[k] * soft[k] * (row[k] - norm) for k in range(2))
        scale += w[y]
    assert objective(model, batch, None).total.item() == pytest.approx(total / scale, rel=1e-10)


def test_metrics_are_those_of_scikit_learn(tiny):
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    model, batch = tiny.model(), tiny.batch(21)
    objective = Supervised(model, tiny.facts())
    torch.nn.init.normal_(objective.head.weight)
    metrics = objective(model, batch, None).metrics
    predicted = objective.predict(model, batch).argmax(1)
    assert metrics["accuracy"].item() == pytest.approx(accuracy_score(batch.target, predicted))
    assert metrics["balanced_accuracy"].item() == pytest.approx(balanced_accuracy_score(batch.target, predicted))


def test_flatten_keeps_place(tiny):
    """Swapping two channels' tokens changes the flat readout and would not change a mean."""
    model = tiny.model(channel_embedding=False)
    objective = Supervised(model, tiny.facts(), readout="flatten", rank=2)
    batch = tiny.batch(3)
    encoded = model(batch)
    flat = objective._flat(encoded, batch).view(3, 4, 5, 2)
    tokens = encoded.tokens.view(3, 4, 5, 16)
    for t in range(4):
        for c in range(5):
            torch.testing.assert_close(flat[:, t, c], objective.reduce(tokens[:, t, c]))


@pytest.mark.parametrize("readout", ["pool", "flatten"])
def test_learns_the_planted_class(tiny, readout):
    model = tiny.model()
    objective = Supervised(model, tiny.facts(), readout=readout)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 3e-3)
    before = objective(model, tiny.batch(200, seed=10_000), None).metrics["balanced_accuracy"]
    for step in range(60):
        optimizer.zero_grad()
        objective(model, tiny.batch(32, seed=step), None).total.backward()
        optimizer.step()
    after = objective(model, tiny.batch(200, seed=10_000), None).metrics["balanced_accuracy"]
    assert before < 0.75
    assert after > 0.9


def test_refusals(tiny):
    model = tiny.model()
    with pytest.raises(ConfigError, match="two classes"):
        Supervised(model, tiny.facts(classes=()))
    batch = tiny.batch(2)
    batch.target[:] = 5
    with pytest.raises(ConfigError, match="class 5"):
        Supervised(model, tiny.facts())(model, batch, None)
    longer = tiny.facts(window_s=1.5)
    with pytest.raises(ConfigError, match="5 segments"):
        Supervised(model, longer, readout="flatten").predict(model, tiny.batch(2))


def test_a_batch_without_labels_costs_nothing(tiny):
    model, batch = tiny.model(), tiny.batch(2)
    batch.target[:] = -1
    loss = Supervised(model, tiny.facts())(model, batch, None)
    assert loss.total == 0
    assert not loss.metrics


def test_balanced_weights_are_those_of_scikit_learn(tiny):
    from dataclasses import replace

    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    facts = replace(tiny.facts(), class_counts=(30, 10))
    objective = Supervised(tiny.model(), facts, class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=np.repeat([0, 1], [30, 10]))
    assert objective.class_weights.tolist() == pytest.approx(expected.tolist())
    # a class that a short calibration lacks has a weight all the same
    unseen = Supervised(tiny.model(), replace(facts, class_counts=(30, 0)), class_weights="balanced")
    assert unseen.class_weights.isfinite().all()
    with pytest.raises(ConfigError, match="counts"):
        Supervised(tiny.model(), tiny.facts(), class_weights="balanced")
    with pytest.raises(ConfigError, match="balanced"):
        Supervised(tiny.model(), facts, class_weights="balance")
