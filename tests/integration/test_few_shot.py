"""New people of simulated motor imagery, from prep to the report; and what the comparison of arms counts."""

import pytest

from data_prep.pipeline import prepare
from neurofm.adapt.new_subject import adapt_subject
from neurofm.benchmarks.few_shot import FewShotScores, score_few_shot
from neurofm.data.index import Dataset
from neurofm.data.split_rules import make_split
from neurofm.report.few_shot import claims_of, section_of
from neurofm.schema.errors import ConfigError
from neurofm.schema.tables import read_table
from neurofm.training.pretrain import pretrain

SIM = dict(name="sim_motor_imagery", n_subjects=4, n_trials=20, mu_uv=60.0, trial_s=1.0)
BUDGETS = {"2": 4, "4": 8}
TASK = {"name": "motor_imagery", "window_s": 1.0, "windows": "trial", "label_kind": "trial"}
FIRST, SECOND = "EEGNet", "CSP + LDA"


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
    return list(score_few_shot(name="t", results=str(root / "results"), run_id="1", task="motor_imagery", arms=arms))[
        -1
    ][1]


def test_every_person_and_budget_is_scored_beside_the_classical_bars(folder):
    root, people = folder
    found = scored(root, EEGNet={"runs": str(root / "few"), "strategy": "scratch"})
    assert list(found.accuracies) == [FIRST, SECOND, "tangent space, logistic regression"]
    for by_budget in found.accuracies.values():
        assert {b: sorted(v) for b, v in by_budget.items()} == dict.fromkeys(BUDGETS, people)
    # rhythms ten times as strong as in conf/: eight trials are enough for the better of two people
    assert max(found.person_means("tangent space, logistic regression", "4").values()) > 0.8
    rows = [r for r in read_table(root / "results", "results") if r["metric"] == "accuracy"]
    assert len(rows) == 3 * 2 * 2
    assert {r["budget"] for r in rows} == {2.0, 4.0}
    assert found.looks == dict.fromkeys(people, 1)
    section = section_of(found, "Motor imagery")
    assert len(section.tables[1].rows) == 6
    assert len(claims_of(found, FIRST, "Motor imagery")) == 2


def test_an_arm_without_decoders_is_named(folder):
    root, _ = folder
    with pytest.raises(ConfigError, match="no decoder of strategy 'full'"):
        scored(root, a={"runs": str(root / "few"), "strategy": "full"})
    with pytest.raises(ConfigError, match="arm 'a' has"):
        scored(root, a={"runs": str(root / "few")})


def test_gains_are_paired_over_people_and_averaged_over_seeds():
    one = {"5": {"a": [0.8, 0.6], "b": [0.9], "c": [0.7]}}
    other = {"5": {"a": [0.6], "b": [0.8], "d": [1.0]}}
    gain = FewShotScores(accuracies={"x": one, "y": other}).gain("x", "y", "5")
    assert (gain.value, gain.n, gain.p) == (pytest.approx(0.1), 2, 0.5)
    (claim,) = claims_of(FewShotScores(accuracies={"x": one, "y": other}), "x", "T")
    # two people that gain the same have an interval of no width
    assert claim.held
