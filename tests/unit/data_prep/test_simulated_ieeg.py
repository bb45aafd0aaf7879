"""The simulated iEEG: the same whatever is read first, and what its events and tables say is in the signal."""

import math

import numpy as np
import pytest

from data_prep.sources import SOURCES
from data_prep.sources.ieeg_person import make_person
from data_prep.sources.ieeg_schedule import make_schedule, spike_wave
from data_prep.sources.ieeg_signal import BLOCK_S, power_law_kernel
from data_prep.sources.simulated_ieeg import SimulatedIeeg
from neurofm.schema.errors import ConfigError

CLEAN = dict(spikes_hz=(0.0, 0.0), artefacts_per_hour=0, mains=0.0)


def source(**choices):
    return SimulatedIeeg(**{"n_subjects": 2, "duration_s": 300, "rate_hz": 128, "channels": (8, 20), **choices})


def recording(number=0, **choices):
    return source(**choices).list()[number].load()


def seizures(rec):
    return [e for e in rec.events if e.kind == "seizure"]


def test_any_span_read_alone_is_that_span_of_the_whole():
    whole = recording(seizures_per_hour=24)
    n = whole.signal.n_samples[0]
    everything = whole.signal.read(0, 0, n)
    source_ = whole.streams[1].read(0, 0, n)
    block = 2 ** int(np.ceil(np.log2(BLOCK_S * 128)))
    for start, stop in ((0, 1), (5, 2 * block + 3), (block - 1, block + 1), (n - 700, n), (7 * block, 8 * block)):
        # a recording of its own each time: nothing may be remembered from another read
        fresh = recording(seizures_per_hour=24)
        assert np.array_equal(fresh.signal.read(0, start, stop), everything[start:stop])
        assert np.array_equal(fresh.streams[1].read(0, start, stop), source_[start:stop])


def test_hours_are_made_only_where_they_are_read():
    day = recording(duration_s=24 * 3600, channels=(128, 128))
    assert day.signal.n_samples == (24 * 3600 * 128,)
    late = day.signal.read(0, 23 * 3600 * 128, 23 * 3600 * 128 + 64)
    assert late.shape == (64, 128)
    assert np.isfinite(late).all()


def test_people_differ_and_another_seed_is_another_corpus():
    a, b = recording(0, seizures_per_hour=24), recording(1, seizures_per_hour=24)
    assert len(a.signal.channels) != len(b.signal.channels)
    assert [e.onset_s for e in seizures(a)] != [e.onset_s for e in seizures(b)]
    assert not np.array_equal(recording().signal.read(0, 0, 50), recording(seed=1).signal.read(0, 0, 50))


def test_more_people_change_nobody_who_was_there():
    few, more = source(n_subjects=1).list()[0], source(n_subjects=5).list()[0]
    assert few.fingerprint == more.fingerprint
    assert few.fingerprint != source(seed=3).list()[0].fingerprint


def test_seizures_are_where_the_events_say():
    rec = recording(
        seizures_per_hour=36,
        seizure_s=(20, 40),
        amplitude=(4.0, 4.0),
        recruitment=(1.0, 1.0),
        fast_fraction=0.0,
        **CLEAN,
    )
    assert len(seizures(rec)) == 3
    truth = rec.streams[1].read(0, 0, rec.signal.n_samples[0])[:, 0]
    ictal = np.zeros(len(truth), bool)
    for e in seizures(rec):
        ictal[math.floor(e.onset_s * 128) : math.ceil((e.onset_s + e.duration_s) * 128)] = True
    assert not truth[~ictal].any()
    inside = truth[ictal]
    # the ramps, and a seizure's own 0.8 to 1.2 of the person's amplitude
    assert 2.5 < np.sqrt(np.mean(inside**2)) < 5.0
    x = rec.signal.read(0, 0, len(truth))
    nearest = int(np.argmax(make_person(source(**{"amplitude": (4.0, 4.0)}).choices, 1).gains[0]))
    assert x[ictal, nearest].std() > 1.8 * x[~ictal, nearest].std()


