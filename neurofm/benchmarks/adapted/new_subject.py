"""The benchmark of a new subject on region time series: every decoder found, beside the classical bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from neurofm.benchmarks.adapted.bars import FoldBars
from neurofm.benchmarks.adapted.decoders import (
    Decoder,
    RegionPredictor,
    audit_decoder,
    find_decoders,
    open_decoder,
    refuse_mixtures,
)
from neurofm.benchmarks.adapted.protocols import (
    TraceScores,
    every_third_region,
    masked_region_scores,
    next_volume_scores,
)
from neurofm.benchmarks.guards.audit import Finding, refuse_on_leak
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of

# protocol → the objective whose predictions it asks for
PROTOCOLS = {"masked_region": "masked_region", "next_volume": "next_state"}
MODEL = "neurofm"
SKIP = "closed form alone"


@dataclass
class Scored:
    """What an evaluation found.

    Attributes
    ----------
    rows : list of dict
        Rows of the results table, as written.
    traces : dict of (subject, budget, model, strategy, seed) to TraceScores
        Predicted against true, for figures.
    findings : list of Finding
        Of the leakage audit.
    looks : dict of str to int
        Subject → runs that have looked at its test part.
    datasets : dict of str to Dataset
        Those that were scored on.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    traces: dict[tuple[str, int, str, str, int], TraceScores] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)


def score_new_subjects(
    *,
    name: str,
    runs: str,
    results: str,
    run_id: str,
    protocol: str = "masked_region",
    task: str = "masked_region",
    dataset: str | None = None,
    margin: int = 2,
    context: int = 8,
    allow_leak: str = "",
    allow_import: bool = False,
    transductive_bars: bool = True,
    versions: str = "",
) -> Iterator[tuple[str, Scored]]:
    """Score every decoder under `runs` and the bars of its person and budget; yield a line of progress each.

    Parameters
    ----------
    name : str
        Of the benchmark.
    runs : str
        Folder in which `neurofm finetune` left decoders.
    results : str
        Folder of results.parquet; every look is recorded there before scoring.
    run_id : str
        Of this evaluation.
    protocol : str
        "masked_region" or "next_volume".
    task, dataset : str
        Only decoders of this task and dataset.
    margin : int
        Masked regions: samples at each end of a window whose estimate is not used where a neighbour has a better one.
    context : int
        Next volume: volumes of history.
    allow_leak : str
        Reason for scoring in spite of a leak; printed in the report.
    allow_import : bool
        Whether a decoder's card may name classes of your own by import path.
    transductive_bars : bool
        Whether to add the ridge with whole-run normalisation, labelled so.
    versions : str
        For the results table.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"benchmark '{name}': unknown protocol '{protocol}': {nearest(protocol, PROTOCOLS)}")
    scored = Scored()
    bars: dict[str, FoldBars] = {}
    done: set[tuple[str, int]] = set()
    found = find_decoders(runs, task=task, dataset=dataset)
    # all of them before the first score, so that what is refused has not looked at anybody
    refuse_mixtures(found)
    for folder in found:
        decoder = open_decoder(folder, allow_import=allow_import)
        _require_objective(decoder, protocol)
        findings = audit_decoder(decoder, new_subject=True, chronological=True)
        refuse_on_leak(findings, allow_leak=allow_leak)
        scored.findings += [f for f in findings if f not in scored.findings]
    for folder in found:
        decoder = open_decoder(folder, allow_import=allow_import)
        corpus = decoder.corpus
        scored.datasets[corpus.dataset.id] = corpus.dataset
        common = _common(name, decoder, run_id, protocol, margin, context, versions, allow_leak)
        if decoder.subject not in scored.looks:
            scored.looks[decoder.subject] = record_look(results, **common)
        if decoder.subject not in bars:
            bars[decoder.subject] = _bars(decoder, context)
        rows = [
            _row(common, decoder, scores, model, scored)
            for model, scores in _answers(decoder, protocol, margin, context)
        ]
        if (decoder.subject, decoder.volumes) not in done:
            done.add((decoder.subject, decoder.volumes))
            rows += _bar_rows(common, bars[decoder.subject], decoder, protocol, transductive_bars, scored)
        scored.rows += append_results(results, rows)
        best = next(r for r in rows if r["model"] == MODEL)
        yield f"{decoder.subject}  {decoder.strategy:<8} {decoder.volumes:>4}  R² {best['value']:.3f}", scored


def _require_objective(decoder: Decoder, protocol: str) -> None:
    """Refuse a decoder that answers another question than the protocol's."""
    name = decoder.loaded.card["objective"]["name"]
    if name != PROTOCOLS[protocol]:
        raise ConfigError(
            f"{decoder.loaded.folder}: has objective '{name}', protocol '{protocol}' asks for '{PROTOCOLS[protocol]}'; "
            "train and adapt with that objective, or choose another benchmark"
        )


