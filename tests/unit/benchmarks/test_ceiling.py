"""Ceilings that simulations know: the closed form behind the stated figure, and that passing one is caught."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from scipy.linalg import toeplitz
from scipy.signal import lfilter
from scipy.stats import norm

from data_prep.sources.simulated import RESPONSE_S, Simulated, class_patterns, subject_mixing
from neurofm.benchmarks.population.metrics import psth_r
from neurofm.benchmarks.results import row
from neurofm.cli.conf import conf_dir
from neurofm.report import ceiling


def bayes_accuracy(choices: dict, subject: int) -> float:
    """Two classes of equal covariance: Φ(d / 2) with d² = Δᵀ Σ⁻¹ Δ, in the space of sources."""
    n, k = round(choices["rate_hz"]), choices["n_sources"]
    mixing = subject_mixing(choices, subject)
    covariance = np.kron(choices["noise"] ** 2 * np.linalg.inv(mixing @ mixing.T), np.eye(n))
    for i, cycles in enumerate(np.linspace(0.05, 0.2, k)):
        answer = lfilter([1.0], [1.0, -2 * 0.97 * np.cos(2 * np.pi * cycles), 0.97**2], np.r_[1.0, np.zeros(3000)])
        lags = np.array([answer[: len(answer) - lag] @ answer[lag:] for lag in range(n)])
        covariance[i * n : (i + 1) * n, i * n : (i + 1) * n] += toeplitz(lags / lags[0])
    time_s = np.arange(n) / choices["rate_hz"]
    shape = np.where((time_s >= 0.3) & (time_s < 0.3 + RESPONSE_S), np.sin(np.pi * (time_s - 0.3) / RESPONSE_S), 0)
    patterns = class_patterns(choices)
    delta = choices["effect"] * np.kron(patterns[0] - patterns[1], shape)
    return float(norm.cdf(np.sqrt(delta @ np.linalg.solve(covariance, delta)) / 2))


def test_stated_ceiling_of_simulated_trials_is_the_closed_form():
    def read(path):
        return yaml.safe_load((conf_dir() / path).read_text())

    made = {k: v for k, v in read("dataset/simulated.yaml")["source"].items() if k != "name"}
    choices = Simulated(**made).choices
    people = [bayes_accuracy(choices, s) for s in range(1, choices["n_subjects"] + 1)]
    stated = [p["ceiling"]["balanced_accuracy"] for p in read("benchmark/sim_trials.yaml")["parts"] if "ceiling" in p]
    assert stated == [pytest.approx(np.mean(people), abs=1e-4)] * 2


def rows(values, ceilings=0.8, **about):
    ceilings = np.broadcast_to(ceilings, len(values))
    return [
        row(subject=str(i), metric="accuracy", value=float(v), ceiling=float(c), **{"model": "m", **about})
        for i, (v, c) in enumerate(zip(values, ceilings, strict=True))
    ]


def test_a_model_above_what_is_possible_is_caught():
    rng = np.random.default_rng(0)
    below = rows(0.78 + 0.05 * rng.normal(size=8))
    (claim,) = ceiling.claims_of(below, "sim")
    assert claim.held
    assert "0.800" in claim.detail
    knows = rows(0.9 + 0.01 * rng.normal(size=8), model="knows the answers")
    (claim,) = ceiling.claims_of([*below, *knows], "sim")
    assert claim.held is False
    assert claim.detail.startswith("Above it: knows the answers.")
    table = ceiling.section_of([*below, *knows], "sim")[0].tables[0]
    assert {r[0]: r[-1] for r in table.rows} == {"m": "no", "knows the answers": "yes"}
    far = rows(np.full(8, 0.3) + 0.01 * rng.normal(size=8))
    assert "not approached" in ceiling.claims_of(far, "sim")[0].detail


def test_one_score_is_judged_by_its_own_interval_and_rows_without_a_ceiling_by_nothing():
    one = rows([0.9])
    assert ceiling.claims_of(one, "sim")[0].held  # without an interval nothing can be said against it
    assert ceiling.claims_of([{**one[0], "low": 0.7}], "sim")[0].held
    assert ceiling.claims_of([{**one[0], "low": 0.85}], "sim")[0].held is False
    assert ceiling.claims_of(rows([0.9, 0.9], float("nan")), "sim") == []
    assert ceiling.section_of(rows([0.9, 0.9], float("nan")), "sim") == []


def test_noise_ceiling_of_a_trial_average():
    rng = np.random.default_rng(0)
    n_bins, n_trials = 40, 30
    rates = {c: np.exp(rng.normal(size=(n_bins, 6))) for c in "ab"}
    conditions = list("ab") * n_trials
    counts = [rng.poisson(rates[c]).astype(float) for c in conditions]
    r, limit = psth_r([rates[c] for c in conditions], counts, conditions)
    # the truth reaches its ceiling, and so is neither at 1 nor far below
    assert r == pytest.approx(limit, abs=0.02)
    assert 0.8 < limit < 1
    noise, same = psth_r([rng.random((n_bins, 6)) for _ in conditions], counts, conditions)
    assert abs(noise) < 0.2
    assert same == limit
    assert np.isnan(psth_r(counts[:2], counts[:2], ["a", "b"])).all()
