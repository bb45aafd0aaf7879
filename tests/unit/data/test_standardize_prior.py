"""Deviations of a later recording lean on the pattern of the first ones, by a formula worked out here by hand."""

import json
from math import exp, log

import numpy as np
import pytest

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import whole
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import transform_from_json
from neurofm.data.transforms.standardize import Standardize
from neurofm.schema.errors import ConfigError

# population: two people of the same pattern but for level; the third has its own
SD = {"a": (1.0, 2.0, 8.0), "b": (10.0, 40.0, 80.0), "c": (5.0, 5.0, 40.0)}
PRIOR_S = 15.0


def square(sd):
    """Values that alternate around 100 by sd: their deviation is sd exactly, over any even number of samples."""
    return 100 + np.outer((-1.0) ** np.arange(400), sd)


@pytest.fixture(scope="module")
def people(tmp_path_factory, shard_maker):
    made = [
        shard_maker.Made(f"r_{k}", [square(sd)], rate_hz=10.0, subject=k, names=["x", "y", "z"]) for k, sd in SD.items()
    ]
    made.append(shard_maker.Made("r_d", [square((3.0, 7.0, 9.0))], subject="d", names=["z", "new", "x"]))
    return Dataset(shard_maker.make(tmp_path_factory.mktemp("people"), made))


def fitted(dataset, *steps, **choices):
    t = Standardize(prior_s=PRIOR_S, **choices)
    for spans in steps:
        t.fit(dataset, spans, allowed=spans)
    return t


def shrunk(own, pattern, seconds):
    gap = [log(s) - m for s, m in zip(own, pattern, strict=True)]
    level = sum(gap) / len(gap)
    weight = seconds / (seconds + PRIOR_S)
    return [exp(m + level + weight * (d - level)) for m, d in zip(pattern, gap, strict=True)]


def pattern_of(*deviations):
    centred = []
    for sd in deviations:
        logs = [log(s) for s in sd]
        centred.append([v - sum(logs) / len(logs) for v in logs])
    return [sum(column) / len(column) for column in zip(*centred, strict=True)]


@pytest.mark.parametrize("per", ["recording", "subject"])
@pytest.mark.parametrize("seconds", [5.0, 15.0, 40.0])
def test_later_fits_are_shrunk_by_the_formula(people, per, seconds):
    first, later = whole(people, ["r_a", "r_b"]), [Span("r_c", 0.0, seconds)]
    t = fitted(people, first, later, per=per)
    np.testing.assert_allclose(
        t.statistics("r_c").sd, shrunk(SD["c"], pattern_of(SD["a"], SD["b"]), seconds), rtol=1e-6
    )
    np.testing.assert_allclose(t.statistics("r_c").mean, 100, rtol=1e-9)
    for k in "ab":
        # those the pattern comes from keep their own
        np.testing.assert_allclose(t.statistics(f"r_{k}").sd, SD[k], rtol=1e-6)


def test_a_longer_calibration_replaces_a_shorter_one(people):
    first = whole(people, ["r_a", "r_b"])
    twice = fitted(people, first, [Span("r_c", 0.0, 5.0)], [Span("r_c", 0.0, 20.0)])
    once = fitted(people, first, [Span("r_c", 0.0, 20.0)])
    assert twice.to_json() == once.to_json()


def test_one_recording_teaches_no_pattern(people):
    t = fitted(people, [Span("r_c", 0.0, 5.0)], [Span("r_c", 0.0, 20.0)])
    np.testing.assert_allclose(t.statistics("r_c").sd, SD["c"], rtol=1e-6)
    assert t.state()["pattern"] == {}
    # nor do two that come one after the other: the second may not be judged by the first
    t = fitted(people, whole(people, ["r_a"]), whole(people, ["r_b"]), whole(people, ["r_c"]))
    np.testing.assert_allclose(t.statistics("r_c").sd, SD["c"], rtol=1e-6)


def test_channels_are_matched_by_name_and_unknown_ones_left_alone(people):
    t = fitted(people, whole(people, ["r_a", "r_b"]), [Span("r_d", 0.0, 15.0)])
    x, _, z = pattern_of(SD["a"], SD["b"])
    of_z, of_x = shrunk((3.0, 9.0), (z, x), 15.0)
    np.testing.assert_allclose(t.statistics("r_d").sd, [of_z, 7.0, of_x], rtol=1e-6)


def test_json_keeps_the_pattern(people):
    first, later = whole(people, ["r_a", "r_b"]), [Span("r_c", 0.0, 5.0)]
    again = transform_from_json(json.loads(json.dumps(fitted(people, first).to_json())))
    again.fit(people, later, allowed=later)
    assert again.to_json() == fitted(people, first, later).to_json()
    old = fitted(people, first).to_json()
    del old["state"]["pattern"]
    assert transform_from_json(old).state()["pattern"] == {}


def test_a_prior_of_no_seconds_is_refused():
    with pytest.raises(ConfigError, match="prior_s is 0; expected seconds above 0"):
        Standardize(prior_s=0)
