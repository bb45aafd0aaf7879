"""Ranks, galleries, averaging and controls against plain counting."""

import numpy as np
import pytest

from neurofm.benchmarks.baselines.ridge_embedding import EmbeddingRidge, LaggedEmbeddingRidge
from neurofm.benchmarks.retrieval.average import average, counts_up_to, draw_repetitions
from neurofm.benchmarks.retrieval.controls import controls_of, verdict
from neurofm.benchmarks.retrieval.ranks import cosine, ranks_of, retrieve, subsets_of_k, two_way
from neurofm.benchmarks.retrieval.resolved import band_of, region_masks, time_masks
from neurofm.benchmarks.retrieval.trials import Decoder, Trials, about_the_mean
from neurofm.schema.errors import ConfigError, DataError


def brute_rank(row, target):
    greater = sum(x > row[target] for i, x in enumerate(row) if i != target)
    equal = sum(x == row[target] for i, x in enumerate(row) if i != target)
    return greater + equal / 2


def test_ranks_by_counting_with_ties():
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 4, (30, 9)).astype(float)
    target = rng.integers(0, 9, 30)
    np.testing.assert_array_equal(
        ranks_of(similarity, target), [brute_rank(r, t) for r, t in zip(similarity, target, strict=True)]
    )


def test_a_decoder_that_says_the_same_of_all_is_at_chance_and_not_right():
    gallery = np.tile(np.ones(4), (20, 1))
    r = retrieve(np.ones((20, 4)), gallery, np.arange(20))
    assert r.top[1].value == 0
    assert r.median_rank == 10.5


def test_measures_of_known_ranks():
    gallery = np.eye(6)
    # cosines fall from left to right, so the rank of target t is t
    queries = np.tile(np.arange(6, 0, -1.0), (6, 1))
    r = retrieve(queries, gallery, np.arange(6), ks=(1, 3))
    np.testing.assert_array_equal(r.ranks, np.arange(6))
    assert r.top[1].value == pytest.approx(1 / 6)
    assert r.top[3].value == pytest.approx(3 / 6)
    assert r.median_rank == 3.5
    assert r.mrr == pytest.approx(np.mean([1 / (k + 1) for k in range(6)]))
    assert r.chance(3) == 0.5


def test_interval_is_over_stimuli_not_trials():
    gallery = np.eye(4)
    # stimulus 0 is always found, 1 to 3 never: 100 trials each say no more than 4 stimuli
    queries = np.repeat(np.eye(4)[[0, 0, 0, 0]], 100, axis=0)
    stimulus = np.repeat(np.arange(4), 100)
    wide = retrieve(queries, gallery, stimulus, unit=stimulus).top[1]
    narrow = retrieve(queries, gallery, stimulus).top[1]
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_two_way_by_definition():
    rng = np.random.default_rng(0)
    true, predicted = rng.standard_normal((2, 12, 7))
    wanted = []
    for j in range(12):
        r = [np.corrcoef(true[i], predicted[j])[0, 1] for i in range(12)]
        wanted.append(np.mean([r[i] < r[j] for i in range(12) if i != j]))
    np.testing.assert_allclose(two_way(predicted, true), wanted)
    np.testing.assert_array_equal(two_way(true, true), 1)
    assert two_way(*rng.standard_normal((2, 400, 20))).mean() == pytest.approx(0.5, abs=0.03)


def test_k_way_agrees_with_drawing_candidates():
    rng = np.random.default_rng(1)
    gallery = rng.standard_normal((40, 8))
    queries = gallery + 1.5 * rng.standard_normal((40, 8))
    similarity = cosine(queries, gallery)
    ranks = ranks_of(similarity, np.arange(40))
    fast = subsets_of_k(ranks, 40, k=10, n_draws=400).mean()
    slow = []
    for _ in range(400):
        hits = 0
        for i in range(40):
            others = rng.permutation(np.delete(np.arange(40), i))[:9]
            hits += similarity[i, i] > similarity[i, others].max()
        slow.append(hits / 40)
    assert fast == pytest.approx(np.mean(slow), abs=0.01)
    with pytest.raises(DataError, match="at least 300"):
        subsets_of_k(ranks, 40, k=300)


