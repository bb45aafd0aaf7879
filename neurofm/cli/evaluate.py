"""`neurofm evaluate benchmark=… | suite=… | leaderboard=FILES`: decoders → scores with baselines, and a report."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurofm.cli.app import chosen, run_app
from neurofm.schema.errors import ConfigError, NeurofmError, nearest

if TYPE_CHECKING:
    from neurofm.cli.part import Part


def main(argv: list[str]) -> int:
    """Run the verb."""
    return run_app("evaluate", evaluate, argv)


def evaluate(config: dict[str, Any]) -> Path:
    """Score what the benchmark's parts find, write the report, and return its path."""
    from neurofm.cli.part import Part

    if config.get("leaderboard"):
        return leaderboard(config)
    suite = config.get("suite")
    benchmarks = list(suite["benchmarks"].values()) if suite else [config["benchmark"]]
    if not suite:
        check_runs(benchmarks[0])
    from neurofm.training.run import environment

    about = environment()
    versions = " ".join(f"{k}={v}" for k, v in about["versions"].items())
    common = {
        "results": config["results"], "run_id": uuid.uuid4().hex[:12], "versions": versions,
        "allow_leak": config["allow_leak"] or "", "allow_import": config["allow_import"],
    }  # fmt: skip
    total = Part()
    for benchmark in benchmarks:
        total += _scored(benchmark, common, control=config.get("control"), go_on=suite is not None)
    git = about["git"] or {}
    total.facts |= {"versions": versions, "commit": git.get("commit", "not from a repository")}
    title = (suite or config["benchmark"])["title"]
    name = f"suite-{chosen('suite')}" if suite else str(config["benchmark"]["name"])
    return _written(config, name, title, f"run {common['run_id']}", total, common["allow_leak"])


def check_runs(benchmark: dict[str, Any]) -> None:
    """Refuse a benchmark of decoders whose folder is not there, before anything heavy is imported.

    Raises
    ------
    ConfigError
        Naming the folder.
    """
    for part in benchmark["parts"]:
        arms = [arm["runs"] for arm in (part.get("arms") or {}).values() if "runs" in arm]
        for runs in [part["runs"], *arms] if part.get("runs") else arms:
            if part.get("kind") != "training" and not Path(runs).exists():
                raise ConfigError(
                    f"{runs}: no such folder; benchmark '{benchmark['name']}' scores what `neurofm train` and `neurofm finetune` "
                    "leave behind: make some, or say where they are with runs=…"
                )


def _scored(benchmark: dict[str, Any], common: dict[str, Any], *, control: Any, go_on: bool) -> Part:
    """Score one benchmark; in a suite (`go_on`) a part whose data are not there is a claim that was not tested."""
    from neurofm.cli.evaluate_parts import PARTS, keys_of
    from neurofm.cli.part import Part, published_section
    from neurofm.report import ceiling
    from neurofm.report.content import Claim

    total = Part()
    for part in benchmark["parts"]:
        choices = dict(part)
        kind = choices.pop("kind", "")
        if kind not in PARTS:
            raise ConfigError(f"benchmark '{benchmark['name']}': unknown kind '{kind}': {nearest(kind, PARTS)}")
        known = keys_of(kind)
        for key in choices:
            if key not in known:
                raise ConfigError(
                    f"benchmark '{benchmark['name']}': kind '{kind}' has no key '{key}': {nearest(key, known)}"
                )
        if control and "control" in known:
            choices["control"] = control
        try:
            made = PARTS[kind](name=benchmark["name"], **common, **choices)
        except NeurofmError as error:
            # a leak stops a suite as well
            if not go_on or "refused" in str(error):
                raise
            text = f"{benchmark['title']}, part {kind}, can be scored."
            total.claims.append(Claim(text=text, held=None, detail=str(error)))
            continue
        title = str(choices.get("title", benchmark["title"]))
        made.claims += ceiling.claims_of(made.rows, title)
        made.sections += ceiling.section_of(made.rows, title)
        total += made
    if benchmark.get("published"):
        total.sections.append(published_section(benchmark["title"], benchmark["published"]))
    return total


def leaderboard(config: dict[str, Any]) -> Path:
    """Make one page of any number of results.parquet files."""
    from neurofm.benchmarks.leaderboard import find_results, standings_of
    from neurofm.cli.part import Part
    from neurofm.report.leaderboard import claims_of, sections_of

    files = find_results(config["leaderboard"])
    boards, rows = standings_of(files, metric=config.get("metric"))
    part = Part(claims=claims_of(boards), sections=sections_of(boards), rows=rows)
    part.facts = {f"file {i}": str(path) for i, path in enumerate(files, 1)}
    return _written(config, "leaderboard", "Leaderboard", f"{len(files)} files of results", part, "")


def _written(config: dict[str, Any], name: str, title: str, subtitle: str, part: Part, leak_reason: str) -> Path:
    """Write the report into its own folder, so that one benchmark's never takes the place of another's."""
    from neurofm.report.content import Report, folded
    from neurofm.report.html import write_report

    claims = folded(part.claims)
    path = write_report(
        Path(config["out"] or Path(config["runs"]) / f"report-{name}"),
        Report(
            title=title, subtitle=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {subtitle}", claims=claims,
            sections=part.sections, scores=part.rows, looks=part.looks, facts=part.facts, leak_reason=leak_reason,
        ),
    )  # fmt: skip
    for claim in sorted(claims, key=lambda c: c.held is not False):
        print(f"{claim.verdict:<10} {claim.text}\n           {claim.detail}")
    print(f"report: {path}")
    return path
