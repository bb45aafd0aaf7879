"""A benchmark that fits models itself, on miniature trees of public layouts and on made-up recordings."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.pipeline import prepare
from neurofm.benchmarks.decoding_task import score_decoding
from neurofm.benchmarks.folds import protocol_of
from neurofm.benchmarks.neuroprobe import BANNED, TASKS, items_of, neuroprobe_protocol
from neurofm.benchmarks.public_splits import split_names, split_rule
from neurofm.benchmarks.results import read_results, scores_only
from neurofm.schema.errors import ConfigError, DataError
from tests.layouts.trees import bci_iv_2a, brain_treebank, sleep_edf, tuh

MODELS = {
    "ridge": {"class": "sklearn.linear_model:RidgeClassifier"},
    "prior": {"class": "sklearn.dummy:DummyClassifier", "baseline": True},
}


def run(protocol, tmp_path, **choices):
    choices = {"models": MODELS, "name": "b", "task": "t", "results": str(tmp_path / "r"), "run_id": "x", **choices}
    for _, out in score_decoding(protocol, **choices):  # noqa: B007
        pass
    return out


def shards(tree, folder, stages=(), **source):
    prepare(
        source={"name": tree.source, **tree.choices, **source}, out=str(folder), stages=list(stages), dataset_id=tree.source,
        dask={"kind": "none"},
    )  # fmt: skip
    return str(folder)


def test_bci_iv_2a(tmp_path):
    (tmp_path / "raw").mkdir()
    path = shards(bci_iv_2a.write_gdf(tmp_path / "raw"), tmp_path / "s")
    protocol = protocol_of(
        data={"path": path}, split=split_rule("bci_iv_2a"),
        task={"window_s": 2.0, "windows": "event", "label_kind": "cue", "offset_s": 0.5},
    )  # fmt: skip
    assert [f.name for f in protocol.folds] == ["subject A01", "subject A09"]
    out = run(protocol, tmp_path)
    print(out.intervals, out.findings)
