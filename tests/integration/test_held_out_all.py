"""`neurofm finetune held_out=all` and `held_out=[…]`: one decoder per person, in the folders that one call each would give."""

from pathlib import Path

import pytest

from data_prep.pipeline import prepare
from neurofm.cli.main import main
from neurofm.data.dataset import Dataset
from neurofm.data.splits.rules import make_split
from neurofm.schema.hashing import read_json

SIM = dict(name="sim_motor_imagery", n_subjects=4, n_trials=20, mu_uv=60.0, trial_s=1.0)
DATA = ["data=sim_motor_imagery", "data.path=shards/motor", "data.split.test=2", "data.split.test_s=10",
        "data.split.budgets_s={2: 4, 5: 5, 10: 6, 20: 7}", "data.n_workers=0"]  # fmt: skip
COMMON = ["task=motor_imagery", "task.window_s=1.0", "objective=supervised"]
TUNE = [
    "finetune",
    "checkpoint=runs/base",
    *COMMON,
    "loop.steps=1",
    "loop.tail=none",
    "budgets=[5]",
    "from_scratch=false",
]
ONE = """# One person left out
id: one
path: shards/motor
split: { rule: new_subject, subject: "${held_out}", budgets_s: { 5: 5 }, test_s: 5, gap_s: 0 }
transforms: []
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("all")
    prepare(source=SIM, out=root / "shards/motor", dask="none", progress=False, segment_s=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        steps = [
            "trainer.max_steps=1",
            "trainer.progress=false",
            "batch_size=8",
            "model.patch_s=0.5",
            "model.kernel=33",
        ]
        assert main(["train", *DATA, *COMMON, "model=eegnet", "name=base", *steps]) == 0
    return root


def whose(path):
    return [s.rpartition("/")[2] for s in read_json(path / "card.json")["provenance"]["subjects"]]


def test_everybody_that_the_split_tests(folder, monkeypatch):
    monkeypatch.chdir(folder)
    dataset = Dataset("shards/motor")
    split = make_split(dataset, rule="by_subject", test=2, seed=0)
    tested = sorted({dataset.subject(s.recording_id) for s in split["test"]})
    assert main([*TUNE, *DATA, "held_out=all", "run_dir=runs/few"]) == 0
    assert sorted(p.name for p in Path("runs/few").iterdir()) == tested
    for person in tested:
        (made,) = Path(f"runs/few/{person}").glob("full-*/model")
        assert whose(made) == [person]
    # the same in a list, beside the checkpoint's run
    assert main([*TUNE, *DATA, f"held_out=[{','.join(tested[::-1])}]"]) == 0
    assert all(list(Path(f"runs/base-adapted-{p}").glob("full-*/model")) for p in tested)
    assert main([*TUNE, *DATA, "held_out=all", "suffix='few-${held_out}'"]) == 0
    assert all(list(Path(f"runs/base-few-{p}").glob("full-*/model")) for p in tested)


def test_a_rule_for_one_person_takes_everybody(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("own/data").mkdir(parents=True)
    Path("own/data/one.yaml").write_text(ONE)
    assert main([*TUNE, "--config-dir", "own", "data=one", "held_out=all", "run_dir=runs/each"]) == 0
    assert sorted(p.name for p in Path("runs/each").iterdir()) == Dataset("shards/motor").subjects


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["held_out=all"], "held_out=all needs data="),
        (["held_out=all", "data=mine", "data.path=shards/motor"], "leaves nobody out"),
        (["held_out=[]", *DATA], "empty list"),
        (["held_out=[77]", *DATA], "77"),
    ],
)
def test_refusals(overrides, said, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main([*TUNE, *overrides, "run_dir=runs/no"]) == 1
    assert said in capsys.readouterr().err