def test_permuted_answers_are_at_chance():
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((200, 16))
    queries = gallery + 0.5 * rng.standard_normal((200, 16))
    assert retrieve(queries, gallery, np.arange(200)).top[1].value > 0.9
    assert retrieve(queries, gallery, rng.permutation(200)).top[1].value < 0.03


def trials(n_stimuli=30, n_repetitions=4, noise=1.0, seed=0, informative=True):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((n_stimuli, 6)).astype(np.float32)
    mixing = np.random.default_rng(9).standard_normal((6, 10, 5))
    number = np.repeat(np.arange(n_stimuli), n_repetitions)
    order = rng.permutation(len(number))
    number = number[order]
    signal = np.einsum("nd,dtc->ntc", truth[number], mixing) if informative else 0.0
    values = (signal + noise * rng.standard_normal((len(number), 10, 5))).astype(np.float32)
    return Trials(
        values=values, stimulus=[f"s{i:03d}" for i in number], subject=["1"] * len(number),
        recording=["r"] * len(number), start_s=np.arange(len(number)) * 2.0, own=truth[number],
    )  # fmt: skip


def test_averaging_is_a_mean_per_stimulus_and_person():
    t = trials()
    mean = t.averaged("subject")
    assert mean.stimulus == sorted(set(t.stimulus))
    rows = [i for i, s in enumerate(t.stimulus) if s == "s007"]
    np.testing.assert_allclose(mean.values[7], t.values[rows].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(mean.own[7], t.own[rows[0]])
    values, stimulus, subject = average(t.values, t.stimulus, ["1", "2"] * (len(t.stimulus) // 2), mode="everybody")
    assert (len(values), set(subject)) == (30, {""})
    assert stimulus == mean.stimulus


def test_repetitions_are_drawn_without_replacement():
    t = trials()
    rows = draw_repetitions(t.stimulus, t.subject, 3, np.random.default_rng(0))
    assert len(set(rows.tolist())) == len(rows) == 90
    assert counts_up_to(t.stimulus, t.subject) == [1, 2, 4]
    with pytest.raises(ConfigError, match="shown 4 times"):
        draw_repetitions(t.stimulus, t.subject, 5, np.random.default_rng(0))


@pytest.mark.parametrize("informative", [True, False])
def test_controls_stay_at_chance_and_the_verdict_follows(informative):
    train, test = trials(200, 2, seed=1, informative=informative), trials(60, 4, seed=2, informative=informative)
    ridge = EmbeddingRidge().fit(train.values, train.own)
    mean = test.averaged("subject")
    gallery, target = mean.own, np.arange(60)
    found = controls_of(lambda x, _: ridge.predict(x), mean, gallery, target, train=train)
    assert set(found) == {"shuffled labels", "permuted signal", "noise", "time only"}
    assert all(c.top1 < 0.12 for name, c in found.items() if name != "permuted signal"), found
    scores = retrieve(ridge.predict(mean.values), gallery, target)
    said = verdict(scores.top[1].low, found)
    assert (scores.top[1].value > 0.9) is informative
    assert (said == "") is informative
    if not informative:
        assert said.startswith("does not beat its control: ")


def test_time_only_finds_a_block_design():
    # the stimulus can be told from when it was shown: a score from the signal would prove nothing
    def blocks(seed):
        t = trials(10, 20, informative=False, seed=seed)
        order = np.argsort(t.stimulus, kind="stable")
        truth = np.random.default_rng(5).standard_normal((10, 6)).astype(np.float32)
        t = t.only(order)
        number = [int(s[1:]) for s in t.stimulus]
        return Trials(values=t.values, stimulus=t.stimulus, subject=t.subject, recording=t.recording,
                      start_s=np.arange(200) * 2.0, own=truth[number])  # fmt: skip

    train, test = blocks(1), blocks(2)
    gallery = np.stack([test.own[test.stimulus.index(s)] for s in sorted(set(test.stimulus))])
    target = np.array([int(s[1:]) for s in test.stimulus])
    ridge = EmbeddingRidge().fit(train.values, train.own)
    found = controls_of(lambda x, _: ridge.predict(x), test, gallery, target, train=train)
    assert found["time only"].top1 > 0.5


def test_ridge_is_sklearns_and_leave_one_out_is_leaving_one_out():
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    for n, p in ((40, 12), (15, 30)):
        x, y = rng.standard_normal((n, p)), rng.standard_normal((n, 3))
        ridge = EmbeddingRidge(penalties=(5.0,)).fit(x, y)
        scale = np.sqrt(((x - x.mean(0)) ** 2).mean())
        other = Ridge(alpha=5.0 * scale**2).fit(x, y)
        np.testing.assert_allclose(ridge.predict(x), other.predict(x), atol=1e-8)
    # the penalty is the one whose true leave-one-out error is least
    x = rng.standard_normal((30, 20))
    y = x[:, :2] + rng.standard_normal((30, 2))
    penalties = (0.1, 1.0, 10.0, 100.0, 1000.0)
    scale = np.sqrt(((x - x.mean(0)) ** 2).mean())

    def error(a):
        keep = [np.delete(np.arange(30), i) for i in range(30)]
        return np.mean([(Ridge(alpha=a * scale**2).fit(x[k], y[k]).predict(x[i : i + 1]) - y[i]) ** 2
                        for i, k in enumerate(keep)])  # fmt: skip

    assert EmbeddingRidge(penalties=penalties).fit(x, y).penalty == min(penalties, key=error)


def test_lagged_ridge_reads_only_its_lags():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 3))
    y = np.roll(x[:, :1], -7, axis=0) + 0.01 * rng.standard_normal((2000, 1))
    # y(t) = x(t + 7): within lags 0 … 100 ms at 100 Hz, beyond 0 … 50 ms
    near = LaggedEmbeddingRidge(lags_s=(0, 0.1)).fit([x[:1500]], [y[:1500]], 100.0).predict(x[1500:])
    far = LaggedEmbeddingRidge(lags_s=(0, 0.05)).fit([x[:1500]], [y[:1500]], 100.0).predict(x[1500:])
    assert np.corrcoef(near[:-20, 0], y[1500:-20, 0])[0, 1] > 0.99
    assert abs(np.corrcoef(far[:-20, 0], y[1500:-20, 0])[0, 1]) < 0.15


def test_about_the_mean_does_not_ask_for_the_scale_of_answers():
    """A contrastive network's answers have a scale of their own: the embeddings' mean taken off them would swamp them."""
    rng = np.random.default_rng(0)
    own = rng.standard_normal((30, 4)) + 5
    trials = Trials(
        values=own[:, None].astype(np.float32), stimulus=[str(i) for i in range(30)], subject=["s"] * 30, recording=["r"] * 30,
        start_s=np.arange(30.0), own=own,
    )  # fmt: skip
    for scale, offset in ((1.0, 0.0), (0.01, 0.0), (3.0, 8.0)):
        plain = Decoder(lambda x, _, a=scale, b=offset: a * x[:, 0] + b, lambda e: e)
        answer, place, compared, _ = about_the_mean(plain, trials, estimates=False)
        said, gallery = answer(trials.values, trials.recording), place(own)
        np.testing.assert_allclose(said.mean(axis=0), 0, atol=1e-5)
        assert retrieve(said, gallery, np.arange(30)).top[1].value == 1
        assert "mean" in compared


def test_parts_of_the_signal():
    masks = time_masks(50, 100.0, width_s=0.1, step_s=0.2)
    assert list(masks) == [(0.0, 0.1), (0.2, 0.3), (0.4, 0.5)]
    assert masks[0.2, 0.3].nonzero()[0].tolist() == list(range(20, 30))
    where = region_masks(["Fp1", "F3", "FC5", "Cz", "CP1", "P7", "PO3", "Oz", "T7", "TP9", "AFz"])
    assert where["occipital"].nonzero()[0].tolist() == [6, 7]
    assert where["central"].nonzero()[0].tolist() == [2, 3, 4]
    assert where["frontal"].nonzero()[0].tolist() == [0, 1, 10]
    assert region_masks(["MEG 001", "sim01"]) == {}
    t = np.arange(200) / 100
    x = (np.sin(2 * np.pi * 10 * t) + np.sin(2 * np.pi * 25 * t))[None, :, None]
    np.testing.assert_allclose(band_of(x, 100.0, 8, 13)[0, :, 0], np.sin(2 * np.pi * 10 * t), atol=1e-5)
