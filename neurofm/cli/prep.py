"""`neurofm prep dataset=…`: raw recordings → shards."""

from __future__ import annotations

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
    if config["download"] and "download" not in dataset["source"]:
        raise ConfigError(
            f"dataset '{dataset['id']}' cannot be fetched by download=true; the first line of its YAML says where to get it"
        )
    report = prepare(
        source=dataset["source"],
        out=config["out"],
        stages=config["stages"],
        dataset_id=dataset["id"],
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
