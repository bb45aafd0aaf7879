"""The benchmark of spiking populations: co-smoothing, forward prediction, decoding of behaviour, session by session.

Baselines are fitted on each session's training part. Models come as arms: folders in which `neurofm finetune` left
decoders. An arm's decoder brings its own calibration and test part, and the baselines it is compared with are fitted on
that very calibration; sessions (and not bins) are what intervals are over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurofm.benchmarks.adapted.decoders import Decoder, arms_of, audit_decoder, by_strategy, open_decoder
from neurofm.benchmarks.guards.audit import Finding, refuse_on_leak
from neurofm.benchmarks.population.arms import score_arm
from neurofm.benchmarks.population.bars import BARS, BY_NAME, answer
from neurofm.benchmarks.population.data import Reading, Session, calibration_of, make_session, session_name, sessions_of
from neurofm.benchmarks.population.metrics import bits_per_spike, psth_r, psth_r2, r2_uniform, r2_weighted
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.data.dataset import Dataset
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of

ORACLE = "oracle"
# no model is expected to score more here than the true rates do; averages of trials also hold what the trials shared
KNOWN_BY_ORACLE = ("co_bps", "fp_bps")
# protocol → its metrics, the first the one that claims are about
METRICS = {
    "co_smoothing": ("co_bps", "psth_r2", "psth_r", "psth_r_ceiling"), "forward": ("fp_bps",), "decoding": ("r2", "r2_uniform"),
}  # fmt: skip


@dataclass
class PopulationScores:
    """What an evaluation found.

    Attributes
    ----------
    rows : list of dict
        Rows of the results table.
    sessions : dict of (model, strategy, seconds of training) to dict of session to dict of metric to value
        Means over seeds are made later; the key's model is an arm's or a baseline's name.
    findings : list of Finding
    looks : dict of str to int
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    sessions: dict[tuple[str, str, float], dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)


def judge(protocol: str, session: Session, said: Sequence[np.ndarray], *, horizon_s: float = 0.2) -> dict[str, float]:
    """Score answers on the test trials of a session: expected counts, or behaviour.

    Parameters
    ----------
    protocol : str
        Of `METRICS`.
    session : Session
    said : sequence of array
        One per test trial, as `bars` gives them.
    horizon_s : float
        Of "forward".
    """
    if len(said) != len(session.test):
        raise DataError(f"session '{session.name}': {len(said)} answers for {len(session.test)} test trials")
    if protocol == "decoding":
        true = np.concatenate([t.behaviour for t in session.test if t.behaviour is not None])
        given = np.concatenate(said)
        return {"r2": r2_weighted(true, given), "r2_uniform": r2_uniform(true, given)}
    if protocol == "forward":
        n = round(horizon_s / session.bin_s)
        return {"fp_bps": bits_per_spike(np.concatenate(said), np.concatenate([t.counts[-n:] for t in session.test]))}
    found = [t.counts[:, session.held_out] for t in session.test]
    out = dict.fromkeys(METRICS[protocol], float("nan"))
    out["co_bps"] = bits_per_spike(np.concatenate(said), np.concatenate(found))
    conditions = [t.condition for t in session.test]
    # averages need conditions that come back
    if all(conditions) and len(set(conditions)) < len(conditions):
        sd_bins = 0.05 / session.bin_s
        out["psth_r2"] = psth_r2(said, found, conditions, sd_bins=sd_bins)
        out["psth_r"], out["psth_r_ceiling"] = psth_r(said, found, conditions, sd_bins=sd_bins)
    return out


