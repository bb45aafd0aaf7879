"""Any number of results.parquet files → standings per benchmark, and ranks over all of them.

Only rows of one protocol are ever compared. Ranks follow Demšar (2006, JMLR 7): models are ranked within each unit (a
fold, a person or a dataset), Friedman's test asks whether ranks differ at all, and two models differ where their mean
ranks are further apart than Nemenyi's critical difference q · √(k (k + 1) / (6 N)).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.results import read_results, scores_only
from neurofm.benchmarks.stats.intervals import holm, sign_flip_p
from neurofm.schema.errors import DataError

ALPHA = 0.05
LOWER_IS_BETTER = ("mse", "mae", "cer", "wer", "false_alarms_per_hour", "median_rank")
# of these the first that a benchmark has is what it is ranked by
PREFERRED = ("balanced_accuracy", "auroc", "f1", "bits_per_spike", "top5", "top_5", "r2", "pearson", "accuracy")


@dataclass(frozen=True, kw_only=True)
class Board:
    """Models on one protocol of one benchmark, or over several.

    Attributes
    ----------
    title : str
    metric : str
    models : list of str
        Best mean rank first.
    values : array, shape (unit, model)
        One per fold or person, means over seeds; NaN where a model has none.
    units : list of str
    complete : array of bool, shape (unit,)
        Units that all models have: only they are ranked.
    ranks : array, shape (model,)
        Mean rank over complete units; NaN without one.
    friedman_p : float
        NaN with fewer than two complete units or models.
    critical_difference : float
        Of mean ranks at .05; NaN as above.
    pairs : list of (model, model, difference, p)
        Exact sign-flip tests over complete units, corrected by Holm.
    baselines : set of str
    """

    title: str
    metric: str
    models: list[str]
    values: NDArray[np.float64]
    units: list[str]
    complete: NDArray[np.bool_]
    ranks: NDArray[np.float64]
    friedman_p: float
    critical_difference: float
    pairs: list[tuple[str, str, float, float]]
    baselines: frozenset[str]
    protocol: str = ""


def find_results(patterns: str | Sequence[str]) -> list[Path]:
    """Files that the patterns name; a folder stands for its results.parquet.

    Raises
    ------
    DataError
        When a pattern names none.
    """
    found: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        hits = [Path(p) for p in sorted(glob(str(pattern), recursive=True))]
        hits = [p / "results.parquet" if p.is_dir() else p for p in hits]
        hits = [p for p in hits if p.name == "results.parquet" and p.exists()]
        if not hits:
            raise DataError(f"leaderboard: '{pattern}' names no results.parquet; give files, folders or patterns")
        found += hits
    return list(dict.fromkeys(found))


def standings_of(files: Sequence[Path], *, metric: str | None = None) -> tuple[list[Board], list[dict[str, Any]]]:
    """Boards, one per protocol and, where several share models, one over all; and the rows they are made of.

    Parameters
    ----------
    files : sequence of Path
    metric : str, optional
        Only this metric; default each benchmark's first of `PREFERRED`, or its first in alphabetical order.
    """
    rows = [r for f in files for r in scores_only(read_results(f.parent))]
    # one score may stand in several copies of a file
    rows = list({tuple(str(v) for k, v in r.items() if k != "looks"): r for r in rows}.values())
    rows = [r for r in rows if not r["control"] and r["fold"] != "all" and np.isfinite(r["value"])]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for r in rows:
        groups[r["benchmark"], r["dataset"], r["task"], _comparable(r)].append(r)
    boards, used = [], []
    for (benchmark, dataset, task, protocol), found in sorted(groups.items()):
        names = sorted({r["metric"] for r in found})
        chosen = metric or next((m for m in PREFERRED if m in names), names[0])
        mine = [r for r in found if r["metric"] == chosen]
        if not mine:
            continue
        used += mine
        title = ", ".join(dict.fromkeys(x for x in (benchmark, dataset, task) if x))
        boards.append(
            board(title, chosen, _by_unit(mine), frozenset(_label(r) for r in mine if r["baseline"]), protocol)
        )
    titles = [b.title for b in boards]
    # two splits of one benchmark must not look like one board twice
    boards = [
        replace(b, title=f"{b.title}, protocol {b.protocol[:8]}") if b.protocol and titles.count(b.title) > 1 else b
        for b in boards
    ]
    if not boards:
        asked = f" of metric '{metric}'" if metric else ""
        raise DataError(f"leaderboard: {len(files)} files hold no score{asked}")
    return [*_overall(boards), *boards], used


def _comparable(r: Mapping[str, Any]) -> str:
    """What rows must share to stand in one column; kinds that hash each person's test apart share their split's rule."""
    return str(r["protocol_hash"]) if r["fold"] else ""


def _label(r: Mapping[str, Any]) -> str:
    budget = f", {r['budget']:g} {r['budget_unit']}".rstrip() if np.isfinite(r["budget"]) else ""
    return f"{r['model']}{', ' + r['strategy'] if r['strategy'] else ''}{budget}"


def _by_unit(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Model → unit → mean over seeds; a later run of the same model, unit and seed replaces an earlier one."""
    last: dict[tuple[str, str, int], float] = {}
    for r in sorted(rows, key=lambda r: r["date"]):
        unit = r["fold"] or f"{r['subject']} {r['protocol_hash']}"
        last[_label(r), unit, r["seed"]] = r["value"]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (model, unit, _), value in last.items():
        found[model][unit].append(value)
    return {m: {u: float(np.mean(v)) for u, v in units.items()} for m, units in found.items()}


