"""The MEG experiment and its controls resolve, fit each other's sizes, and keep the official test trials out."""

import pytest
import torch
from hydra import compose, initialize_config_dir

from neurofm.adapt.finetune import finetune
from neurofm.cli.app import plain
from neurofm.cli.conf import conf_dir
from neurofm.data.corpus import Corpus
from neurofm.data.task import Task
from neurofm.data.transforms.base import Compose
from neurofm.hub.load import LoadedModel
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts

EXPERIMENTS = [("meg_hmd", 10, "hmd"), ("meg_control_scp2", 1, "scp2"), ("meg_control_eyes", 14, "eyes")]


def resolve(verb, *overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return plain(compose(verb, overrides=list(overrides)))


@pytest.mark.parametrize(("experiment", "n_channels", "subject"), EXPERIMENTS)
def test_every_task_fits_the_pretrained_model(experiment, n_channels, subject):
    train = resolve("train", "experiment=meg_pretrain")
    config = resolve("finetune", f"experiment={experiment}", "checkpoint=x")
    assert config["data"]["split"]["subject"] == subject
    # the controls have the recipe of the real task, to the last number
    recipe = resolve("finetune", "experiment=meg_hmd", "checkpoint=x")
    assert all(config[key] == recipe[key] for key in ("objective", "loop", "adapt"))
    assert config["suffix"] == ("adapted" if subject == "hmd" else subject)
    facts = Facts(rate_hz=100.0, window_s=train["task"]["window_s"], max_channels=16, channels=("a",))
    model_choices = {k: v for k, v in train["model"].items() if k != "name"}
    model = MODELS.build(train["model"]["name"], facts, **model_choices)
    objective_choices = {k: v for k, v in train["objective"].items() if k != "name"}
    objective = OBJECTIVES.build(train["objective"]["name"], model, facts, **objective_choices)
    card = {"model": {"name": "mvpformer", "choices": model_choices},
            "objective": {"name": "masked_region", "choices": objective_choices}}  # fmt: skip
    loaded = LoadedModel(model, objective, facts, [], card)
    n_samples = round(config["task"]["window_s"] * 100)
    windows = NeuralBatch(
        signal=torch.randn(8, n_channels, n_samples, generator=torch.Generator().manual_seed(0)),
        channel_mask=torch.ones(8, n_channels, dtype=torch.bool),
        time_mask=torch.ones(8, n_samples, dtype=torch.bool),
        channel_ids=torch.ones(8, n_channels, dtype=torch.long),
        rate_hz=100.0,
        target=torch.arange(8) % 2,
    )
    new = Facts(**{**facts.to_json(), "window_s": config["task"]["window_s"], "classes": ("x", "y"),
                   "channels": facts.channels, "subjects": ()})  # fmt: skip
    loop = {**config["loop"], "steps": 1}
    for strategy in ("full", "scratch"):
        adapted = finetune(loaded, windows, strategy=strategy, objective=config["objective"], facts=new, **loop).loaded
        assert adapted.objective.predict(adapted.model, windows).shape == (8, 2)


def test_pretraining_takes_the_training_trials_of_everyone_and_no_test_trial(labelled_trials):
    data = resolve("train", "experiment=meg_pretrain")["data"]
    assert data["split"]["pretrain_part"] == "train"
    split = {**data["split"], "subject": "1"}
    corpus = Corpus(path=str(labelled_trials), split=split, task=Task(window_s=0.4, windows="trial"))
    assert {s.recording_id for s in corpus.split["pretrain"]} == {"p1_train", "p2_train"}
    assert {s.recording_id for s in corpus.split["train"]} == {"p1_train"}
    Compose(transforms=data["transforms"])