def test_one_seizure_in_every_slot_and_room_at_its_borders():
    rec = recording(duration_s=3600, seizures_per_hour=12)
    onsets = [e.onset_s for e in seizures(rec)]
    assert [int(o // 300) for o in onsets] == list(range(12))
    assert all(e.onset_s % 300 > 29 and (e.onset_s + e.duration_s) % 300 < 271 for e in seizures(rec))


def test_a_seizure_spreads_along_the_links_only():
    choices = source(seizures_per_hour=12, duration_s=3600, recruitment=(0.5, 0.5)).choices
    person = make_person(choices, 1)
    schedule = make_schedule(choices, person, 1, 1)
    recruited = np.array([~np.isnan(z.start_s) for z in schedule.seizures])
    assert recruited[:, 0].all()
    assert 0.1 < recruited[:, 1:].mean() < 0.9
    for z in schedule.seizures:
        for node, parent in enumerate(person.parent):
            if parent >= 0 and not np.isnan(z.start_s[node]):
                assert z.start_s[node] > z.start_s[parent]


def test_links_delay_the_background_of_a_node():
    person = make_person(source(n_nodes=3).choices, 1)
    weight, lag = person.paths()
    assert np.array_equal(np.diag(weight), np.ones(3))
    child = 1
    assert weight[person.parent[child], child] == person.weight[child]
    assert lag[person.parent[child], child] == pytest.approx(person.lag_s[child])
    assert weight[child, 0] == 0


def test_sleep_has_more_slow_waves_than_wake():
    rec = recording(duration_s=600, seizures_per_hour=0, state_s=120, **CLEAN)
    states = [e for e in rec.events if e.kind == "state"]
    assert states[0].onset_s == 0
    assert sum(e.duration_s for e in states) == pytest.approx(600)
    x = rec.signal.read(0, 0, rec.signal.n_samples[0])

    def slow_share(label):
        share = []
        for e in states:
            if e.label == label and e.duration_s > 60:
                at = round((e.onset_s + 15) * 128)
                power = np.abs(np.fft.rfft(x[at : at + 30 * 128], axis=0)) ** 2
                hz = np.fft.rfftfreq(30 * 128, 1 / 128)
                share.append(power[(hz > 0.5) & (hz < 2)].sum() / power[(hz > 7) & (hz < 12)].sum())
        return np.mean(share)

    assert slow_share("sleep") > 3 * slow_share("wake")


def test_the_background_falls_as_it_should():
    h = power_law_kernel(4096, 2.0)
    power = np.abs(np.fft.rfft(h, 1 << 16)) ** 2
    f = np.fft.rfftfreq(1 << 16)
    slope = np.polyfit(*np.log([f[200:2000], power[200:2000]]), 1)[0]
    assert slope == pytest.approx(-2.0, abs=0.1)
    assert np.sum(h**2) == pytest.approx(1.0)


def test_discharges_have_unit_size_and_no_offset():
    x = spike_wave(np.linspace(0, 5, 5001)[:-1])
    assert abs(x.mean()) < 0.05
    assert np.sqrt(np.mean(x**2)) == pytest.approx(1.0, abs=0.05)


def test_contacts_lie_in_lines_inside_the_head():
    rec = recording(channels=(30, 30))
    shafts = {}
    for c in rec.signal.channels:
        shafts.setdefault(c.name[0], []).append([c.x, c.y, c.z])
    assert len({c.name for c in rec.signal.channels}) == 30
    for points in shafts.values():
        p = np.array(points)
        assert np.abs(p).max() < 0.11
        if len(p) > 2:
            assert np.linalg.matrix_rank(p[1:] - p[0], tol=1e-9) == 1


def test_registered():
    assert SOURCES.get("simulated_ieeg") is SimulatedIeeg


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"channels": (8, 200)}, "channels"),
        ({"channels": (20, 8)}, "channels"),
        ({"seizures_per_hour": 60}, "seizures_per_hour"),
        ({"rate_hz": 20}, "rate_hz"),
        ({"amplitude": (3.0, 1.0)}, "amplitude"),
        ({"n_nodes": 0}, "n_nodes"),
    ],
)
def test_impossible_choices_are_named(choices, word):
    with pytest.raises(ConfigError, match=word):
        source(**choices)
