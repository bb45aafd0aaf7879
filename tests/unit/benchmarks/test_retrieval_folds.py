"""Folds that are searched in one gallery: their queries together are one line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from neurofm.benchmarks.retrieval import summarise
from neurofm.benchmarks.retrieval_controls import Control
from neurofm.benchmarks.retrieval_folds import labels_of, pooled
from neurofm.benchmarks.retrieval_gallery import Gallery
from neurofm.benchmarks.retrieval_line import Line


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
