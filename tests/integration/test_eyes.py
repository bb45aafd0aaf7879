"""`control=eog_only` on files as they come: electrodes of the eyes, which prep keeps apart, tell what they know."""

from __future__ import annotations

import mne
import numpy as np

from neurofm.benchmarks.results import read_results, scores_only
from neurofm.cli.main import main

BENCHMARK = """# Looking left or right, of which the scalp knows nothing
name: looks
title: Looks
parts:
  - kind: decoding
    data: { path: shards/looks }
    task: { name: looks, window_s: 0.5, windows: event, label_kind: annotation, incomplete: drop }
    split: { name: by_time, folds: { unit: subject, n: all } }
    models:
      "ridge": { steps: [{ class: "sklearn.preprocessing:StandardScaler" }, { class: "sklearn.linear_model:RidgeClassifierCV" }] }
"""


def write_recordings(folder):
    """Two people of 80 looks each; the electrode at the eye moves 200 µV, others are noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for who in ("anna", "ben"):
        onsets, side = 1.0 + np.arange(80), rng.permutation(np.arange(80) % 2)
        values = rng.standard_normal((4, 82 * 250)) * 1e-5
        for t, s in zip(onsets, side, strict=True):
            values[3, int(t * 250) : int(t * 250) + 125] += (2 * s - 1) * 2e-4
        raw = mne.io.RawArray(
            values, mne.create_info(["Fz", "Cz", "Pz", "EOG"], 250, ["eeg"] * 3 + ["eog"]), verbose="error"
        )
        raw.set_annotations(mne.Annotations(onsets, 0.5, [("left", "right")[s] for s in side]))
        raw.save(folder / f"{who}_raw.fif", verbose="error")


def test_only_the_eyes_know(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recordings(tmp_path / "raw")
    (tmp_path / "conf/benchmark").mkdir(parents=True)
    (tmp_path / "conf/benchmark/looks.yaml").write_text(BENCHMARK)
    prep = [
        "prep",
        "dataset=files",
        "dataset.source.root=raw",
        "dataset.source.glob=*.fif",
        "out=shards/looks",
        "dask=none",
    ]
    assert main(prep) == 0
    assert main(["evaluate", "--config-dir", "conf", "benchmark=looks", "control=eog_only"]) == 0
    rows = scores_only(read_results(tmp_path / "runs"))
    found = {r["control"]: r["value"] for r in rows if r["fold"] == "all" and r["metric"] == "balanced_accuracy"}
    assert found["eog_only"] > 0.95
    # 160 looks: 0.5 ± 0.13 holds 99.9 % of what chance gives
    assert abs(found[""] - 0.5) < 0.13
