"""The simulator's truth: rhythms where and as strong as it says, balanced budgets, an oracle between chance and one."""

import numpy as np
import pytest

from data_prep.sources.sim_base import rng_of
from data_prep.sources.sim_motor_imagery import SimMotorImagery, simulate
from data_prep.sources.sim_motor_model import (
    MONTAGES,
    OPPOSITE,
    draw_trials,
    hands_of,
    narrow_band,
    one_over_f,
    person_of,
)
from data_prep.sources.sim_motor_oracle import oracle
from neurofm.schema.errors import ConfigError


@pytest.fixture(scope="module")
def choices():
    return SimMotorImagery(n_subjects=2, n_trials=12).choices


def test_any_first_pairs_are_balanced():
    hands = hands_of(40, np.random.default_rng(0))
    assert all(hands[: 2 * n].sum() == n for n in range(1, 21))
    # and no pair gives the next away
    assert 0 < (hands[::2] == 0).sum() < 20


def test_rhythms_have_unit_variance_and_their_band():
    rng = np.random.default_rng(0)
    mu = narrow_band(rng, (2000,), 256, 128.0, 10.0, 1.0)
    assert mu.var() == pytest.approx(1, rel=0.05)
    power = (np.abs(np.fft.rfft(mu * np.hanning(256))) ** 2).mean(0)
    f = np.fft.rfftfreq(256, 1 / 128)
    assert (power * f).sum() / power.sum() == pytest.approx(10, abs=0.1)
    assert power[(f < 5) | (f > 15)].sum() < 0.01 * power.sum()
    noise = one_over_f(rng, (2000,), 256, 128.0, 2.0)
    assert noise.var() == pytest.approx(1, rel=0.1)


def test_the_area_opposite_to_the_hand_loses_power(choices):
    person, rng = person_of(choices, 1), rng_of(choices, 7)
    hands = np.repeat([0, 1], 1500)
    _, sources = draw_trials(choices, person, hands, rng)
    log_power = np.log((sources**2).mean(1))
    for hand, name in enumerate(("left", "right")):
        mine = log_power[hands == hand].mean(0)
        lost = mine[OPPOSITE[name]] - mine[1 - OPPOSITE[name]]
        assert lost == pytest.approx(np.log(person.opposite / person.same), abs=0.06)


def test_fields_fall_off_and_keep_the_average_reference(choices):
    for subject, montage in ((1, "motor"), (2, "whole")):
        person = person_of(choices, subject)
        assert person.electrodes == MONTAGES[montage]
        signal, _ = draw_trials(choices, person, np.zeros(3, int), np.random.default_rng(0))
        np.testing.assert_allclose(signal.mean(2), 0, atol=1e-6)
        left, right = (np.abs(person.field[person.electrodes.index(name)]) for name in ("C3", "C4"))
        assert left[0] > left[1]
        assert right[1] > right[0]


def test_a_recording_is_the_same_again_and_people_differ(choices):
    one, again, other = (simulate(choices, s, "", "") for s in ("01", "01", "02"))
    np.testing.assert_array_equal(one.signal.read(3, 0, 256), again.signal.read(3, 0, 256))
    assert (len(one.signal.channels), len(other.signal.channels)) == (22, 19)
    assert [e.label for e in one.events] != [e.label for e in other.events]
    assert one.session == "motor"


def test_the_oracle_is_above_chance_and_blind_without_a_difference(choices):
    assert 0.6 < oracle(choices, 1, n_trials=300) < 1
    blind = SimMotorImagery(erd=1e-6, subject_spread=0.0).choices
    # both factors are clipped alike: what is left is noise
    same = person_of(blind, 1)
    assert oracle({**blind, "mu_uv": 1e-6}, 1, n_trials=300) == pytest.approx(0.5, abs=0.1)
    assert same.opposite == pytest.approx(0.9)


def test_refuses():
    with pytest.raises(ConfigError, match="erd is 1"):
        SimMotorImagery(erd=1.0)