def score_population(
    *,
    name: str,
    results: str,
    run_id: str,
    path: str = "",
    protocol: str = "co_smoothing",
    bin_s: float = 0.02,
    parts: Mapping[str, str] | None = None,
    test_fraction: float = 0.2,
    gap_s: float = 1.0,
    tasks: Sequence[str] | None = None,
    official: str = "",
    behaviour: str = "",
    lag_s: float = 0.0,
    mask: str = "",
    align: str = "",
    window_s: Sequence[float] | None = None,
    held_out: int = 0,
    horizon_s: float = 0.2,
    baselines: Sequence[str] | None = None,
    runs: str = "",
    arms: Mapping[str, Mapping[str, str]] | None = None,
    task: str = "",
    new_subject: bool = True,
    allow_leak: str = "",
    allow_import: bool = False,
    versions: str = "",
) -> Iterator[tuple[str, PopulationScores]]:
    """Score baselines on every session, and models where arms are given; yield a line each.

    Parameters
    ----------
    name, results, run_id, allow_leak, allow_import, versions
        As in `adapted.new_subject.score_new_subjects`.
    path : str
        A prepared dataset; with `runs` or `arms` their decoders name it.
    protocol : str
        "co_smoothing", "forward" or "decoding".
    bin_s, behaviour, lag_s, mask, align, window_s, held_out
        See `data.Reading`.
    parts, test_fraction, gap_s, tasks, official
        See `data.sessions_of`; with arms the decoders' own splits are used.
    horizon_s : float
        "forward": the last seconds of each trial.
    baselines : sequence of str, optional
        Of `bars.BARS`; default all but `BY_NAME`.
    runs : str
        Every decoder of `task` under this folder, named by its strategy.
    arms : mapping, optional
        Instead, for comparing models: name → ``{runs: folder, strategy: name}``.
    task : str
        Task of the arms' decoders.
    new_subject : bool
        Whether the arms' sessions are of people that pretraining must not have met; false where a model is trained and
        tested on parts of one session (their overlap in time is refused all the same).
    """
    if protocol not in METRICS:
        raise ConfigError(f"benchmark '{name}': protocol '{protocol}' is unknown: {nearest(protocol, METRICS)}")
    if window_s is not None and len(window_s) != 2:
        raise ConfigError(f"benchmark '{name}': window_s has {len(window_s)} numbers; expected start and stop")
    reading = Reading(
        bin_s=bin_s, behaviour=behaviour, lag_s=lag_s, mask=mask, align=align, held_out=held_out,
        window_s=None if window_s is None else (float(window_s[0]), float(window_s[1])),
    )  # fmt: skip
    bars = [b for b in BARS[protocol] if b not in BY_NAME] if baselines is None else list(baselines)
    for b in bars:
        if b not in BARS[protocol]:
            raise ConfigError(f"benchmark '{name}': {protocol} has no baseline '{b}': {nearest(b, BARS[protocol])}")
    if protocol == "decoding" and not behaviour:
        raise ConfigError(f"benchmark '{name}': protocol decoding needs behaviour, the name of the stream")
    about = _Scoring(
        name,
        results,
        run_id,
        protocol,
        reading,
        horizon_s,
        versions,
        allow_leak,
        bars,
        hash_of([protocol, vars(reading)]),
        new_subject,
    )
    if not (path or runs or arms):
        raise ConfigError(f"benchmark '{name}': give path (baselines alone), runs, or arms")
    if not (runs or arms):
        dataset = Dataset(path, bin_s=bin_s)
        for session in sessions_of(
            dataset,
            reading=reading,
            parts=parts,
            test_fraction=test_fraction,
            gap_s=gap_s,
            tasks=tasks,
            official=official,
        ):
            yield about.session(dataset, session), about.out
        return
    found = arms_of(name, arms, task=task) if arms else by_strategy(runs, task=task)
    for arm, folders in found.items():
        for folder in folders:
            yield about.decoder(arm, open_decoder(folder, allow_import=allow_import)), about.out


