"""The parts a benchmark is made of: each scores some decoders and says what belongs in the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.benchmarks.adapted.decoders import find_decoders, people_of
from neurofm.benchmarks.adapted.encoding_curves import score_encoding
from neurofm.benchmarks.adapted.new_subject import Scored, score_new_subjects
from neurofm.benchmarks.adapted.trial_curves import METRICS as TRIAL_METRICS
from neurofm.benchmarks.adapted.trial_curves import score_trial_curves
from neurofm.benchmarks.adapted.trials import TrialScores, score_trials
from neurofm.benchmarks.decoding.task import score_decoding
from neurofm.benchmarks.detection.seizure import METRICS, SeizureScores, score_seizures
from neurofm.benchmarks.population.scores import score_population
from neurofm.benchmarks.public_splits import refuse_other_splits, split_rule
from neurofm.benchmarks.retrieval.scores import find_retrievers, score_retrieval
from neurofm.cli.evaluate_fitted import decoding, neuroprobe
from neurofm.cli.part import Part, last_of
from neurofm.data.dataset import Dataset
from neurofm.data.splits.files import rule_hash
from neurofm.report import families as family_page
from neurofm.report import new_subject, population, retrieval, seizure, trial_curves, trials
from neurofm.report.content import Section
from neurofm.report.figures_signals import dataset_overview, training_curves
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.words import counted
from neurofm.training.loggers import read_metrics


def regions(
    *, strategy: str = "full", protocol: str = "masked_region", note: str = "", ceiling: tuple[float, str] | None = None,
    **choices: Any,
) -> Part:  # fmt: skip
    """Score new subjects on region time series; `note` and `ceiling` (value, name) go into the report."""
    scored = last_of(score_new_subjects(protocol=protocol, **choices))
    dataset = next(iter(scored.datasets.values()))
    return Part(
        claims=new_subject.claims_of(scored, protocol, strategy),
        sections=[new_subject.section_of(scored, protocol, strategy, note=note, ceiling=ceiling)],
        rows=scored.rows,
        looks={f"{dataset.id}, {protocol}, last volumes of {s}": n for s, n in scored.looks.items()},
        facts={
            f"{dataset.id} content": dataset.manifest.content_hash,
            f"{dataset.id} licence": dataset.manifest.licence,
        },
    )


def labelled_trials(
    *, tasks: Sequence[str], controls: Sequence[str] = (), titles: dict[str, str] | None = None, strategy: str = "full",
    event_s: dict[str, float] | None = None, controls_note: str = "", split: str | None = None, **choices: Any,
) -> Part:  # fmt: skip
    """Score labelled trials, of each person whose decoders are there, and negative controls beside them."""
    part = Part()
    if split:
        for task in tasks:
            part.facts |= _held_to(split, find_decoders(choices["runs"], task=task, dataset=choices.get("dataset")))
    judged: list[TrialScores] = []
    for task in [*tasks, *controls]:
        found = _each_person(task, choices | {"event_s": (event_s or {}).get(task), "is_control": task in controls})
        title = (titles or {}).get(task, task)
        for scored in found:
            part.rows += scored.rows
            whose = f" of {scored.subject}" if len(found) > 1 else ""
            part.looks[f"official test trials of {task}{whose}"] = scored.looks
        if task in controls:
            part.claims += [trials.control_claim(scored) for scored in found]
            judged += found
        elif len(found) > 1:
            part.claims += trials.claims_over_people(found, strategy, title)
            part.sections.append(trials.people_section(found, title))
        else:
            scored = found[0]
            part.claims += trials.claims_of(scored, strategy, title)
            part.sections.append(trials.section_of(scored, strategy, title))
    if judged:
        part.sections.append(
            Section(
                title="Negative controls",
                lead=f"{controls_note} A score beyond chance at exact binomial p < .001 means a leak.".strip(),
                tables=[trials.table_of(judged)],
            )
        )
    return part


def _each_person(task: str, choices: dict[str, Any]) -> list[TrialScores]:
    """Score the decoders of a task, each person's by themselves."""
    folders = find_decoders(choices["runs"], task=task, dataset=choices.get("dataset"))
    people = [choices["subject"]] if choices.get("subject") else list(people_of(folders))
    found = []
    for person in people if len(people) > 1 else [choices.get("subject", "")]:
        scored = last_of(score_trials(task=task, **{**choices, "subject": person}), whose=person)
        found.append(scored)
    return found


