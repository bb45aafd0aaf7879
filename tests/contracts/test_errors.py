"""What a person who mistypes gets: one sentence with the nearest valid choice, a failing exit status, no traceback."""

from __future__ import annotations

import shlex

import pytest

from neurofm.cli.conf import check_held_out
from neurofm.cli.main import main
from neurofm.schema.errors import ConfigError

CASES = [
    ("trane data=hcp7", "unknown verb 'trane': did you mean 'train'"),
    ("prep", "choose a dataset: dataset= one of a"),
    ("prep dataset=hcp8", "dataset has no option 'hcp8': did you mean 'hcp' or 'hcp7'"),
    ("prep datsat=hcp7", "no key or group 'datsat' in prep.yaml: did you mean 'dataset'"),
    ("prep dataset=simulated outt=x", "no key or group 'outt' in prep.yaml: did you mean 'out'"),
    (
        "prep dataset=files dataset.source.root=x dataset.source.kinds={EOG*:eog}",
        "takes entries of your own: write '+dataset.source.kinds=",
    ),
    ("prep out===", "'out===' cannot be read: write key=value"),
    ("prep 'dataset={a'", "'dataset={a' cannot be read"),
    ("prep hcp7", "'hcp7' is not an override: write key=value"),
    ("prep +dataset=simulated", "'dataset' is chosen twice"),
    ("prep ~foo dataset=simulated", "no key or group 'foo'"),
    ("prep dataset=simulated dask=locl", "dask has no option 'locl': did you mean 'local'"),
    ("prep dataset=files", "'dataset.source.root' must be given"),
    ("prep dataset=files dataset.source.root=nowhere", "nowhere: no such folder"),
    ("prep dataset=simulated dataset.source.name=simulatd", "unknown source 'simulatd': did you mean 'simulated'"),
    ("prep dataset=simulated +dataset.source.n_subject=2", "no argument 'n_subject': did you mean 'n_subjects'"),
    ("prep dataset=simulated 'stages=[{name: resampl}]'", "unknown stage 'resampl': did you mean 'resample'"),
    ("prep dataset=simulated 'stages=[{name: resample, rat_hz: 3}]'", "no argument 'rat_hz': did you mean 'rate_hz'"),
    ("prep dataset=simulated out=block.txt", "block.txt"),
    ("prep dataset=simulated strict=maybe", "strict is 'maybe'; expected true or false"),
    ("prep dataset=simulated download=true", "dataset 'simulated' cannot be fetched by download=true"),
    ("train modl=x", "no key or group 'modl' in train.yaml: did you mean 'model'"),
    ("train data=nope", "data has no option 'nope'"),
    ("train model.dimm=3", "did you mean 'model.dim'"),
    ("train model.scale_by_layer=true", "write +model.scale_by_layer=… to add it"),
    ("train trainer.max_stepz=3", "did you mean 'trainer.max_steps'"),
    ("train experiment=hcp7_maskd", "did you mean 'hcp7_masked'"),
    ("train seed=first data=simulated", "seed is 'first'; expected a number"),
    ("train data=simulated held_out=04", "run `neurofm prep dataset=simulated` first"),
    ("train data=mine", "'data.path' must be given"),
    ("train data=mine data.path=elsewhere", "run `neurofm prep dataset=… out=elsewhere` first"),
    ("train data=mine_new_subject data.split.budgets_s.5=80", "is a list: write 'data.split.budgets_s=[VALUE,VALUE]'"),
    ("train data=mine_new_subject 'data.split.budgets_s={5s: 5}'", "is a list: write 'data.split.budgets_s=[VALUE,"),
    ("train --cofig-dir=.", "no flag '--cofig-dir=.': did you mean '--config-dir'"),
    ("train --cfg jbo", "invalid choice: 'jbo'"),
    ("train --config-dir nowhere", "nowhere' not found"),
    ("finetune", "'checkpoint' must be given"),
    ("finetune checkpoint=nowhere", "nowhere/card.json: no such file"),
    ("finetune checkpoint=nowhere adapt=lorra", "did you mean 'lora'"),
    ("embed", "'checkpoint' must be given"),
    ("embed checkpoint=nowhere", "nowhere/card.json: no such file"),
    ("embed checkpoint=nowhere checkpnt=x", "no key or group 'checkpnt' in embed.yaml: did you mean 'checkpoint'"),
    ("evaluate benchmark=hcp", "did you mean 'hcp7'"),
    ("evaluate runs=nowhere", "nowhere/hcp7: no such folder"),
    ("decode checkpoint=nowhere source=x.edf", "nowhere/card.json: no such file"),
    ("list modls", "cannot list 'modls': did you mean 'models'"),
    ("inspect nowhere", "nowhere: no such folder"),
    ("inspect .", "is neither a prepared dataset (dataset.json) nor a checkpoint"),
]


