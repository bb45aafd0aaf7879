"""New people of simulated motor imagery, from prep to the report; and what the comparison of arms counts."""

import shutil

import pytest

from data_prep.pipeline import prepare
from neurofm.adapt.new_subject import adapt_subject
from neurofm.benchmarks.adapted.trial_curves import TrialCurves, score_trial_curves
from neurofm.data.dataset import Dataset
from neurofm.data.splits.rules import make_split
from neurofm.report.trial_curves import claims_of, section_of
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import read_json, write_json
from neurofm.schema.tables import read_table
from neurofm.training.pretrain import pretrain

SIM = dict(name="sim_motor_imagery", n_subjects=4, n_trials=20, mu_uv=60.0, trial_s=1.0)
BUDGETS = {"2": 4, "4": 8}
TASK = {"name": "motor_imagery", "window_s": 1.0, "windows": "trial", "label_kind": "trial"}
FIRST, SECOND, THIRD = "EEGNet", "CSP + LDA", "Riemannian tangent space"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("few_shot")
    prepare(source=SIM, out=root / "shards" / "motor", dask="none", progress=False, segment_s=None)
    split = {"rule": "by_subject", "test": 2, "seed": 0}
    data = {"id": "sim_motor_imagery", "path": str(root / "shards" / "motor"), "split": split, "preload": False,
            "transforms": [{"name": "scale_fixed", "factor": 0.02}]}  # fmt: skip
    pretrain(
        data=data, task=TASK, model_name="eegnet", model_choices={"patch_s": 0.5, "kernel": 33},
        objective_name="supervised", objective_choices={}, optim={"lr_peak": 1e-3}, logger={}, seed=0, batch_size=8,
        trainer={"max_steps": 1, "progress": False}, run_dir=str(root / "model"),
    )  # fmt: skip
    dataset = Dataset(data["path"])
    people = sorted({dataset.subject(s.recording_id) for s in make_split(dataset, **split)["test"]})
    for person in people:
        own = {**data, "split": {**split, "subject": person, "budgets_s": BUDGETS, "test_s": 12}}
        list(
            adapt_subject(
                checkpoint=str(root / "model"), run_dir=str(root / "few" / person), strategies={"scratch": {}},
                loop={"steps": 5, "batch_size": 8, "lr_peak": 2e-3, "tail": "none"}, data=own, task=TASK, seed=0,
            )
        )  # fmt: skip
    return root, people


def scored(root, **arms):
    how = dict(unit="trials per class", seeds="mean", baselines=[SECOND, THIRD], band_hz=(8, 30))
    found = score_trial_curves(
        name="t", results=str(root / "results"), run_id="1", task="motor_imagery", arms=arms, **how
    )
    return list(found)[-1][1]


def test_every_person_and_budget_is_scored_beside_the_classical_bars(folder):
    root, people = folder
    found = scored(root, EEGNet={"runs": str(root / "few"), "strategy": "scratch"})
    curves = found.of("accuracy")
    assert list(curves) == [FIRST, SECOND, THIRD]
    for by_person in curves.values():
        assert {p: sorted(c) for p, c in by_person.items()} == {p: [2.0, 4.0] for p in people}
    # rhythms ten times as strong as in conf/: eight trials are enough for the better of two people
    assert max(c[4.0] for c in curves[THIRD].values()) > 0.8
    rows = [r for r in read_table(root / "results", "results") if r["metric"] == "accuracy"]
    assert len(rows) == 3 * 2 * 2
    assert {(r["budget"], r["budget_unit"]) for r in rows} == {(2.0, "trials per class"), (4.0, "trials per class")}
    assert found.looks == dict.fromkeys(people, 1)
    section = section_of(found, FIRST, "accuracy", "Motor imagery")
    assert len(section.tables[1].rows) == 6
    assert len(claims_of(found, FIRST, "accuracy", "Motor imagery")) == 2
    assert any("under another name" in f.message for f in found.findings), "recordings are compared by their values"


def test_a_copy_of_a_tested_recording_in_pretraining_is_refused(folder):
    """Planted: one recording that was pretrained on has the values of a tested one, under its own name."""
    root, _ = folder
    copy = root / "planted"
    shutil.copytree(root / "few", copy)
    for path in copy.glob("**/card.json"):
        card = read_json(path)
        origin = card["provenance"]
        origin["pretrained"] = {"split": {"spans": [["elsewhere", 0.0, 1.0, ""]]}, "subjects": [], "content": {}}
        tested = next(r for r in origin["content"])
        origin["pretrained"]["content"]["elsewhere"] = origin["content"][tested]
        write_json(path, card)
    with pytest.raises(DataError, match=r"same content as elsewhere|seen in pretraining"):
        scored(root, a={"runs": str(copy), "strategy": "scratch"})


def test_an_arm_without_decoders_is_named(folder):
    root, _ = folder
    with pytest.raises(ConfigError, match="no decoder of strategy 'full'"):
        scored(root, a={"runs": str(root / "few"), "strategy": "full"})
    with pytest.raises(ConfigError, match="arm 'a' has"):
        scored(root, a={"runs": str(root / "few")})


def test_gains_are_paired_over_people_and_judged_by_the_rule_that_was_chosen():
    people = [f"p{i}" for i in range(6)]
    found = TrialCurves(unit="trials")
    for i, p in enumerate(people):
        for b, gain in ((2.0, 0.1), (4.0, 0.1), (8.0, -0.05)):
            found.add("x", p, b, {"accuracy": 0.6 + 0.01 * i + gain})
            found.add("y", p, b, {"accuracy": 0.6 + 0.01 * i + 0.001 * (i % 2)})
    (by_budget,) = claims_of(found, "x", "accuracy", "T", "budgets")
    assert by_budget.held
    assert "at 8 trials -0.05" in by_budget.detail
    (by_area,) = claims_of(found, "x", "accuracy", "T")
    assert by_area.held
    (other,) = claims_of(found, "y", "accuracy", "T", "budgets")
    assert other.held is False
    (pairs,) = [t for t in section_of(found, "x", "accuracy", "T", pairs=[["y", "x"]]).tables if "pairs" in t.caption]
    ((name, at_2, _, at_8),) = pairs.rows
    assert name == "y − x"
    assert at_2.startswith("-0.099")
    assert at_8.startswith("+0.05")
    with pytest.raises(ConfigError, match="pairs names 'z'"):
        section_of(found, "x", "accuracy", "T", pairs=[["y", "z"]])
    with pytest.raises(ConfigError, match="judged_by"):
        claims_of(found, "x", "accuracy", "T", "areas")