def families(
    *, families: dict[str, str], regions: dict[str, Any] | None = None, trials: dict[str, Any] | None = None,
    strategy: str = "full", title: str = "Families and strategies", note: str = "", **common: Any,
) -> Part:  # fmt: skip
    """Score several families of decoders, each a folder with all its strategies, on the same new people and trials.

    `regions` and `trials` are the choices of these kinds; either may be left out.
    """
    protocol = (regions or {}).get("protocol", "masked_region")
    of_regions: dict[str, Scored] = {}
    of_trials: dict[str, TrialScores] = {}
    part = Part()
    for family, runs in families.items():
        if regions is not None:
            scored = last_of(score_new_subjects(**common, **regions, runs=runs, transductive_bars=False), whose=family)
            of_regions[family] = scored
            part.rows += scored.rows
            dataset = next(iter(scored.datasets.values()))
            part.looks |= {f"{dataset.id}, {protocol}, last volumes of {s}": n for s, n in scored.looks.items()}
        if trials is not None:
            judged = last_of(score_trials(**common, **trials, runs=runs), whose=family)
            of_trials[family] = judged
            part.rows += judged.rows
            part.looks[f"official test trials of {judged.task}"] = judged.looks
    part.claims = family_page.claims_of(of_regions, of_trials, protocol, strategy)
    part.sections = [family_page.section_of(of_regions, of_trials, protocol, title, note=note)]
    return part


def seizures(
    *, title: str = "Seizure detection", strategy: str = "full", split: str | None = None, **choices: Any
) -> Part:
    """Score detectors of seizures on people they were not trained on, or after calibration on each."""
    task = choices.get("task", "seizure")
    facts = _held_to(split, find_decoders(choices["runs"], task=task, dataset=choices.get("dataset"))) if split else {}
    scored = _seizures(choices)
    return Part(
        claims=seizure.claims_of(scored, strategy),
        sections=[seizure.section_of(scored, title)],
        rows=scored.rows,
        looks={f"seizures, test of {who}": n for who, n in scored.looks.items()},
        facts=facts,
    )


def _held_to(split: str, folders: Sequence[Path]) -> dict[str, str]:
    """Hold trained models to the benchmark's split; return what the report's foot says of it."""
    return {f"split {split}": refuse_other_splits(split, folders)}


def adaptation(
    *, arms: dict[str, dict[str, str]], metric: str = "f1", title: str = "Adaptation to new people", **choices: Any
) -> Part:
    """Compare models by the area under their adaptation curves: the first of `arms` (name → runs, strategy) with each."""
    if metric not in METRICS:
        raise ConfigError(f"benchmark '{choices['name']}': metric '{metric}' is unknown: {nearest(metric, METRICS)}")
    part, curves = Part(), {}
    scored: dict[str, SeizureScores] = {}
    for name, arm in arms.items():
        if set(arm) != {"runs", "strategy"}:
            raise ConfigError(
                f"benchmark '{choices['name']}': arm '{name}' has {sorted(arm)}; expected runs and strategy"
            )
        if arm["runs"] not in scored:
            scored[arm["runs"]] = found = _seizures({**choices, "runs": arm["runs"]})
            part.sections.append(seizure.section_of(found, f"{title}: {arm['runs']}"))
            part.rows += found.rows
            part.looks |= {f"seizures, test of {who}": n for who, n in found.looks.items()}
        curves[name] = seizure.curves_of(scored[arm["runs"]], arm["strategy"], metric)
        if not curves[name]:
            raise ConfigError(f"{arm['runs']}: holds no decoder of strategy '{arm['strategy']}' for arm '{name}'")
    part.claims, section = seizure.adaptation_section(curves, next(iter(arms)), metric, title)
    part.sections.insert(0, section)
    return part


