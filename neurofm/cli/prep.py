"""`neurofm prep dataset=…`: raw recordings → shards."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from neurofm.cli.app import run_app
from neurofm.schema.errors import ConfigError


def main(argv: list[str]) -> int:
    """Run the verb."""
    return run_app("prep", prep, argv)


def prep(config: dict[str, Any]) -> None:
    """Prepare one dataset and say what came of it."""
    from data_prep.pipeline import prepare

    dataset = config["dataset"]
    out = config["out"]
    # people of two folders of files are not the same because both came from files
    name = dataset["id"] or (PurePosixPath(out).name if out else dataset["source"]["name"])
    if config["download"] and "download" not in dataset["source"]:
        raise ConfigError(
            f"dataset '{name}' cannot be fetched by download=true; the first line of its YAML says where to get it"
        )
    report = prepare(
        source=dataset["source"],
        out=out or f"shards/{name}",
        stages=config["stages"],
        dataset_id=name,
        licence=dataset.get("licence", ""),
        citation=dataset.get("citation", ""),
        segment_s=dataset.get("segment_s", 60.0),
        storage_dtype=dataset.get("storage_dtype", "int16"),
        dask=config["dask"],
        strict=config["strict"],
        overwrite=config["overwrite"],
        work=config["work"],
    )
    print(report.sentence())
    for recording, reason in report.rejected:
        print(f"  rejected {recording}: {reason}")