def _normalised_by(decoder: Decoder) -> str:
    transform = decoder.corpus.transform
    if transform.is_transductive:
        return "the whole run, test included"
    leaning = decoder.strategy != "scratch" and any(getattr(t, "prior_s", None) for t in transform.transforms)
    return f"its first {decoder.volumes} volumes" + (", leaning on the pattern of other people" if leaning else "")


def _common(
    name: str, decoder: Decoder, run_id: str, protocol: str, margin: int, context: int, versions: str, leak: str
) -> dict[str, Any]:
    card = decoder.loaded.card
    test = decoder.test
    return {
        "run_id": run_id, "benchmark": name, "dataset": decoder.corpus.dataset.id, "subject": decoder.subject,
        "task": protocol, "part": "test", "versions": versions, "leak_reason": leak,
        "test_hash": span_hash([s._asdict() for s in test]), "split_hash": card["provenance"]["split"]["hash"],
        "protocol_hash": hash_of([protocol, margin, context, [list(s) for s in test]]),
    }  # fmt: skip


def _answers(decoder: Decoder, protocol: str, margin: int, context: int) -> Iterator[tuple[str, TraceScores]]:
    test = _test_span(decoder)
    predictor = RegionPredictor(decoder, test.recording_id)
    values = decoder.corpus.values(test)
    has_skip = decoder.loaded.objective.has_closed_form
    if protocol == "masked_region":
        window = decoder.loaded.facts.window_samples
        yield MODEL, masked_region_scores(predictor.masked, values, window=window, margin=margin)
        if has_skip:
            yield SKIP, masked_region_scores(predictor.masked_by_skip, values)
        return
    # as the bars: every model is first scored on the volume after `context` volumes of the test span
    yield MODEL, next_volume_scores(predictor.next, values, context=context)
    if has_skip:
        yield SKIP, next_volume_scores(predictor.next_by_skip, values, context=context)


def _test_span(decoder: Decoder) -> Span:
    if len(decoder.test) != 1:
        raise DataError(
            f"{decoder.corpus.dataset.path}: the test part of subject '{decoder.subject}' is {len(decoder.test)} spans; "
            "this benchmark needs one unbroken span"
        )
    return decoder.test[0]


def _row(
    common: Mapping[str, Any], decoder: Decoder, scores: TraceScores, model: str, scored: Scored
) -> dict[str, Any]:
    scored.traces[decoder.subject, decoder.volumes, model, decoder.strategy, decoder.seed] = scores
    return {
        **common, "model": model, "strategy": decoder.strategy, "budget": float(decoder.volumes),
        "budget_unit": "volumes", "seed": decoder.seed, "metric": "r2", "value": scores.mean_r2,
        "n": len(scores.regions), "normalised_by": _normalised_by(decoder),
        "transductive": decoder.corpus.transform.is_transductive,
        "checkpoint_hash": decoder.loaded.card["weights"]["sha256"],
    }  # fmt: skip


def _bars(decoder: Decoder, context: int) -> FoldBars:
    """Prepare bars on the runs of everybody; the held-out person's is cut by `FoldBars` itself."""
    dataset = decoder.corpus.dataset
    test = _test_span(decoder)
    for subject in dataset.subjects:
        n = sum(len(dataset.valid(r)) for r in dataset.select(subject=subject))
        if n > 1:
            raise DataError(
                f"{dataset.path}: subject '{subject}' has {n} stretches of data, the classical bars need one unbroken "
                "run per person; prepare a dataset of one run each"
            )
    runs = {dataset.subject(r): dataset.read_interval(r, 0) for r in sorted(dataset.recordings)}
    rate, origin = dataset.rate_hz(test.recording_id), dataset.valid(test.recording_id)[0][0]
    first, last = (round((t - origin) * rate) for t in (test.start_s, test.stop_s))
    return FoldBars(
        runs, test=(first, last), targets=every_third_region(next(iter(runs.values())).shape[1]), context=context
    )


def _bar_rows(
    common: Mapping[str, Any], bars: FoldBars, decoder: Decoder, protocol: str, transductive_too: bool, scored: Scored
) -> list[dict[str, Any]]:
    rows = []
    for transductive in (False, True) if transductive_too else (False,):
        ask = bars.masked if protocol == "masked_region" else bars.next_volume
        for bar in ask(decoder.subject, decoder.volumes, transductive=transductive):
            if not transductive:
                scored.traces[decoder.subject, decoder.volumes, bar.model, "", -1] = bar.scores
            rows.append(
                {
                    **common, "model": bar.model, "budget": float(bar.budget), "budget_unit": "volumes", "metric": "r2",
                    "value": bar.scores.mean_r2, "n": len(bar.scores.regions), "baseline": True,
                    "transductive": bar.transductive, "normalised_by": bar.normalised_by,
                }
            )  # fmt: skip
    return rows