def curves(
    *, strategy: str = "full", metric: str = "balanced_accuracy", title: str = "Which strategy at which budget",
    judged_by: str = "area", note: str = "", pairs: Sequence[Sequence[str]] = (), **choices: Any,
) -> Part:  # fmt: skip
    """Draw adaptation curves on labelled trials, beside classical baselines on the same calibration.

    Of every strategy found under `runs`, or of the models named as `arms`, the first of which is compared with each;
    `pairs` of others are compared in a table.
    """
    if metric not in TRIAL_METRICS:
        raise ConfigError(
            f"benchmark '{choices['name']}': metric '{metric}' is unknown: {nearest(metric, TRIAL_METRICS)}"
        )
    first = next(iter(choices.get("arms") or ()), strategy)
    found = last_of(score_trial_curves(**choices))
    return Part(
        claims=trial_curves.claims_of(found, first, metric, title, judged_by),
        sections=[trial_curves.section_of(found, first, metric, title, note, pairs)],
        rows=found.rows,
        looks={f"{choices['task']}, test trials of {who}": n for who, n in found.looks.items()},
    )


def encoding(
    *, strategy: str = "in_context", title: str = "Responses to new stimuli", note: str = "", **choices: Any
) -> Part:
    """Draw how well responses to new stimuli are predicted, against the number of a new person's trials."""
    found = last_of(score_encoding(**choices))
    return Part(
        claims=trial_curves.claims_of(found, strategy, "r", title),
        sections=[trial_curves.section_of(found, strategy, "r", title, note)],
        rows=found.rows,
        looks={f"{choices['task']}, test trials of {who}": n for who, n in found.looks.items()},
    )


def _seizures(choices: dict[str, Any]) -> SeizureScores:
    scored = last_of(score_seizures(**choices))
    return scored


def found_stimuli(
    *, title: str = "Retrieval", files: str | None = None, split: str | None = None, **choices: Any
) -> Part:
    """Score which of a gallery's stimuli was shown or heard; `files` is the folder of the pictures for panels."""
    where = {"task": choices["task"], "dataset": choices.get("dataset")}
    facts = _held_to(split, find_retrievers(choices["runs"], **where)) if split else {}
    scored = last_of(score_retrieval(**choices))
    return Part(
        claims=retrieval.claims_of(scored, title),
        sections=[retrieval.section_of(scored, title, files=files)],
        rows=scored.rows,
        looks={f"retrieval, test part of {scored.task}": scored.looks},
        facts=facts,
    )


def populations(
    *, title: str = "Spiking populations", protocol: str = "co_smoothing", strategy: str = "full", split: str | None = None,
    **choices: Any,
) -> Part:  # fmt: skip
    """Score baselines, and models given as `runs` or `arms` (name → runs, strategy), on sessions of populations.

    `split` is the name of one of `benchmarks/splits`, of official parts, in the place of `parts`.
    """
    facts = {}
    if split is not None:
        rule = split_rule(split)
        if choices.get("parts"):
            raise ConfigError(f"benchmark '{choices['name']}': split '{split}' says the parts; leave `parts` out")
        choices["parts"] = {p: one for p, where in rule["parts"].items() for one in where["part"][:1]}
        facts = {f"split {split}": rule_hash(rule)}
    scored = last_of(score_population(protocol=protocol, **choices))
    return Part(
        claims=population.claims_of(scored, protocol, list(choices.get("arms") or [strategy]), title),
        sections=[population.section_of(scored, protocol, title)],
        rows=scored.rows,
        looks={f"{title}, test of {who}": n for who, n in scored.looks.items()},
        facts=facts,
    )


