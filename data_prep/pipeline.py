"""Source × stages × writer over many recordings: resumable, in parallel, the same bytes every time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_prep.duplicates import list_trials, split_duplicates
from data_prep.findings import findings_of
from data_prep.flow import build_stages
from data_prep.running.executor import run_items
from data_prep.running.progress import Progress, announce, remark
from data_prep.running.worker import Job, finished
from data_prep.sessions import split_mixed_rates
from data_prep.sources import SOURCES
from data_prep.sources.base import Item, Source
from data_prep.writer.atomic import WriteError
from data_prep.writer.place import place_of, require_replaceable
from data_prep.writer.quantize import DTYPES
from data_prep.writer.segment import check_segment_s
from data_prep.writer.shards import TABLES, clear, load_staged, make_manifest, pack, write_stimuli, write_tables
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file, write_json
from neurofm.schema.recording import slug
from neurofm.schema.words import counted

SHARD_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class PrepReport:
    """What `prepare` did.

    Attributes
    ----------
    out : str
        The prepared dataset: a folder or a URL.
    unchanged : bool
        True when everything was there already and nothing was written.
    totals : dict of str to float
        As in dataset.json.
    rejected : list of (recording, reason)
        What was left out and why.
    remarks : list of str
        Choices that had no effect.
    findings : list of str
        What was repaired or noticed, as `findings.findings_of` says it.
    seconds : float
        Wall time.
    """

    out: str
    unchanged: bool
    totals: dict[str, float]
    rejected: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def sentence(self) -> str:
        """One line for the user."""
        t = self.totals
        if self.unchanged:
            return f"{self.out}: nothing changed, {counted(t['n_recordings'], 'recording')} prepared already"
        left_out = f", {t['n_rejected']:.0f} rejected (see rejected.parquet)" if t["n_rejected"] else ""
        return (
            f"{self.out}: {counted(t['n_recordings'], 'recording')} of {counted(t['n_subjects'], 'subject')}, {t['hours']:.2f} h, "
            f"{t['bytes'] / 1e6:.1f} MB in {self.seconds:.1f} s{left_out}"
            + "".join(f"; {clause}" for clause in self.findings)
        )


def build_source(source: Source | Mapping[str, Any]) -> Source:
    """Return a source from ``{"name": …, **choices}``; an instance is returned as it is.

    Raises
    ------
    ConfigError
        When the name or a choice is unknown.
    """
    if not isinstance(source, Mapping):
        return source
    if "name" not in source:
        raise ConfigError(f"source has no 'name': {nearest('', SOURCES.names())}")
    choices = {k: v for k, v in source.items() if k != "name"}
    return SOURCES.build(source["name"], allow_import=True, **choices)


def prepare(
    *,
    source: Source | Mapping[str, Any],
    out: str | Path,
    stages: Sequence[Mapping[str, Any]] = (),
    dataset_id: str = "",
    licence: str = "",
    citation: str = "",
    segment_s: float | None = 60.0,
    storage_dtype: str = "int16",
    shard_bytes: int = SHARD_BYTES,
    dask: str | Mapping[str, Any] = "local",
    strict: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    work: str | Path | None = None,
) -> PrepReport:
    """Prepare a dataset: read every recording of `source`, run `stages`, write shards and tables to `out`.

    Killed at any time and started again it goes on from the last finished recording, and the result is the same
    to the byte, whatever the parallelism. With nothing changed it returns at once.

    Parameters
    ----------
    source : Source or mapping
        A source, or ``{"name": registered name, **choices}``.
    out : path or str
        Folder of the prepared dataset, or an fsspec URL (``s3://bucket/name``); see docs/remote.md for the latter.
    stages : sequence of mapping
        ``{"name": registered name, **choices}`` each, in order.
    dataset_id : str
        Id of the dataset and first part of every recording id; default the source's own.
    licence, citation : str
        Written to dataset.json; default the source's own.
    segment_s : float or None
        Longest segment in seconds; None = one segment per valid interval (whole fMRI runs).
    storage_dtype : str
        "int16" (scale and offset per channel), "float16" or "float32".
    shard_bytes : int
        Size at which a new shard is begun.
    dask : str or mapping
        "local" (default), "none", a scheduler's address, or a mapping (see `executor.run_items`).
    strict : bool
        A rejected recording ends the preparation.
    overwrite : bool
        Replace a dataset in `out` that was prepared otherwise.
    progress : bool
        Show a progress bar on stderr.
    work : path, optional
        Of an output URL: local folder for unfinished work, default in the cache.

    Raises
    ------
    ConfigError
        When a choice cannot be carried out: unknown names, a folder in use or holding another dataset.
    DataError
        When nothing can be prepared, a recording was rejected under `strict`, or the output cannot be written.
    """
    began = time.monotonic()
    built = build_source(source)
    build_stages(stages)
    if storage_dtype not in DTYPES:
        raise ConfigError(f"storage_dtype '{storage_dtype}' is unknown: {nearest(storage_dtype, DTYPES)}")
    check_segment_s(segment_s)
    if shard_bytes < 1:
        raise ConfigError(f"shard_bytes is {shard_bytes}; expected 1 or more")
    place = place_of(out, work)
    name = slug(dataset_id or built.id)
    job = Job(
        staging=place.work / "fragments",
        dataset=name,
        source=built.describe(),
        stages=tuple(dict(s) for s in stages),
        segment_s=None if segment_s is None else float(segment_s),
        storage_dtype=storage_dtype,
    )
    terms = {"licence": licence or built.licence, "citation": citation or built.citation}
    items = list_items(built)
    # The shard size is no part of a receipt's key: other shards are packed from the same fragments.
    prep = {**job.settings(), "shard_bytes": int(shard_bytes)}
    if progress and terms["licence"]:
        announce(name, **terms)
    run_key = hash_of([prep, terms, [(i.key, i.fingerprint) for i in items]])
    with place.hold():
        try:
            known = require_replaceable(place, run_key, overwrite=overwrite)
        except ConfigError:
            _leave(place.work)
            raise
        if known is not None:
            clear(place.work)
            return PrepReport(out=place.name, unchanged=True, totals=known, seconds=time.monotonic() - began)
        rejected = _stage_all(job, items, dask, strict=strict, show=progress)
        kept = [load_staged(i.key, job.receipt_path(i), job.fragment_path(i)) for i in items if i.key not in rejected]
        staged, twice = split_duplicates(kept)
        staged, odd = split_mixed_rates(staged)
        left_out = [*twice, *odd]
        rejected |= {s.item_key: reason for s, reason in left_out}
        if strict and left_out:
            raise DataError(f"{left_out[0][0].item_key}: {left_out[0][1]} (strict=true)")
        staged, doubtful = list_trials(staged)
        if not staged:
            place.abandon()
            first = next(iter(sorted(rejected.items())))
            raise DataError(
                f"{place.name}: all {len(items)} recordings were rejected; the first, {first[0]}: {first[1]}"
            )
        new = place.work / "new"
        clear(new)
        try:
            (new / "shards").mkdir(parents=True)
        except OSError as error:
            raise WriteError(f"{new}: cannot be written ({error.strerror})") from error
        shards, where = pack(staged, new / "shards", shard_bytes)
        write_tables(new, staged, where, _rejected_rows(name, items, rejected) + doubtful)
        manifest = make_manifest(staged, shards, dataset_id=name, **terms, prep=prep, n_rejected=len(rejected))
        manifest.write(new)
        stimuli = write_stimuli(new, built.stimuli(new / "stimuli"))
        write_json(
            new / "receipt.json",
            {
                "run_key": run_key,
                "dataset_sha256": sha256_file(new / "dataset.json"),
                "tables": {name: sha256_file(new / f"{name}.parquet") for name in TABLES},
                "stimuli": stimuli,
            },
        )
        place.publish(new)
        clear(place.work)
    remarks = list(built.remarks([row for s in staged for row in s.receipt["channels"]]))
    if progress:
        for text in remarks:
            remark(text)
    return PrepReport(
        out=place.name,
        unchanged=False,
        totals=manifest.totals,
        rejected=sorted(rejected.items()),
        remarks=remarks,
        findings=findings_of(s.receipt for s in staged),
        seconds=time.monotonic() - began,
    )


def list_items(source: Source) -> list[Item]:
    """Return a source's items sorted by key.

    Raises
    ------
    DataError
        When there are none, or two share a key.
    """
    items = sorted(source.list(), key=lambda i: i.key)
    if not items:
        raise DataError(f"source '{source.id}' lists no recording; check its folder and its filters")
    keys = [i.key for i in items]
    for a, b in pairwise(keys):
        if a == b:
            raise DataError(f"source '{source.id}' lists '{a}' twice; keys must be unique")
    return items


def _stage_all(
    job: Job, items: list[Item], dask: str | Mapping[str, Any], *, strict: bool, show: bool
) -> dict[str, str]:
    """Stage what has no receipt yet; return the rejected keys with their reasons."""
    try:
        job.staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{job.staging}: cannot be written ({error.strerror})") from error
    _sweep(job, items)
    todo = [i for i in items if not finished(job, i)]
    rejected: dict[str, str] = {}
    with Progress(title=job.dataset, total=len(items), done=len(items) - len(todo), show=show) as bar:
        for item, (reason, hours) in run_items(job, todo, dask):
            if reason is not None:
                if strict:
                    raise DataError(f"{item.source_file or item.key}: {reason} (strict=true)")
                rejected[item.key] = reason
            bar.advance(item.key, reason, hours=hours)
    return rejected


def _sweep(job: Job, items: list[Item]) -> None:
    """Remove what no longer belongs here: half-written files, and fragments of other settings."""
    wanted = {p.name for i in items for p in (job.receipt_path(i), job.fragment_path(i))}
    for p in job.staging.iterdir():
        if p.name not in wanted:
            p.unlink()


def _leave(work: Path) -> None:
    """Remove the working folder again when it holds nothing but our lock."""
    if {p.name for p in work.iterdir()} <= {"lock"}:
        clear(work)


def _rejected_rows(dataset: str, items: list[Item], rejected: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "recording_id": slug(f"{dataset}_{i.key}"),
            "subject": i.subject,
            "session": i.session,
            "source_file": i.source_file,
            "start_s": 0.0,
            "reason": rejected[i.key],
        }
        for i in items
        if i.key in rejected
    ]
