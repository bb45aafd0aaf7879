"""Claims and sections on spiking populations: scores over sessions, and what is ahead of what, paired over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurofm.benchmarks.population.scores import METRICS, PopulationScores
from neurofm.benchmarks.stats.curves import areas, compare
from neurofm.benchmarks.stats.intervals import paired_interval, t_interval
from neurofm.benchmarks.stats.scores import bounds_of
from neurofm.report.content import Claim, Section, Table, notes_of
from neurofm.report.figures_adaptation import adaptation_curve
from neurofm.schema.recording import slug

TITLES = {
    "co_bps": "co-smoothing, bits/spike", "psth_r2": "PSTH R²", "psth_r": "PSTH Pearson r",
    "psth_r_ceiling": "its noise ceiling", "fp_bps": "forward prediction, bits/spike",
    "r2": "R², weighted by variance", "r2_uniform": "R², mean over dimensions",
}  # fmt: skip


def per_session(scored: PopulationScores, key: tuple[str, str, float], metric: str) -> dict[str, float]:
    """Score of each session, averaged over seeds; sessions without a finite one are left out."""
    means = {s: float(np.mean([v.get(metric, np.nan) for v in found])) for s, found in scored.sessions[key].items()}
    return {s: m for s, m in sorted(means.items()) if np.isfinite(m)}


def claims_of(scored: PopulationScores, protocol: str, first: Sequence[str], title: str) -> list[Claim]:
    """Whether each arm of `first` is ahead of every baseline and of the other arms, at each budget, over sessions."""
    metric, claims = METRICS[protocol][0], []
    for key in sorted(k for k in scored.sessions if k[0] in first):
        ours = per_session(scored, key, metric)
        for other in sorted(k for k in scored.sessions if k[2] == key[2] and k != key):
            theirs = per_session(scored, other, metric)
            # an oracle is a ceiling, not a rival; of two arms the first named is claimed for
            if other[0].startswith("oracle") or (
                other[0] in first and list(first).index(other[0]) < list(first).index(key[0])
            ):
                continue
            shared = [s for s in ours if s in theirs]
            text = f"{title}: {key[0]} is ahead of {other[0]} at {key[2]:g} s ({TITLES[metric]})."
            if len(shared) < 2:
                claims.append(Claim(text=text, held=None, detail=f"{len(shared)} sessions were scored by both."))
                continue
            gain = paired_interval([ours[s] for s in shared], [theirs[s] for s in shared])
            detail = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] over {gain.n} sessions, sign-flip p = {gain.p:.3g}."
            claims.append(Claim(text=text, held=gain.low > 0, detail=detail))
    return claims + _area_claims(areas_of(scored, metric), first, title, metric)


def curves_of(scored: PopulationScores, metric: str) -> dict[str, dict[str, dict[float, float]]]:
    """Series → session → seconds of training → score."""
    curves: dict[str, dict[str, dict[float, float]]] = {}
    for key in scored.sessions:
        for session, value in per_session(scored, key, metric).items():
            curves.setdefault(_name(key), {}).setdefault(session, {})[key[2]] = value
    return curves


def areas_of(scored: PopulationScores, metric: str) -> dict[str, dict[str, float]]:
    """Area under score against log training length, by series and session; empty where there is one length only.

    A session counts where a series has all lengths of it.
    """
    curves = curves_of(scored, metric)
    lengths = {key[2] for key in scored.sessions}
    if len(lengths) < 2:
        return {}
    whole = {n: {s: c for s, c in by.items() if set(c) == lengths} for n, by in curves.items()}
    return areas({n: by for n, by in whole.items() if by})


def _area_claims(found: dict[str, dict[str, float]], first: Sequence[str], title: str, metric: str) -> list[Claim]:
    claims, arms = [], {n: next((f for f in first if n.startswith(f"{f}, ")), "") for n in found}
    for name in sorted(n for n in found if arms[n]):
        for other in sorted(n for n in found if n != name):
            later = arms[other] and first.index(arms[other]) < first.index(arms[name])
            if other.startswith("oracle") or later or set(found[other]) != set(found[name]) or len(found[name]) < 2:
                continue
            gain = compare({name: found[name], other: found[other]}, name)[other]
            text = f"{title}: {name} has the larger area over training lengths than {other} ({TITLES[metric]})."
            detail = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] over {gain.n} sessions, sign-flip p = {gain.p:.3g}."
            claims.append(Claim(text=text, held=gain.low > 0, detail=detail))
    return claims


def _name(key: tuple[str, str, float]) -> str:
    return f"{key[0]}, {key[1]}" if key[1] not in ("", key[0]) else key[0]


def section_of(scored: PopulationScores, protocol: str, title: str) -> Section:
    """One line per model and length of the training part."""
    rows: list[Sequence[Any]] = []
    for key in sorted(scored.sessions, key=lambda k: (k[2], k[0], k[1])):
        cells: list[Any] = []
        for metric in METRICS[protocol]:
            values = list(per_session(scored, key, metric).values())
            if not values:
                cells += [float("nan"), ""]
                continue
            found = t_interval(values, bounds=bounds_of(metric))
            cells += [found.value, f"[{found.low:.3f}, {found.high:.3f}]" if len(values) > 1 else ""]
        rows.append([_name(key), f"{key[2]:g}", len(scored.sessions[key]), *cells])
    columns = ["model", "training, s", "sessions"]
    for metric in METRICS[protocol]:
        columns += [TITLES[metric], "95 % interval"]
    metric, lengths = METRICS[protocol][0], {key[2] for key in scored.sessions}
    drawings = []
    if len(lengths) > 1:
        curve = adaptation_curve(
            curves_of(scored, metric),
            name=f"curve-{slug(title)}",
            metric=TITLES[metric],
            budget_unit="seconds of training",
            bounds=bounds_of(metric),
        )
        drawings = [(curve, "Mean over sessions with its t interval, and each session.")]
    return Section(
        title=title,
        drawings=drawings,
        lead="Means over sessions with Student's t interval, cut at the metric's bounds. Bits per spike are gained over each unit's mean rate in what is "
        "scored (Neural Latents Benchmark '21).",
        tables=[Table(caption=title, columns=columns, rows=rows), *_area_table(areas_of(scored, metric))],
        notes=notes_of(scored.findings),
    )


def _area_table(found: dict[str, dict[str, float]]) -> list[Table]:
    if not found:
        return []
    rows = []
    for name, by in sorted(found.items()):
        mean = t_interval(list(by.values()))
        rows.append([name, len(by), mean.value, f"[{mean.low:.3f}, {mean.high:.3f}]" if len(by) > 1 else ""])
    caption = "Area under the score against the logarithm of the training length, divided by its width"
    return [Table(caption=caption, columns=["model", "sessions", "area", "95 % interval"], rows=rows)]