def corpus(*, path: str, title: str, n_channels: int = 6, seconds: float = 120.0, **_: Any) -> Part:
    """Show what the data are: who, how long, traces, spectra, what was rejected."""
    from scipy.signal import welch

    dataset = Dataset(path)
    minutes: dict[str, float] = {}
    for row in dataset.recordings.values():
        minutes[row["subject"]] = minutes.get(row["subject"], 0.0) + row["duration_s"] / 60
    recording = sorted(dataset.recordings)[0]
    rate = dataset.rate_hz(recording)
    values = dataset.read_interval(recording, 0)[: round(seconds * rate), :n_channels].astype(np.float64)
    values = (values - values.mean(0)) / np.where(values.std(0) > 0, values.std(0), 1)
    spectra = {}
    for subject in dataset.subjects[:7]:
        x = dataset.read_interval(dataset.select(subject=subject)[0], 0).astype(np.float64)
        f, p = welch((x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1), fs=rate, nperseg=min(256, len(x)), axis=0)
        spectra[subject] = (f[1:], p.mean(1)[1:])
    names = [c["name"] for c in dataset.channels(recording)][:n_channels]
    drawing = dataset_overview(
        minutes=minutes,
        example=values,
        rate_hz=rate,
        channels=names,
        spectra=spectra,
        name=f"corpus-{dataset.id.replace('_', '-')}",
    )
    rejected = [f"Left out: {r['recording_id'] or r['source_file']}: {r['reason']}" for r in dataset.rejected]
    repaired: dict[tuple[str, str], list[str]] = {}
    for r in sorted(dataset.recordings):
        for c in dataset.channels(r, True):
            if c["reason"]:
                repaired.setdefault((r, c["reason"]), []).append(c["name"])
    notes = [
        *rejected,
        *(f"Repaired or flagged in {r}: {', '.join(names)}: {why}" for (r, why), names in [*repaired.items()][:12]),
    ]
    lead = (
        f"{counted(len(dataset.recordings), 'recording')} of {counted(len(dataset.subjects), 'subject')}, {sum(minutes.values()) / 60:.2f} h. Every "
        f"shard's size and index agreed with dataset.json, and every segment read with its checksum. "
        f"Largest error of storage: {dataset.manifest.round_trip_error:.1e} of a channel's range."
    )
    return Part(
        sections=[
            Section(
                title=title,
                lead=lead,
                drawings=[
                    (drawing, "Minutes per subject, first channels of the first recording, mean spectrum per subject.")
                ],
                notes=notes,
            )
        ]
    )


def training(*, runs: str, title: str = "Training", limit: int = 12, **_: Any) -> Part:
    """Show how losses went in the pretraining runs under a folder."""
    histories: dict[str, dict[str, Any]] = {"training loss": {}, "validation loss": {}}
    found = sorted(Path(runs).glob("**/metrics.csv"))
    for path in found[:limit]:
        rows = read_metrics(path)
        run = str(path.parent.relative_to(runs))
        for quantity, column in (("training loss", "train/loss"), ("validation loss", "val/loss")):
            points = [(r["step"], r[column]) for r in rows if column in r]
            if points:
                histories[quantity][run] = tuple(zip(*points, strict=True))
    histories = {k: v for k, v in histories.items() if v}
    if not histories:
        return Part()
    slug = title.lower().replace(" ", "-")
    drawing = training_curves(histories, name=slug)
    return Part(
        sections=[
            Section(
                title=title,
                drawings=[(drawing, f"One line per pretraining run, {min(limit, len(found))} of {len(found)}.")],
            )
        ]
    )


PARTS: dict[str, Callable[..., Part]] = {
    "regions": regions,
    "trials": labelled_trials,
    "families": families,
    "seizures": seizures,
    "retrieval": found_stimuli,
    "adaptation": adaptation,
    "curves": curves,
    "encoding": encoding,
    "population": populations,
    "corpus": corpus,
    "training": training,
    "decoding": decoding,
    "neuroprobe": neuroprobe,
}
# what a part hands on to, whose arguments may be chosen in a benchmark's YAML as well
_SCORERS: dict[str, Callable[..., Any]] = {
    "regions": score_new_subjects, "trials": score_trials, "seizures": score_seizures, "adaptation": score_seizures,
    "curves": score_trial_curves, "encoding": score_encoding,
    "retrieval": score_retrieval, "population": score_population, "decoding": score_decoding, "neuroprobe": score_decoding,
}  # fmt: skip
_NOT_CHOSEN = {
    "name",
    "results",
    "run_id",
    "versions",
    "allow_leak",
    "allow_import",
    "task",
    "event_s",
    "is_control",
    "protocol",
}


def keys_of(kind: str) -> list[str]:
    """Return the keys that a part of this kind may have in a benchmark's YAML."""
    own = [p.name for p in signature(PARTS[kind]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    scorer = [p for p in signature(_SCORERS[kind]).parameters if p not in _NOT_CHOSEN] if kind in _SCORERS else []
    return [*own, *scorer, *(["task"] if kind not in ("trials", "families", "corpus", "training") else [])]
