"""Every YAML in conf/ composes in some verb, and everything it names takes what it gives."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from data_prep.pipeline import prepare
from data_prep.sources import SOURCES
from data_prep.stages import STAGES
from neurofm.adapt import ADAPT
from neurofm.adapt.finetune import finetune
from neurofm.cli import main
from neurofm.cli.list import GROUPS, first_sentence, summary
from neurofm.data.corpus import Corpus
from neurofm.data.splits.rules import RULES
from neurofm.data.task import Task
from neurofm.data.transforms.base import TRANSFORMS
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.skip import SKIPS
from neurofm.stimuli import ENCODERS
from neurofm.tokenizers import TOKENIZERS
from neurofm.training.fit import fit
from neurofm.training.module import NeuroModule

CONF = Path(__file__).parents[2] / "conf"
VERBS = sorted(p.stem for p in CONF.glob("*.yaml"))
FILES = sorted(p.relative_to(CONF) for p in CONF.glob("*/*.yaml"))
# what a verb asks for before it composes, and what stands for a value that the user must give
NEEDS = {"prep": ["dataset=simulated"]}
HERE = {"prep": "prep@dataset"}


def composed(verb, *overrides):
    given = list(overrides)
    given += [n for n in NEEDS.get(verb, []) if not any(o.startswith(n.partition("=")[0] + "=") for o in overrides)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(verb, overrides=given)
    for key in sorted(OmegaConf.missing_keys(config)):
        OmegaConf.update(config, key, "given")
    return OmegaConf.to_container(config, resolve=True)


def verbs_of(group):
    """Verbs whose defaults list has the group."""
    found = []
    for verb in VERBS:
        defaults = OmegaConf.load(CONF / f"{verb}.yaml").defaults
        if any(OmegaConf.is_dict(d) and group in d for d in defaults):
            found.append(verb)
    return found or ["prep"]


def takes(function, keywords, *, without=()):
    """Assert that a function has these keyword arguments."""
    known = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        return
    assert set(keywords) - set(without) <= set(known), f"{function}: {set(keywords) - set(without) - set(known)}"


def named(registry, entry):
    takes(registry.get(entry["name"]), entry, without=["name"])


def check(config):
    """Check every section that is there against what will be called with it."""
    present = {k: v for k, v in config.items() if v is not None}
    for section, registry in (("model", MODELS), ("objective", OBJECTIVES), ("adapt", ADAPT)):
        if section in present:
            named(registry, present[section])
    if "model" in present:
        TOKENIZERS.get(present["model"].get("tokenizer", "linear_patch"))
    if (present.get("objective") or {}).get("skip"):
        named(SKIPS, present["objective"]["skip"])
    for section, made in (("data", Corpus), ("task", Task)):
        if section in present:
            takes(made, present[section], without=["id", "name"])
    if "encoder" in present:
        takes(ENCODERS.get(present["encoder"]["name"]), present["encoder"], without=["name", "id"])
    if "data" in present and present["data"] != {"id": "stimuli"}:
        rule = present["data"]["split"]
        takes(RULES[rule["rule"]], rule, without=["rule"])
        for transform in present["data"]["transforms"]:
            named(TRANSFORMS, transform)
    if "optim" in present:
        takes(NeuroModule.__init__, present["optim"])
    for section in ("trainer", "logger"):
        if section in present:
            takes(fit, present[section])
    if "loop" in present:
        takes(finetune, present["loop"])
    if "dataset" in present:
        named(SOURCES, present["dataset"]["source"])
        takes(prepare, present["dataset"], without=["id"])
        for stage in present["stages"]:
            named(STAGES, stage)


@pytest.mark.parametrize("data", ["mine", "mine_new_subject"])
def test_own_spikes_need_no_new_keys(data):
    calibration = ["held_out=a", "data.split.budgets_s=[20,80]"] if data == "mine_new_subject" else []
    config = composed("train", f"data={data}", "data.path=x", "data.bin_s=0.01", "data.events=true",
                      "data.streams=[velocity]", *calibration)  # fmt: skip
    check(config)
    assert (config["data"]["events"], config["data"]["streams"]) == (True, ["velocity"])
    assert config["data"]["split"].get("budgets_s", [20, 80]) == [20, 80]


@pytest.mark.parametrize("verb", VERBS)
def test_verb(verb):
    config = composed(verb)
    check(config)
    assert "hydra" not in config


@pytest.mark.parametrize("file", FILES, ids=str)
def test_option(file):
    group, option = file.parent.name, file.stem
    tried, errors = verbs_of(group), []
    for verb in tried:
        try:
            config = composed(verb, f"{HERE.get(group, group)}={option}")
        except Exception as error:
            errors.append(f"{verb}: {error}")
            continue
        check(config)
    assert len(errors) < len(tried), errors


@pytest.mark.parametrize("file", [*FILES, *(Path(f"{v}.yaml") for v in VERBS)], ids=str)
def test_first_line_says_what_it_is(file):
    lines = [x for x in (CONF / file).read_text(encoding="utf-8").splitlines() if not x.startswith("# @package")]
    assert lines[0].startswith("# ")
    assert len(lines[0]) > 12


def test_every_verb_has_its_yaml():
    assert set(VERBS) == set(main.VERBS) - {"list", "inspect", "doctor"}  # doctor takes the arguments of train


def test_a_summary_is_a_whole_sentence():
    said = {p: summary(p) for group, _ in GROUPS.values() for p in (CONF / group).glob("*.yaml")}
    cut = re.compile(r"\b(et )?al$")
    assert not [str(p) for p, s in said.items() if cut.search(s) or s.count("(") != s.count(")")]
    assert said[CONF / "model" / "nice.yaml"].startswith("NICE (Song et al. 2024, ")
    assert said[CONF / "dataset" / "celegans.yaml"].startswith("Whole-brain calcium of C. elegans, ")
    assert first_sentence("As X et al. do. And (of B. C.) more.") == "As X et al. do"


def test_every_dataset_is_in_the_docs():
    page = (CONF.parent / "docs" / "datasets.md").read_text()
    assert not [p.stem for p in CONF.glob("dataset/*.yaml") if f"`{p.stem}`" not in page]


def test_every_benchmark_is_in_the_docs():
    pages = " ".join(p.read_text() for p in (CONF.parent / "docs").glob("**/*.md"))
    assert not [p.stem for p in CONF.glob("benchmark/*.yaml") if p.stem not in pages]


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("stages", STAGES.names()),
        ("decode", STAGES.names()),
        ("streaming", set(TRANSFORMS.names()) - {"compose"}),
        ("streaming", RULES),
    ],
)
def test_every_choice_is_in_the_docs(page, names):
    text = (CONF.parent / "docs" / f"{page}.md").read_text()
    assert not [n for n in names if f"`{n}`" not in text]
