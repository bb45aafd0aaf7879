"""Contrastive losses against loops written from their definitions in float64."""

import math

import numpy as np
import pytest
import torch

from neurofm.objectives.alignment_losses import (
    bi_mix_co,
    info_nce,
    retrieval_hits,
    same_stimulus,
    scores,
    sigmoid_pairs,
    soft_clip,
)

N, D = 7, 5
G = torch.Generator().manual_seed(0)
P, T = torch.randn(N, D, generator=G, dtype=torch.float64), torch.randn(N, D, generator=G, dtype=torch.float64)
STIMULUS = torch.tensor([3, 1, 3, -1, -1, 2, 3])
SCALE = 1 / 0.07


def cosine(p, t):
    p, t = p.numpy(), t.numpy()
    return p @ t.T / np.outer(np.linalg.norm(p, axis=1), np.linalg.norm(t, axis=1))


def log_softmax_at(row, j, allowed):
    return row[j] - math.log(sum(math.exp(row[k]) for k in allowed))


def close(ours, slow, rtol=1e-10):
    assert abs(float(ours) - slow) <= rtol * max(abs(slow), 1e-12)


def is_same(i, j):
    return i != j and STIMULUS[i] == STIMULUS[j] and STIMULUS[i] > 0


@pytest.mark.parametrize("both", [True, False])
def test_info_nce_leaves_the_same_stimulus_out(both):
    logits = SCALE * cosine(P, T)
    per_row = [-log_softmax_at(logits[i], i, [j for j in range(N) if not is_same(i, j)]) for i in range(N)]
    per_column = [-log_softmax_at(logits[:, i], i, [j for j in range(N) if not is_same(i, j)]) for i in range(N)]
    slow = 0.5 * (np.mean(per_row) + np.mean(per_column)) if both else np.mean(per_row)
    same = same_stimulus(STIMULUS, N, P.device)
    close(info_nce(SCALE * scores(P, T), same, both=both), slow)


def test_unknown_stimuli_are_not_the_same():
    same = same_stimulus(torch.tensor([-1, -1, -2, -2]), 4, P.device)
    assert not same.any()
    assert not same_stimulus(None, 3, P.device).any()


def test_a_duplicate_does_not_change_the_loss_of_the_others():
    """The loss of a batch with one window twice is that of the batch without, for every other window as well."""
    p, t = torch.cat([P, P[:1]]), torch.cat([T, T[:1]])
    stimulus = torch.tensor([1, 2, 3, 4, 5, 6, 7, 1])
    same = same_stimulus(stimulus, N + 1, P.device)
    logits = SCALE * scores(p, t)
    own = (logits.masked_fill(same, -torch.inf).log_softmax(1)).diagonal()
    alone = (SCALE * scores(P, T)).log_softmax(1).diagonal()
    assert torch.allclose(own[0], alone[0], rtol=1e-12)
    assert torch.allclose(own[7], alone[0], rtol=1e-12)
    info = info_nce(logits.requires_grad_(), same)
    info.backward()
    assert logits.grad.isfinite().all()


def test_soft_clip_is_its_definition():
    tau = 0.2
    t = T.numpy() / np.linalg.norm(T.numpy(), axis=1, keepdims=True)
    p = P.numpy() / np.linalg.norm(P.numpy(), axis=1, keepdims=True)
    own, across = t @ t.T / tau, p @ t.T / tau
    slow = 0.0
    for i in range(N):
        q = np.exp(own[i]) / np.exp(own[i]).sum()
        slow -= 0.5 / N * sum(q[j] * log_softmax_at(across[i], j, range(N)) for j in range(N))
        slow -= 0.5 / N * sum(q[j] * log_softmax_at(across.T[i], j, range(N)) for j in range(N))
    close(soft_clip(scores(P, T) / tau, scores(T, T) / tau), slow)


def test_soft_clip_of_the_truth_is_its_own_entropy():
    logits = scores(T, T) / 0.005
    q = logits.softmax(1)
    close(soft_clip(logits, logits), float(-(q * logits.log_softmax(1)).sum(1).mean()), rtol=1e-9)


def test_siglip_is_its_definition():
    logits = 10 * cosine(P, T) - 10
    slow = 0.0
    for i in range(N):
        for j in range(N):
            if not is_same(i, j):
                slow += math.log1p(math.exp(-(1 if i == j else -1) * logits[i, j])) / N
    close(sigmoid_pairs(10 * scores(P, T) - 10, same_stimulus(STIMULUS, N, P.device)), slow)


def test_bi_mix_co_is_its_definition():
    partner = torch.tensor([1, 0, 3, 2, 5, 4, 6])
    share = torch.tensor([0.3, 0.8, 1.0, 0.6, 0.5, 0.9, 1.0], dtype=torch.float64)
    logits = cosine(P, T) / 0.1
    label = np.zeros((N, N))
    for i in range(N):
        label[i, i] += float(share[i])
        label[i, partner[i]] += 1 - float(share[i])

    def out(i, j):
        mixed = share[i] < 1
        if j == i or (mixed and j == partner[i]):
            return False
        return is_same(i, j) or bool(mixed and is_same(int(partner[i]), j))

    slow = 0.0
    for i in range(N):
        row = [j for j in range(N) if not out(i, j)]
        slow -= 0.5 / N * sum(label[i, j] * log_softmax_at(logits[i], j, row) for j in row)
        column = [j for j in range(N) if not out(j, i)]
        slow -= 0.5 / N * sum(label[j, i] * log_softmax_at(logits[:, i], j, column) for j in column)
    close(bi_mix_co(scores(P, T) / 0.1, partner, share, same_stimulus(STIMULUS, N, P.device)), slow)


def test_unmixed_bi_mix_co_is_info_nce():
    same = same_stimulus(STIMULUS, N, P.device)
    ones = torch.ones(N, dtype=torch.float64)
    logits = scores(P, T) / 0.1
    for partner in (torch.arange(N), torch.arange(N).flip(0)):
        torch.testing.assert_close(bi_mix_co(logits, partner, ones, same), info_nce(logits, same), rtol=1e-12, atol=0)


def test_only_the_length_of_the_prediction_counts_when_targets_are_normalised():
    reference = scores(P, T, normalise="target")
    torch.testing.assert_close(scores(P, 3 * T, normalise="target"), reference)
    torch.testing.assert_close(scores(2 * P, T, normalise="target"), 2 * reference)
    torch.testing.assert_close(scores(2 * P, 3 * T), scores(P, T))


def test_hits_count_the_same_stimulus():
    logits = torch.eye(3)[[1, 0, 2]]
    assert retrieval_hits(logits, same_stimulus(torch.tensor([5, 5, 6]), 3, P.device)) == 1
    assert retrieval_hits(logits, same_stimulus(torch.tensor([5, 4, 6]), 3, P.device)) == pytest.approx(1 / 3)
