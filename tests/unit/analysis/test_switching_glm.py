"""States of a switching GLM: inference against enumeration, fits against the simulation's truth."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from scipy.stats import poisson

from data_prep.sources import SOURCES, sim_switching
from neurofm.analysis.switching_fit import SwitchingGlm, fit_switching_glm, sign_auroc
from neurofm.analysis.switching_glm import (
    align_states,
    filtered,
    forward_backward,
    log_likelihoods,
    most_likely_states,
    posterior_states,
    viterbi,
)
from neurofm.schema.errors import ConfigError, DataError


def chain(seed=0, n_states=3, n_bins=6):
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(n_states), n_states)
    return rng.standard_normal((2, n_bins, n_states)) * 3, transition


def paths_of(like, transition):
    """Log-probability of every sequence of states."""
    n_bins, n_states = like.shape
    out = {}
    for path in product(range(n_states), repeat=n_bins):
        value = -np.log(n_states) + sum(like[t, s] for t, s in enumerate(path))
        out[path] = value + sum(np.log(transition[a, b]) for a, b in pairwise(path))
    return out


def test_forward_backward_is_enumeration():
    like, transition = chain()
    posterior, pairs, total = forward_backward(like, transition)
    expected_pairs, expected_total = np.zeros((3, 3)), 0.0
    for trial in range(2):
        paths = paths_of(like[trial], transition)
        values = np.array(list(paths.values()))
        evidence = np.logaddexp.reduce(values)
        expected_total += evidence
        marginal = np.zeros((6, 3))
        for path, value in paths.items():
            p = np.exp(value - evidence)
            marginal[range(6), path] += p
            np.add.at(expected_pairs, (path[:-1], path[1:]), p)
        np.testing.assert_allclose(posterior[trial], marginal, atol=1e-12)
    np.testing.assert_allclose(pairs, expected_pairs, atol=1e-12)
    assert total == pytest.approx(expected_total)


def test_viterbi_is_enumeration():
    like, transition = chain(seed=3)
    for trial, path in enumerate(viterbi(like, transition)):
        paths = paths_of(like[trial], transition)
        assert tuple(path) == max(paths, key=paths.get)


def test_likelihood_is_that_of_the_counts():
    rng = np.random.default_rng(0)
    counts, basis = rng.poisson(0.5, (2, 8, 3)), np.array([0.7, 0.3])
    bias, weights = rng.standard_normal(3), rng.standard_normal((2, 3, 3))
    found = log_likelihoods(counts, bias=bias, weights=weights, basis=basis)
    past = filtered(counts, basis)
    np.testing.assert_allclose(past[0, 5], 0.7 * counts[0, 4] + 0.3 * counts[0, 3])
    for s in range(2):
        rate = 1 / (1 + np.exp(-(bias + past @ weights[s].T)))
        constant = poisson.logpmf(counts, 1).sum(-1) + 3
        np.testing.assert_allclose(found[..., s] + constant, poisson.logpmf(counts, rate).sum(-1))


def test_states_are_aligned():
    true = np.array([0, 0, 1, 1, 2, 2])
    order, accuracy = align_states(true, np.array([2, 2, 0, 0, 1, 0]), n_states=3)
    assert order.tolist() == [2, 0, 1]
    assert accuracy == pytest.approx(5 / 6)


def test_true_parameters_tell_the_states():
    choices = {**SOURCES.build("sim_switching").choices, "n_trials": 10}
    made, truth = sim_switching.run(choices), sim_switching.parameters(choices)
    known = dict(
        bias=truth["bias"], weights=truth["weights"], transition=truth["transition"], basis=sim_switching.basis()
    )
    posterior = posterior_states(made["counts"], **known)
    assert (posterior.argmax(-1) == made["state"]).mean() == pytest.approx(0.978, abs=0.004)
    assert (most_likely_states(made["counts"], **known) == made["state"]).mean() > 0.97


@pytest.fixture(scope="module")
def small():
    # strong couplings, so that a few seconds are enough
    choices = SOURCES.build("sim_switching", n_states=2, n_units=10, n_trials=12, n_bins=800).choices
    return choices, sim_switching.run(choices), sim_switching.parameters(choices)


@pytest.mark.parametrize("prior", ["none", "gaussian", "one_hot"])
def test_fit_finds_states_and_signs(small, prior):
    _, made, truth = small
    fit = fit_switching_glm(made["counts"][:8], n_states=2, basis=sim_switching.basis(), prior=prior, n_rounds=10)
    order, accuracy = align_states(made["state"][8:], fit.posterior(made["counts"][8:]).argmax(-1), n_states=2)
    assert accuracy > 0.9
    assert sign_auroc(fit.weights[order], truth["adjacency"]) > 0.85
    assert sign_auroc(-fit.weights[order], truth["adjacency"]) < 0.15
    np.testing.assert_allclose(fit.transition.sum(1), 1)


def test_likelihood_never_falls_without_a_prior(small):
    _, made, _ = small
    fit = fit_switching_glm(made["counts"][:4], n_states=2, basis=sim_switching.basis(), prior="none", n_rounds=8)
    assert (np.diff(fit.history) > -1e-2).all()


def test_one_strength_for_all_states(small):
    """Where both states have a pair for certain, it has one size in both."""
    _, made, _ = small
    fit = fit_switching_glm(made["counts"][:4], n_states=2, basis=sim_switching.basis(), prior="one_hot", n_rounds=4)
    strongest = np.abs(fit.weights).max(0)
    assert np.isfinite(strongest).all()
    again = fit_switching_glm(made["counts"][:4], n_states=2, basis=sim_switching.basis(), prior="one_hot", n_rounds=4)
    np.testing.assert_array_equal(fit.weights, again.weights)
    assert isinstance(again, SwitchingGlm)


def test_bad_input():
    counts = np.random.default_rng(0).poisson(1, (2, 100, 3))
    with pytest.raises(ConfigError, match="one_hot"):
        fit_switching_glm(counts, n_states=2, basis=[1.0], prior="onehot")
    with pytest.raises(DataError, match="silent"):
        fit_switching_glm(counts * [1, 1, 0], n_states=2, basis=[1.0])
