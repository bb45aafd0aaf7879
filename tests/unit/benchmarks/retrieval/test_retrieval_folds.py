"""Folds that are searched in one gallery: their queries together are one line."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from neurofm.benchmarks.retrieval.controls import Control
from neurofm.benchmarks.retrieval.folds import kinds_of, labels_of, pooled
from neurofm.benchmarks.retrieval.gallery import Gallery
from neurofm.benchmarks.retrieval.line import Line, line_of, rows_of
from neurofm.benchmarks.retrieval.ranks import cosine, summarise
from neurofm.benchmarks.retrieval.trials import Decoder, Trials, about_the_mean, as_it_is, encoding_decoder


def line(ranks, control):
    gallery = Gallery(
        source="segment", keys=tuple("abcdef"), vectors=np.zeros((6, 1)), encoder="e", embedding_hash="h", embedding="e"
    )
    return Line(
        model="m, seed 0, fold0", subject="s", rule="trained on", gallery=gallery, mode="trial", two_way=0.5, verdict="",
        scores=summarise(np.array(ranks, float), 6), controls={"noise": Control(control, control)}, ceiling=1.0,
    )  # fmt: skip


def test_pooled_folds_weigh_by_their_queries():
    one, two = line([0, 0, 0, 1], 0.25), line([5, 0], 0.5)
    both = pooled("m, seed 0", [one, two])
    assert both.scores.top[1].value == pytest.approx(4 / 6)
    assert both.controls["noise"].top1 == pytest.approx((4 * 0.25 + 2 * 0.5) / 6)
    assert both.controls["noise"].high == 0.5
    assert both.rule == "2 folds"
    # against the pooled interval, not that of a fold
    assert pooled("m", [replace(one, verdict="lost"), two]).verdict == both.verdict


def test_models_of_one_kind_and_seed_are_told_apart_by_their_run(tmp_path):
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / run / "model").mkdir(parents=True)
        card = {"model": {"name": "nice"}, "provenance": {"seed": seed}}
        (tmp_path / run / "model/card.json").write_text(json.dumps(card))
    names = labels_of(sorted(tmp_path.glob("*/model")))
    assert list(names.values()) == ["nice, seed 0, a", "nice, seed 0, b", "nice, seed 1"]


def test_seeds_and_people_of_one_recipe_are_one_story(tmp_path):
    for run, filters, seed in (("a", 16, 0), ("b", 16, 1), ("wide", 40, 0)):
        (tmp_path / run / "model").mkdir(parents=True)
        card = {"model": {"name": "nice", "choices": {"n_filters": filters}}, "provenance": {"seed": seed}}
        (tmp_path / run / "model/card.json").write_text(json.dumps(card))
    a, b, wide = sorted(tmp_path.glob("*/model"))
    assert kinds_of(labels_of([a, b])) == {"nice, seed 0": "nice", "nice, seed 1": "nice"}
    # two recipes of one model are not mixed
    assert kinds_of(labels_of([a, b, wide])) == {
        "nice, seed 0, a": "nice, seed 0, a", "nice, seed 1": "nice, seed 0, a", "nice, seed 0, wide": "nice, seed 0, wide",
    }  # fmt: skip


def test_answers_that_are_no_embeddings_get_no_figure_that_compares_embeddings():
    """An encoding model's points serve its likelihood alone: no two-way identification, no ceiling, no mean taken off."""
    rng = np.random.default_rng(0)
    own = rng.standard_normal((40, 3))
    values = (own @ rng.standard_normal((3, 8))).reshape(40, 4, 2) + 0.2 * rng.standard_normal((40, 4, 2))
    keys = [str(i) for i in range(40)]
    trials = Trials(
        values=values, stimulus=keys, subject=["s"] * 40, recording=["r"] * 40, start_s=np.arange(40.0), own=own
    )
    train, test = trials.only(range(30)), trials.only(range(30, 40))
    decoder = encoding_decoder(train)
    assert about_the_mean(decoder, train, estimates=False) is decoder
    gallery = Gallery(
        source="stimulus",
        keys=tuple(keys[30:]),
        vectors=decoder.place(own[30:]),
        encoder="e",
        embedding_hash="h",
        embedding="e",
    )
    got = line_of(
        decoder, test.placed(decoder.place), gallery, {k: i for i, k in enumerate(keys[30:])}, model="encoding model", subject="s",
        rule="trained on", mode="subject", train=train.placed(decoder.place), seed=0,
    )  # fmt: skip
    assert got.scores.top[1].value > 0.8
    assert np.isnan(got.two_way)
    assert np.isnan(got.ceiling)
    assert set(got.controls) == {"shuffled labels", "permuted signal", "noise"}
    rows = rows_of({}, got, False, SimpleNamespace(card={}), ())
    assert not {"two_way", "feature_ceiling"} & {r["metric"] for r in rows}


def test_backward_asks_which_answer_is_to_a_stimulus():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, 4))
    keys = tuple("abcdef")
    gallery = Gallery(source="stimulus", keys=keys, vectors=vectors, encoder="e", embedding_hash="h", embedding="e")
    trials = Trials(
        values=rng.standard_normal((6, 5, 2)), stimulus=list(keys), subject=["s"] * 6, recording=["r"] * 6,
        start_s=np.arange(6.0), own=vectors,
    )  # fmt: skip
    # every answer looks like "a" a little, so forward suffers where backward does not
    said = vectors + 3 * vectors[0]
    got = line_of(
        Decoder(lambda values, _: said[: len(values)], as_it_is), trials, gallery, {k: i for i, k in enumerate(keys)}, model="m",
        subject="s", rule="trained on", mode="subject", train=trials, seed=0,
    )  # fmt: skip
    similarity = cosine(said, vectors)
    assert got.scores.top[1].value == np.mean(similarity.argmax(1) == np.arange(6))
    assert got.backward.top[1].value == np.mean(similarity.argmax(0) == np.arange(6))
    assert got.backward.top[1].value > got.scores.top[1].value
