"""Planted links are in the signal as stated, and nothing else is."""

import numpy as np
import pytest

from data_prep.sources import SOURCES
from data_prep.sources.sim_links import MICROVOLT, SimLinks, activity, make_network
from neurofm.schema.errors import ConfigError


def test_links_go_one_way_with_lags_and_number_as_asked():
    source = SOURCES.build("sim_links", n_channels=12, link_share=0.25, lag=(3, 5))
    for number in (1, 2, 3):
        network = make_network(source.choices, number)
        linked = network.weight != 0
        assert linked.sum() == round(0.25 * 12 * 11 / 2)
        assert not (linked & linked.T).any()
        assert not linked.diagonal().any()
        assert np.array_equal(linked, network.lag > 0)
        assert set(network.lag[linked]) <= {3, 4, 5}
        assert network.order == network.lag.max()
        # no power of the companion grows: the network is stable
        lags = network.matrices()
        x = np.ones((len(lags), 12))
        for _ in range(3000):
            x = np.vstack([x[1:], sum(x[-k - 1] @ a for k, a in enumerate(lags))])
        assert np.abs(x).max() < 1e-3


def test_what_the_channels_do_is_the_recursion_link_by_link():
    source = SimLinks(n_channels=5, common=0.36, link_share=0.5)
    network = make_network(source.choices, 1)
    x = activity(source.choices, network, 300, np.random.default_rng(0))
    np.testing.assert_allclose(x.std(0), 1.0)
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(1300)
    drive = 0.8 * rng.standard_normal((1300, 5)) + 0.6 * shared[:, None]
    links = [(i, j, network.lag[i, j], network.weight[i, j]) for i in range(5) for j in range(5) if network.lag[i, j]]
    y = np.zeros((1300, 5))
    for t in range(1300):
        for j in range(5):
            y[t, j] = drive[t, j] + sum(network.own[j, k - 1] * y[t - k, j] for k in (1, 2) if t >= k)
            y[t, j] += sum(w * y[t - lag, i] for i, to, lag, w in links if to == j and t >= lag)
    y = y[-300:]
    np.testing.assert_allclose(x, y / y.std(0), rtol=1e-9, atol=1e-12)
    assert np.corrcoef(drive.T)[np.triu_indices(5, 1)].mean() == pytest.approx(0.36, abs=0.05)


def test_recordings_of_one_network_differ_and_are_the_same_when_made_again():
    items = SimLinks(n_networks=2, n_runs=2, duration_s=5).list()
    assert [i.key for i in items] == ["sub-01_run-1", "sub-01_run-2", "sub-02_run-1", "sub-02_run-2"]
    first, again, second = items[0].load(), items[0].load(), items[1].load()
    values = [r.signal.read(0, 0, 500) for r in (first, again, second)]
    assert np.array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])
    assert values[0].shape == (500, 16)
    assert values[0].std() == pytest.approx(MICROVOLT * np.sqrt(1.25), rel=0.1)
    more = {i.key: i.fingerprint for i in SimLinks(n_networks=3, n_runs=5, duration_s=5).list()}
    assert all(more[i.key] == i.fingerprint for i in items)


@pytest.mark.parametrize("wrong", [{"lag": (0, 3)}, {"radius": (0.9, 1.0)}, {"n_channels": 2}, {"link_share": 0.0}])
def test_impossible_networks_are_refused(wrong):
    with pytest.raises(ConfigError, match="sim_links"):
        SimLinks(**wrong)