@pytest.mark.parametrize(("line", "sentence"), CASES, ids=[c[0] for c in CASES])
def test_one_sentence(line, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.txt").write_text("not a folder")
    status = main(shlex.split(line))
    captured = capsys.readouterr()
    said = captured.err.strip()
    assert status not in (0, None)
    assert sentence in said
    # a source's own announcement may stand before it
    assert len([x for x in said.splitlines() if x.startswith("neurofm")]) == 1
    assert said.splitlines()[-1].startswith("neurofm")
    assert "Traceback" not in said
    assert "hydra" not in said.lower().replace("'hydra", "").replace(", hydra,", "")
    assert [p.name for p in tmp_path.iterdir()] == ["block.txt"]


def test_the_registries_name_the_nearest(tmp_path, monkeypatch, capsys):
    """Names inside a configuration, once there are data to get that far."""
    monkeypatch.chdir(tmp_path)
    source = "dataset.source.n_subjects=2 dataset.source.duration_s=30 dataset.source.n_trials=0"
    assert main(shlex.split(f"prep dataset=simulated dask=none {source}")) == 0
    train = (
        "train data=simulated task=windows_1s held_out=02 data.split.test_s=5 data.split.budgets_s.40=15 "
        "trainer.progress=false model.patch_samples=10"
    )
    for rest, sentence in [
        ("model.name=mvpfromer", "unknown model 'mvpfromer': did you mean 'mvpformer'"),
        ("objective.name=maskd_region", "unknown objective 'maskd_region': did you mean 'masked_region'"),
        ("model.tokenizer=wavlet", "did you mean 'wavelet'"),
        ("'data.transforms=[{name: standardise}]'", "unknown transform 'standardise': did you mean 'standardize'"),
        ("data.split.rule=new_subjects", "did you mean 'new_subject'"),
        ("task.windows=slidin", "did you mean 'sliding'"),
        ("held_out=03", "there is no subject '03': did you mean"),
        ("held_out=null", "held_out must name the subject"),
        ("+model.colour=red", "model 'mvpformer' has no argument 'colour'"),
        ("+data.window_s=2", "data has no key 'window_s'"),
        ("+data.transform=red", "data has no key 'transform': did you mean 'transforms'"),
        ("logger.logger=wandbb", "did you mean 'wandb'"),
    ]:
        capsys.readouterr()
        assert main(shlex.split(f"{train} name=run {rest}")) == 1, rest
        said = capsys.readouterr().err.strip()
        assert sentence in said, said
        assert len(said.splitlines()) == 1


def test_a_person_to_hold_out_whom_the_split_ignores():
    data = {"id": "mine", "split": {"rule": "by_time", "fractions": {"train": 0.8}}}
    with pytest.raises(ConfigError, match=r"held_out=7 has no effect.*by_time"):
        check_held_out({"held_out": 7, "data": data})
    check_held_out({"held_out": None, "data": data})
    check_held_out({"held_out": 7, "data": {"split": {"rule": "new_subject", "subject": "7"}}})


def test_many_figures_fit_one_line():
    from neurofm.cli.train import in_a_line

    levels = {f"val/error_b{b}_{k}": 0.1 for b in range(4) for k in range(8)}
    assert in_a_line({"val/loss": 1.0, **levels, "train/loss": 2.0}) == "val/loss 1"
    assert in_a_line({"val/loss": 1.0, "val/top_5": 0.5}) == "val/loss 1  val/top_5 0.5"
