"""Roll-outs: against whole windows filled in step by step, and against the closed form of a VAR with known truth."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neurofm.benchmarks.adapted.decoders import RegionPredictor
from neurofm.benchmarks.baselines.var import VAR
from neurofm.benchmarks.rollout import compare_rollouts, feed_back, rollout_scores
from neurofm.models import MODELS
from neurofm.objectives.next_state import NextState
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

N = 4
FACTS = Facts(rate_hz=1.0, window_s=12.0, max_channels=N, channels=tuple("abcd"))


def build(patch, seed=0, **choices):
    torch.manual_seed(seed)
    model = MODELS.build("mvpformer", FACTS, patch_samples=patch, dim=16, n_layers=2, n_heads=2, dropout=0.0).double()
    objective = NextState(model, FACTS, kind="regression", target="samples", **choices).double()
    return model.eval(), objective.eval()


def as_batch(values, n_valid=None):
    """Values (window, time, channel) as a batch."""
    signal = torch.as_tensor(np.asarray(values), dtype=torch.float64).mT.contiguous()
    B, C, S = signal.shape
    mask = torch.ones(B, C, dtype=torch.bool)
    for b, k in enumerate(n_valid or []):
        mask[b, k:] = False
    return NeuralBatch(
        signal=signal * mask[..., None],
        channel_mask=mask,
        time_mask=torch.ones(B, S, dtype=torch.bool),
        rate_hz=1.0,
        channel_ids=torch.arange(1, C + 1).expand(B, -1) * mask,
    )


def process(n, seed=0, burn=50):
    """A stable VAR(2) with known coefficients; values (time, channel)."""
    rng = np.random.default_rng(seed)
    A = np.array([[0.6, 0.3, 0.0, 0.0], [0.0, 0.5, -0.3, 0.0], [0.2, 0.0, 0.5, 0.2], [0.0, 0.0, 0.3, 0.4]])
    B = np.diag([-0.5, -0.4, -0.3, 0.2])
    x = np.zeros((n + burn, N))
    for t in range(2, n + burn):
        x[t] = A @ x[t - 1] + B @ x[t - 2] + 0.5 * rng.normal(size=N)
    return x[burn:], A, B


@pytest.mark.parametrize(
    ("patch", "choices"),
    [(1, {}), (3, {}), (3, dict(residual=True)), (1, dict(skip={"name": "ridge", "lags": (0, -1), "penalty": (1, 1),
                                                               "penalty_own": (1, 1)}))],
    ids=["samples", "patches", "residual", "skip"],
)  # fmt: skip
def test_is_the_whole_window_filled_in_step_by_step(patch, choices):
    """Within the training window and the content window, what a stream says next is what `predict` says there."""
    model, objective = build(patch, **choices)
    with torch.no_grad():
        objective.head.weight.normal_(std=0.3)
        if objective.skip is not None:
            objective.skip.weight.normal_(std=0.3)
        model.time_table.weight.normal_()
    window = as_batch(np.random.default_rng(1).normal(size=(2, 12, N)), n_valid=[4, 3])
    known = 6
    rolled = objective.rollout(model, replace(window, signal=window.signal[..., :known]), (12 - known) // patch)
    filled = window.signal.clone()
    filled[..., known:] = 0
    for start in range(known, 12, patch):
        said = objective.predict(model, window.with_signal(filled))[..., start : start + patch]
        filled[..., start : start + patch] = said * window.channel_mask[..., None]
    assert rolled.shape == (2, N, 6)
    assert (rolled - filled[..., known:]).abs().max() <= 1e-10 * filled.abs().max()
    assert (rolled[1, 3] == 0).all()


def test_closed_form_skip_rolls_out_as_the_var_with_known_truth():
    train, A, B = process(6000, seed=0)
    test, _, _ = process(600, seed=1)
    choices = dict(penalty=(1e-3, 1e-3), penalty_own=(1e-3, 1e-3), pooled_share=1.0, adaptive_power=0.0)
    model, objective = build(1, skip={"name": "ridge", "lags": (0, -1), **choices})
    objective.solve([replace(as_batch(train[None]), recording_id=["train"])], new_subject=False)
    # what the closed form found is the truth, within sampling error
    weight = objective.skip.weight.numpy()
    assert np.abs(weight[..., 0] - A).max() < 0.06
    assert np.abs(weight[..., 1] - B).max() < 0.06

    def roll(history, n_steps):
        return objective.rollout(model, as_batch(history), n_steps).mT.numpy()

    # exactly the iterated closed form
    known = test[:20]
    past = [known[-2], known[-1]]
    for _ in range(15):
        past.append(weight[..., 0] @ past[-1] + weight[..., 1] @ past[-2])
    rolled = roll(known[None, -10:], 15)[0]
    assert np.abs(rolled - np.array(past[2:])).max() <= 1e-10 * np.abs(np.array(past[2:])).max()
    # and worth what the VAR fitted by the baseline and the true coefficients are worth, step by step
    truth = VAR(order=2)
    truth.weights = np.concatenate([B.T, A.T])
    scores = compare_rollouts(
        {"model": roll, "truth": feed_back(truth.predict_next)}, test, var=VAR(order=2, penalty=1e-3).fit([train]),
        context=10, n_steps=8,
    )  # fmt: skip
    assert np.abs(scores["model"].by_step - scores["var"].by_step).max() < 0.005
    assert np.abs(scores["model"].by_step - scores["truth"].by_step).max() < 0.02
    assert (scores["model"].by_step > scores["persistence"].by_step + 0.1).all()
    assert scores["model"].n_windows == 600 - 10 - 8 + 1


def test_scores_are_the_loop_and_only_the_past_is_shown():
    x = np.random.default_rng(3).normal(size=(30, 2))
    seen = []

    def spy(history, n_steps):
        seen.append(history.copy())
        return np.repeat(history[:, -1:], n_steps, axis=1)

    scores = rollout_scores(spy, x, context=4, n_steps=3, stride=5)
    starts = list(range(4, 28, 5))
    assert [h.tolist() for h in seen[0]] == [x[s - 4 : s].tolist() for s in starts]
    for k in range(3):
        for r in range(2):
            true = np.array([x[s + k, r] for s in starts])
            said = np.array([x[s - 1, r] for s in starts])
            assert scores.r2[k, r] == pytest.approx(1 - ((true - said) ** 2).sum() / ((true - true.mean()) ** 2).sum())


def test_longer_than_the_window_stays_finite_and_refusals():
    model, objective = build(1)
    long = objective.rollout(model, as_batch(process(12)[0][None]), 40)
    assert long.shape == (1, N, 40)
    assert long.isfinite().all()
    with pytest.raises(ConfigError, match="kind=regression"):
        NextState(model, FACTS).rollout(model, as_batch(process(12)[0][None]), 2)
    with pytest.raises(ConfigError, match="at least 1"):
        objective.rollout(model, as_batch(process(12)[0][None]), 0)
    with pytest.raises(ConfigError, match="name of a bar"):
        compare_rollouts({"var": lambda h, n: h}, process(40)[0], var=VAR(), context=2, n_steps=2)
    with pytest.raises(DataError, match="too few"):
        rollout_scores(lambda h, n: h, process(5)[0], context=4, n_steps=2)


def test_a_decoder_of_the_benchmark_rolls_out_as_its_objective():
    model, objective = build(1)
    loaded = SimpleNamespace(model=model, objective=objective, facts=FACTS)
    corpus = SimpleNamespace(as_batch=lambda values, recording, facts: as_batch(values))
    predictor = RegionPredictor(SimpleNamespace(loaded=loaded, corpus=corpus), "r")
    history = np.stack([process(9, seed=s)[0] for s in range(3)]).astype(np.float32).astype(float)
    rolled = predictor.roll_out(history, 4)
    assert rolled.shape == (3, 4, N)
    assert np.array_equal(rolled, objective.rollout(model, as_batch(history), 4).mT.numpy())