def board(
    title: str, metric: str, found: Mapping[str, Mapping[str, float]], baselines: frozenset[str], protocol: str = ""
) -> Board:
    """Rank models over the units that all of them have."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    models, units = list(found), sorted({u for v in found.values() for u in v})
    values = np.array([[found[m].get(u, np.nan) for m in models] for u in units])
    complete = np.isfinite(values).all(1)
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    n, k = int(complete.sum()), len(models)
    ranks = np.full(k, np.nan)
    friedman, critical = float("nan"), float("nan")
    if n:
        ranks = rankdata(sign * values[complete], axis=1).mean(0)
    if n > 1 and k > 1:
        critical = float(studentized_range.ppf(1 - ALPHA, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)))
        # two models: the sign-flip test of the pair says it; Friedman's statistic needs three
        same = np.ptp(values[complete], axis=1).max() == 0
        if k > 2 and not same:
            friedman = float(friedmanchisquare(*values[complete].T).pvalue)
    means = [float(np.nanmean(values[:, i])) for i in range(k)]
    order = sorted(range(k), key=lambda i: (np.nan_to_num(ranks[i], nan=np.inf), sign * means[i], models[i]))
    pairs, p = [], []
    if n > 1:
        for a, i in enumerate(order):
            for j in order[a + 1 :]:
                d = values[complete, i] - values[complete, j]
                pairs.append((models[i], models[j], float(d.mean())))
                p.append(sign_flip_p(d))
    corrected = holm(p) if p else np.empty(0)
    return Board(
        title=title, metric=metric, models=[models[i] for i in order], values=values[:, order], units=units,
        complete=complete, ranks=ranks[order], friedman_p=friedman, critical_difference=critical,
        pairs=[(*pair, float(q)) for pair, q in zip(pairs, corrected, strict=True)], baselines=baselines,
        protocol=protocol,
    )  # fmt: skip


def _overall(boards: Sequence[Board]) -> list[Board]:
    """Ranks over benchmarks, one unit each, of the models that all of them have; none with fewer than two of either.

    Metrics differ between benchmarks, so what is shown is each model's rank within a benchmark, turned to (k − rank) /
    (k − 1): 1 for the best of every unit, 0 for the worst.
    """
    shared = [m for m in boards[0].models if all(m in b.models for b in boards)]
    if len(boards) < 2 or len(shared) < 2:
        return []
    found: dict[str, dict[str, float]] = {m: {} for m in shared}
    for b in boards:
        index = [b.models.index(m) for m in shared]
        part = {m: dict(zip(b.units, b.values[:, i], strict=True)) for m, i in zip(shared, index, strict=True)}
        ranked = board(
            b.title, b.metric, {m: {u: v for u, v in d.items() if np.isfinite(v)} for m, d in part.items()}, frozenset()
        )
        for m, rank in zip(ranked.models, ranked.ranks, strict=True):
            if np.isfinite(rank):
                found[m][f"{b.title} {b.protocol}".strip()] = (len(shared) - rank) / (len(shared) - 1)
    return [board("all benchmarks", "share of models beaten", found, boards[0].baselines & frozenset(shared))]
