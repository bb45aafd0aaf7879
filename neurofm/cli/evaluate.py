"""`neurofm evaluate benchmark=…`: decoders → scores with baselines, and a report."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neurofm.cli.app import run_app


def main(argv: list[str]) -> int:
    """Run the verb."""
    return run_app("evaluate", evaluate, argv)


def evaluate(config: dict[str, Any]) -> Path:
    """Score every decoder that the benchmark's parts find, write the report, and return its path."""
    from neurofm.cli.evaluate_parts import PARTS, Part, keys_of
    from neurofm.report.content import Report
    from neurofm.report.html import write_report
    from neurofm.schema.errors import ConfigError, nearest
    from neurofm.training.run import environment

    benchmark = config["benchmark"]
    about = environment()
    versions = " ".join(f"{k}={v}" for k, v in about["versions"].items())
    common = {
        "results": config["results"], "run_id": uuid.uuid4().hex[:12], "versions": versions,
        "allow_leak": config["allow_leak"] or "", "allow_import": config["allow_import"],
    }  # fmt: skip
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
        found = PARTS[kind](name=benchmark["name"], **common, **choices)
        total.claims += found.claims
        total.sections += found.sections
        total.rows += found.rows
        total.looks |= found.looks
        total.facts |= found.facts
    git = about["git"] or {}
    total.facts |= {"versions": versions, "commit": git.get("commit", "not from a repository")}
    out = Path(config["out"])
    path = write_report(
        out,
        Report(
            title=benchmark["title"],
            subtitle=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, run {common['run_id']}",
            claims=total.claims,
            sections=total.sections,
            scores=total.rows,
            looks=total.looks,
            facts=total.facts,
            leak_reason=common["allow_leak"],
        ),
    )
    for claim in sorted(total.claims, key=lambda c: c.held is not False):
        print(f"{claim.verdict:<10} {claim.text}\n           {claim.detail}")
    print(f"report: {path}")
    return path