@dataclass
class _Scoring:
    """What the sessions of an evaluation share."""

    name: str
    results: str
    run_id: str
    protocol: str
    reading: Reading
    horizon_s: float
    versions: str
    allow_leak: str
    bars: list[str]
    protocol_hash: str
    new_subject: bool
    out: PopulationScores = field(default_factory=PopulationScores)
    done: set[tuple[str, float]] = field(default_factory=set)
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)

    def session(self, dataset: Dataset, session: Session) -> str:
        """Score the baselines of a session; return a line about the first."""
        if self.protocol == "co_smoothing" and not session.held_out.any():
            raise ConfigError(
                f"session '{session.name}': no unit is marked as held out; set held_out, the number of its last units to predict"
            )
        common = self._look(dataset, session)
        first = ""
        # what the truth itself scores is known before anything is held against it
        for bar in sorted(self.bars, key=lambda b: b != ORACLE):
            choices = {"horizon_s": self.horizon_s} if self.protocol == "forward" else {}
            scores = judge(
                self.protocol, session, answer(self.protocol, bar, session, **choices), horizon_s=self.horizon_s
            )
            shown = BARS[self.protocol][bar]
            self._keep(common, session, shown, "", -1, scores, baseline=True)
            if bar == ORACLE:
                self.ceilings[session.name] = {k: v for k, v in scores.items() if k in KNOWN_BY_ORACLE}
            else:
                first = first or f"{shown} {scores[METRICS[self.protocol][0]]:.3f}"
        return f"{session.name}  {session.budget_s:g} s  {first}"

    def decoder(self, arm: str, decoder: Decoder) -> str:
        """Score a decoder of an arm, and the baselines fitted on its calibration where that was not done yet."""
        dataset = decoder.corpus.dataset
        findings = audit_decoder(decoder, new_subject=self.new_subject, chronological=True)
        refuse_on_leak(findings, allow_leak=self.allow_leak)
        self.out.findings += [f for f in findings if f not in self.out.findings]
        lines = []
        for name in sorted({session_name(dataset, s.recording_id) for s in decoder.test}):
            test = [s for s in decoder.test if session_name(dataset, s.recording_id) == name]
            train = calibration_of(dataset, decoder.calibrated_on, test)
            session = make_session(dataset, name, train, test, reading=self.reading)
            if (name, session.budget_s) not in self.done:
                self.done.add((name, session.budget_s))
                lines.append(self.session(dataset, session))
            common = self._look(dataset, session)
            scores = score_arm(self.protocol, decoder, session, stream=self.reading.behaviour)
            origin = {"checkpoint_hash": decoder.loaded.card["weights"]["sha256"]}
            self._keep({**common, **origin}, session, arm, decoder.strategy, decoder.seed, scores, baseline=False)
            value = scores[METRICS[self.protocol][0]]
            lines.append(f"{name}  {session.budget_s:g} s  {arm}, {decoder.strategy} {value:.3f}")
        return "\n".join(lines)

    def _look(self, dataset: Dataset, session: Session) -> dict[str, Any]:
        common = {
            "run_id": self.run_id, "benchmark": self.name, "dataset": dataset.id, "task": self.protocol, "part": "test",
            "versions": self.versions, "leak_reason": self.allow_leak, "protocol_hash": self.protocol_hash,
            "test_hash": span_hash([t.span._asdict() for t in session.test]), "subject": session.name,
            "split_hash": hash_of([[list(t.span) for t in part] for part in (session.train, session.test)]),
        }  # fmt: skip
        if session.name not in self.out.looks:
            self.out.looks[session.name] = record_look(self.results, **common)
        return common

    def _keep(
        self, common: Mapping[str, Any], session: Session, model: str, strategy: str, seed: int,
        scores: Mapping[str, float], *, baseline: bool,
    ) -> None:  # fmt: skip
        kept = self.out.sessions.setdefault((model, strategy, session.budget_s), {})
        kept.setdefault(session.name, []).append(dict(scores))
        rows = [
            {
                **common, "model": model, "strategy": strategy, "baseline": baseline, "seed": seed,
                "budget": session.budget_s, "budget_unit": "s", "metric": metric, "value": value, "n": len(session.test),
                "ceiling": self.ceilings.get(session.name, {}).get(metric, float("nan")),
            }
            for metric, value in scores.items()
        ]  # fmt: skip
        self.out.rows += append_results(self.results, rows)
