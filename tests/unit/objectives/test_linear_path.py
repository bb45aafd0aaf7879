"""Ridge beside the network: equal to ridge written out, chosen by the error that its equation gives, where training begins."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurofm.objectives import OBJECTIVES
from neurofm.objectives.linear_path import PENALTIES, LinearPath
from neurofm.schema.errors import ConfigError

from .test_alignment import FACTS, Flat, batch_of


def written_out(x, y):
    """Ridge with an offset, penalty of least GCV by the hat matrix: weights, offset, penalty."""
    xm, ym = x.mean(0), y.mean(0)
    a, b = x - xm, y - ym
    level = np.trace(a.T @ a) / a.shape[1]
    scores = []
    for penalty in PENALTIES:
        hat = a @ np.linalg.solve(a.T @ a + penalty * level * np.eye(a.shape[1]), a.T)
        scores.append(((b - hat @ b) ** 2).sum() / (len(x) - 1 - np.trace(hat)) ** 2)
    best = PENALTIES[int(np.argmin(scores))]
    w = np.linalg.solve(a.T @ a + best * level * np.eye(a.shape[1]), a.T @ b)
    return w, ym - xm @ w, best


def informative(n, *, seed=0, shape=(6,)):
    batch = batch_of(n, dtype=torch.float64, seed=seed, shape=shape)
    if len(shape) == 1:
        target = batch.signal[:, :2, 10:13].flatten(1) + 0.5 * torch.randn(n, 6, dtype=torch.float64)
    else:
        target = batch.signal[:, :2, 3 : 3 + shape[0]].transpose(1, 2) @ torch.ones(2, shape[1], dtype=torch.float64)
    return replace(batch, stimulus_embedding={"image": target + 1.5}), target + 1.5


def test_a_vector_is_ridge_of_the_whole_window():
    torch.manual_seed(0)
    batch, target = informative(300)
    path = LinearPath(FACTS).double()
    # in pieces, as a loader gives them
    rows = [slice(0, 130), slice(130, 300)]
    pieces = [(replace(batch, **{k: v[r] for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}), target[r])
              for r in rows]  # fmt: skip
    path.solve(pieces)
    w, b, penalty = written_out(batch.signal.flatten(1).numpy(), target.numpy())
    assert path.penalty == penalty
    np.testing.assert_allclose(path(batch).numpy(), batch.signal.flatten(1).numpy() @ w + b, rtol=1e-8, atol=1e-9)


def test_what_unfolds_in_time_is_read_from_the_answer_after_each_moment():
    torch.manual_seed(0)
    facts = replace(FACTS, embedding_shape=(24, 2), embedding_s=0.75)
    batch, target = informative(20, shape=(24, 2))
    path = LinearPath(facts).double()
    path.solve([(batch, target)])
    x = batch.signal.numpy()
    lagged = np.stack([x[:, :, t : t + 9].reshape(20, -1) for t in range(24)], axis=1).reshape(20 * 24, -1)
    w, b, _ = written_out(lagged, target.reshape(20 * 24, 2).numpy())
    np.testing.assert_allclose(path(batch).numpy().reshape(480, 2), lagged @ w + b, rtol=1e-7, atol=1e-8)
    # the target is the sum of two channels, three samples later
    assert float((path(batch) - target).abs().max()) < 1e-3


def test_training_begins_at_ridge_and_a_new_person_moves_it():
    torch.manual_seed(0)
    batch, target = informative(200)
    model = Flat(torch.float64)
    objective = OBJECTIVES.build("alignment", model, FACTS, linear=True).double()
    assert objective.has_closed_form
    assert objective.solves_on == "windows"
    objective.solve([batch], new_subject=False)
    alone = LinearPath(FACTS).double()
    alone.solve([(batch, target)])
    torch.testing.assert_close(objective.predict(model, batch), alone(batch))
    objective(model, batch).total.backward()
    assert float(objective.network_gain.grad.abs()) > 0
    assert not any(p is objective.linear.weight for p in objective.parameters())
    other, theirs = informative(200, seed=5)
    theirs = -theirs
    before = float((objective.linear(other) - theirs).square().mean())
    objective.solve([replace(other, stimulus_embedding={"image": theirs})], new_subject=True)
    assert float((objective.linear(other) - theirs).square().mean()) < 0.3 * before
    # saved and read with the rest
    again = OBJECTIVES.build("alignment", model, FACTS, linear=True).double()
    again.load_state_dict(objective.state_dict())
    torch.testing.assert_close(again.predict(model, other), objective.predict(model, other))


def test_other_frame_rates_are_refused():
    with pytest.raises(ConfigError, match="at the signal's own rate, 32 Hz"):
        LinearPath(replace(FACTS, embedding_shape=(10, 2)))
