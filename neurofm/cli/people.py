"""`held_out=all` or `held_out=[01,04]`: one point of a verb for each person, in one process."""

from __future__ import annotations

import copy
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from neurofm.cli.conf import check_data
from neurofm.schema.errors import ConfigError

ALL = "all"


def each_person(config: DictConfig) -> list[DictConfig]:
    """Return one config per person, each with a run folder of its own; `config` alone where it names one or nobody.

    "all" are the people that the data's split tests, or all of the dataset where the split itself leaves one person out.
    """
    held_out = config.get("held_out")
    if isinstance(held_out, ListConfig):
        people = [str(p) for p in held_out]
    elif held_out == ALL:
        people = tested_people(config)
    else:
        return [config]
    if not people:
        raise ConfigError("held_out is an empty list; name people, or all")
    raw = OmegaConf.to_container(config, resolve=False)
    assert isinstance(raw, dict)
    points = []
    for person in people:
        point = copy.deepcopy(config)
        point.held_out = person
        where = "run_dir" if raw.get("run_dir") else "suffix"
        if "held_out" not in str(raw[where]):
            point[where] = f"{config[where]}{'/' if where == 'run_dir' else '-'}{person}"
        points.append(point)
    return points


def tested_people(config: DictConfig) -> list[str]:
    """People whom `held_out` can name, sorted."""
    from neurofm.data.mixture import open_datasets
    from neurofm.data.splits.rules import make_split

    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    data: dict[str, Any] | None = resolved.get("data")
    if data is None or isinstance(data.get("split"), str):
        raise ConfigError("held_out=all needs data=… with a split rule that leaves people out; else name one person")
    check_data(data, resolved.get("task"))
    split = dict(data["split"])
    keys = [k for k, v in split.items() if v == ALL]
    if not keys:
        raise ConfigError(f"held_out=all has no effect: the split of data '{data.get('id', '')}' leaves nobody out")
    dataset = open_datasets(data["path"], select=data.get("select"), bin_s=data.get("bin_s"))
    try:
        spans = make_split(dataset, **{**split, **dict.fromkeys(keys)})["test"]
    except ConfigError:
        # a rule that is made for one person, who may be anybody
        return list(dataset.subjects)
    return sorted({dataset.subject(s.recording_id) for s in spans})
