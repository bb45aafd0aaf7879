"""Event scores against cases worked by hand from the rules of SzCORE."""

import numpy as np
import pytest

from neurofm.benchmarks.detection.events import EventRule, EventScores, events_of, merge, score_events, split
from neurofm.schema.errors import ConfigError, DataError

HOUR = 3600.0


def counts(reference, detections, duration_s=HOUR, **rule):
    s = score_events(reference, detections, duration_s=duration_s, rule=EventRule(**rule))
    return s.n_reference, s.n_detected, s.n_detections, s.n_false


@pytest.mark.parametrize(
    ("reference", "detections", "expected"),
    [
        # a hit, a miss, a false alarm
        ([(600, 660)], [(610, 650)], (1, 1, 1, 0)),
        ([(600, 660)], [], (1, 0, 0, 0)),
        ([(600, 660)], [(1000, 1010)], (1, 0, 1, 1)),
        ([], [(1000, 1010)], (0, 0, 1, 1)),
        # within the tolerance: ends 29 s before the onset, begins 59 s after the offset
        ([(600, 660)], [(560, 571)], (1, 1, 1, 1)),
        ([(600, 660)], [(570, 571)], (1, 1, 1, 0)),
        ([(600, 660)], [(719, 720)], (1, 1, 1, 0)),
        # touching the border of the tolerance is no overlap
        ([(600, 660)], [(560, 570)], (1, 0, 1, 1)),
        ([(600, 660)], [(720, 730)], (1, 0, 1, 1)),
        # a detection that outlasts the tolerance is a hit and a false alarm
        ([(600, 660)], [(610, 721)], (1, 1, 1, 1)),
        # closer than 90 s: one event; 90 s apart: two
        ([(600, 610), (699, 705)], [(605, 700)], (1, 1, 1, 0)),
        ([(600, 610), (700, 705)], [(605, 606)], (2, 1, 1, 0)),
        ([(600, 660)], [(2000, 2010), (2050, 2060)], (1, 0, 1, 1)),
        ([(600, 660)], [(2000, 2010), (2101, 2110)], (1, 0, 2, 2)),
        # longer than 5 min: pieces of 5 min and a rest, counted each
        ([(600, 1300)], [(600, 1300)], (3, 3, 3, 0)),
        ([(600, 600 + 300)], [(610, 620)], (1, 1, 1, 0)),
        ([], [(600, 1201)], (0, 0, 3, 3)),
    ],
)
def test_by_hand(reference, detections, expected):
    assert counts(reference, detections) == expected


def test_tolerance_stops_at_the_ends_of_the_recording():
    assert counts([(10, 20)], [(0, 5)], duration_s=100) == (1, 1, 1, 0)
    assert counts([(85, 95)], [(96, 100)], duration_s=100) == (1, 1, 1, 0)


def test_minimum_overlap_is_of_the_widened_event():
    # widened: 570 to 720, 150 s; 45 s are 0.3 of it
    assert counts([(600, 660)], [(600, 645)], min_overlap=0.29) == (1, 1, 1, 0)
    assert counts([(600, 660)], [(600, 645)], min_overlap=0.3) == (1, 0, 1, 1)


def test_a_missed_events_tolerance_excuses_nothing():
    assert counts([(600, 660)], [(610, 620)], min_overlap=0.5) == (1, 0, 1, 1)


def test_long_false_alarm_beside_a_hit_piece():
    # one detection of 10 min over a seizure of 1 min, cut at 900: the first piece outlasts 720, the second is all false
    assert counts([(600, 660)], [(600, 1200)]) == (1, 1, 2, 2)


def test_rates():
    s = EventScores(n_reference=4, n_detected=3, n_detections=5, n_false=1, hours=2.0)
    assert s.sensitivity == 0.75
    assert s.precision == 0.75
    assert s.f1 == pytest.approx(0.75)
    assert s.false_alarms_per_hour == 0.5
    both = s + EventScores(n_reference=1, n_detected=0, n_detections=0, n_false=0, hours=1.0)
    assert (both.n_reference, both.hours) == (5, 3.0)
    assert np.isnan(EventScores(hours=1.0).f1)
    assert EventScores(n_reference=2, hours=1.0).f1 == 0


def test_merge_and_split_alone():
    assert merge([(10, 20), (5, 12), (30, 31)], within_s=10) == [(5, 20), (30, 31)]
    assert merge([(0, 1), (1, 2)], within_s=0) == [(0, 2)]
    assert split([(0, 700)], longest_s=300) == [(0, 300), (300, 600), (600, 700)]
    assert events_of([0.0, 0.1, 0.2, 0.4], [True, True, False, True], length_s=0.1) == [
        (0.0, pytest.approx(0.2)),
        (0.4, 0.5),
    ]


def test_nonsense_is_named():
    with pytest.raises(DataError, match="inside the recording"):
        score_events([(0, 200)], [], duration_s=100)
    with pytest.raises(DataError, match="inside the recording"):
        score_events([], [(20, 10)], duration_s=100)
    with pytest.raises(ConfigError, match="min_overlap"):
        EventRule(min_overlap=1.0)
