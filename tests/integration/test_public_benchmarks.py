"""Every public benchmark that fits its own models: prepared from a miniature of its layout, and scored by the verbs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from neurofm.benchmarks.results import read_results, scores_only
from neurofm.cli.conf import conf_dir
from neurofm.cli.main import main
from tests.layouts.trees import bci_iv_2a, deap, dreamer, falcon, nlb, physionet_mi, seed, sleep_edf, tuh

CLIPS = "{{name: {name}, per: [subject], folds: {{unit: trial, kind: clip, n: 3, seed: 0}}}}"
# trees are too short for published windows and for as many folds; what is read, cut and labelled is the YAML's
SHORT = ["task.window_s=1.0", "task.stride_s=1.0"]
# name → writer, overrides of prep, of every part, and folds expected
BENCHMARKS = {
    "bci_iv_2a": (bci_iv_2a.write_gdf, [], ["task.window_s=2.0"]),
    "physionet_mi": (physionet_mi.write, [], []),
    "seed": (seed.write_seed, [], ["task.window_s=0.5", "task.stride_s=0.5"]),
    "dreamer": (dreamer.write, [], [*SHORT, f"split={CLIPS.format(name='dreamer')}"]),
    "deap": (deap.write, [], [*SHORT, f"split={CLIPS.format(name='deap')}"]),
    "sleep_edf": (sleep_edf.write, [], ["split={name: sleep_edf, folds: {unit: subject, n: 2, seed: 0}, promises: {new_subject: true}}"]),
    # four and twelve seconds are too short for the preset's filters
    "tuab": (tuh.write_tuab, ["stages=[{name: resample, rate_hz: 200}]"], SHORT),
    "tuev": (tuh.write_tuev, ["stages=[]"], ["task.window_s=1.0", "task.offset_s=0.0"]),
    "nlb": (nlb.write_validation_trials, [], ["tasks=null", "window_s=[-0.1,0.2]", "+baselines=[smoothing]"]),
    # the tree has the days to train on only: their last third is tested
    "falcon": (falcon.write_m2, [], ["0.parts=null", "+0.official=held_in_calib", "+0.test_fraction=0.4", "+0.gap_s=0.1", "1.official=held_in_calib", "+1.gap_s=0.1"]),
}  # fmt: skip


def overrides(name: str) -> list[str]:
    """Choices of every part, or of the one whose number stands before them."""
    n = len(yaml.safe_load((conf_dir() / f"benchmark/{name}.yaml").read_text())["parts"])
    out = []
    for choice in BENCHMARKS[name][2]:
        plus, bare = ("+", choice[1:]) if choice.startswith("+") else ("", choice)
        own = [bare] if bare[0].isdigit() else [f"{i}.{bare}" for i in range(n)]
        out += [f"{plus}benchmark.parts.{o}" for o in own]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_runs_on_its_miniature(name, tmp_path, monkeypatch, capsys):
    writer, prep, _ = BENCHMARKS[name]
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    tree = writer(tmp_path / "raw")
    assert main(["prep", f"dataset={name}", f"dataset.source.root={tree.choices['root']}", "dask=none", *prep]) == 0
    code = main(["evaluate", f"benchmark={name}", "out=page", *overrides(name)])
    said = capsys.readouterr()
    assert code == 0, said.err
    rows = scores_only(read_results("runs"))
    assert rows
    for r in rows:
        assert r["protocol_hash"]
        assert r["machine"]
        assert r["date"]
    assert Path("page/report.html").exists()
