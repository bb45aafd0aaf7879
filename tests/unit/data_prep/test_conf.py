"""Every dataset and prep YAML names a real source, real stages and real choices."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from data_prep.flow import build_stages
from data_prep.pipeline import build_source
from data_prep.running.executor import run_items
from data_prep.sources import SOURCES

CONF = Path(__file__).parents[3] / "conf"
OWN = {"arrays", "bids", "bids_fmri", "files", "nifti", "nwb"}


def load(name: str, *overrides: str) -> dict:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = compose(config_name=name, overrides=list(overrides))
    return OmegaConf.to_container(config, throw_on_missing=False)


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONF / "dataset").glob("*.yaml")))
def test_dataset(name, tmp_path):
    config = load(f"dataset/{name}")["dataset"]
    assert set(config) == {"id", "source", "licence", "citation", "stages", "segment_s", "storage_dtype"}
    # one's own recordings are named after the folder they are prepared into
    assert config["id"] == (None if name in OWN else name)
    choices = config["source"]
    if choices.get("root") == "???":
        choices["root"] = tmp_path
    source = build_source(choices)
    build_stages(config["stages"])
    assert (config["licence"], config["citation"]) == (source.licence, source.citation)


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONF / "prep").glob("*.yaml")))
def test_prep(name):
    build_stages(load(f"prep/{name}")["prep"]["stages"])
    assert load("dataset/bids", f"prep@dataset={name}")["dataset"]["stages"] == load(f"prep/{name}")["prep"]["stages"]


@pytest.mark.parametrize("name", ["none", "local"])
def test_dask(name):
    item = build_source({"name": "simulated", "n_subjects": 1}).list()[0]
    assert [r for _, r in run_items(lambda i: i.key, [item], load(f"dask/{name}")["dask"])] == [item.key]


def test_every_source_is_registered_under_its_name(tmp_path):
    given = {"root": tmp_path, "glob": "*", "corpus": "tuab"}
    for name in SOURCES.names():
        parameters = inspect.signature(SOURCES.get(name)).parameters.values()
        needed = [p.name for p in parameters if p.default is inspect.Parameter.empty]
        if name == "arrays":  # either a folder or arrays
            needed = ["root"]
        source = SOURCES.build(name, **{n: given[n] for n in needed})
        assert source.name == name
        assert source.describe()["name"] == name
        assert source.modalities
        assert str(tmp_path) not in str(source.describe())
