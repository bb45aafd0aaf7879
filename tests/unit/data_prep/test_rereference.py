"""References against mne and against explicit numpy; which contacts are neighbours."""

from __future__ import annotations

from dataclasses import replace

import mne
import numpy as np
import pytest

from data_prep.stages import STAGES
from data_prep.stages.base import SignalInfo
from data_prep.stages.shafts import along_shafts, contact_of
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel


def rows(*names: str, kind: str = "seeg", **rest) -> tuple[Channel, ...]:
    return tuple(Channel(name=n, kind=kind, unit="uV", **rest) for n in names)


def run(chans, x, **choices):
    stage = STAGES.build("rereference", **choices)
    info = stage.start(SignalInfo(rate_hz=100.0, channels=tuple(chans)))
    y = np.concatenate([stage.push(x[:7]), stage.push(x[7:])])
    assert stage.flush() is None
    assert y.shape[1] == len(info.channels)
    return y, info.channels


def signal(n: int) -> np.ndarray:
    return 4000 + np.random.default_rng(0).standard_normal((50, n))


def as_mne(chans, x) -> mne.io.RawArray:
    info = mne.create_info([c.name for c in chans], 100.0, [c.kind for c in chans])
    info["bads"] = [c.name for c in chans if c.bad]
    return mne.io.RawArray(x.T, info, verbose="error")


@pytest.mark.parametrize("kind", ["eeg", "seeg"])
def test_average_and_chosen_channels_are_mnes(kind):
    chans = rows("A1", "A2", "A3", "B1", "B2", kind=kind)
    x = signal(5)
    for choices, reference in (
        ({}, "average"),
        ({"method": "channels", "channels": ["A2", "B1"]}, ["A2", "B1"]),
    ):
        y, after = run(chans, x, **choices)
        oracle, _ = mne.set_eeg_reference(as_mne(chans, x), reference, ch_type=kind, verbose="error")
        assert np.abs(y - oracle.get_data().T).max() < 1e-9
        assert {c.reference for c in after} == {"average" if not choices else "A2+B1"}


def test_median_is_taken_over_good_channels_of_a_kind_only():
    chans = [*rows("A1", "A2", "A3"), *rows("E1", "E2", kind="ecog"), Channel(name="t", kind="misc")]
    chans[1] = replace(chans[1], bad=True)
    x = signal(6)
    x[:, 1] = np.nan
    y, _ = run(chans, x, method="median")
    assert np.allclose(y[:, [0, 2]], x[:, [0, 2]] - np.median(x[:, [0, 2]], axis=1, keepdims=True))
    assert np.allclose(y[:, 3:5], x[:, 3:5] - np.median(x[:, 3:5], axis=1, keepdims=True))
    assert np.array_equal(y[:, 5], x[:, 5])


def test_none_changes_nothing():
    chans, x = rows("A1", "A2", reference="Cz"), signal(2)
    y, after = run(chans, x, method="none")
    assert np.array_equal(y, x)
    assert after == chans


def test_bipolar_is_mnes_and_writes_new_rows():
    names = ["B2", "A1", "A3", "A2", "B1", "A10", "A11", "EKG"]
    chans = [*rows(*names[:-1], region="insula", frame="mni"), Channel(name="EKG", kind="ecg", unit="uV")]
    chans = [replace(c, x=0.001 * i, y=0.0, z=0.002 * i) for i, c in enumerate(chans)]
    chans[2] = replace(chans[2], bad=True, reason="noisy")
    x = signal(8)
    y, after = run(chans, x, method="bipolar")
    assert [c.name for c in after] == ["A1-A2", "A2-A3", "B1-B2", "A10-A11", "EKG"]
    raw = as_mne([replace(c, bad=False) for c in chans], x)
    oracle = mne.set_bipolar_reference(
        raw, ["A1", "A2", "B1", "A10"], ["A2", "A3", "B2", "A11"], drop_refs=True, copy=True, verbose="error"
    )
    assert np.abs(y - oracle.get_data([c.name for c in after]).T).max() < 1e-9
    assert after[0].x == pytest.approx((0.001 + 0.003) / 2)
    assert after[0].z == pytest.approx((0.002 + 0.006) / 2)
    assert (after[0].frame, after[0].region, after[0].reference) == ("mni", "insula", "bipolar")
    assert [c.bad for c in after] == [False, True, False, False, False]
    assert after[1].reason == "A3: noisy"
    assert after[4].reference == ""


def test_bipolar_rows_of_contacts_in_different_places_claim_neither():
    chans = rows("A1", "A2", frame="mni", x=0.0, y=0.0, z=0.0)
    chans = (replace(chans[0], region="left"), replace(chans[1], region="right", frame="head"))
    _, (row,) = run(chans, signal(2), method="bipolar")
    assert row.region == ""
    assert row.frame == ""
    assert np.isnan(row.x)


def test_bipolar_by_named_pairs_is_a_scalp_montage():
    chans = rows("FP1", "F7", "T3", kind="eeg")
    chans = tuple(replace(c, canonical=c.name.lower()) for c in chans)
    x = signal(3)
    y, after = run(chans, x, method="bipolar", pairs=[["FP1", "F7"], ["F7", "T3"]])
    assert np.allclose(y, x[:, :2] - x[:, 1:])
    assert [c.canonical for c in after] == ["fp1-f7", "f7-t3"]
    with pytest.raises(DataError, match="'T5' is missing"):
        run(chans, x, method="bipolar", pairs=[["T3", "T5"]])


def test_scalp_names_are_no_shafts():
    chans = rows("F3", "F4", "C3", "C4", kind="eeg")
    y, after = run(chans, signal(4), method="bipolar")
    assert after == chans
    assert np.array_equal(y, signal(4))


def test_bipolar_without_any_neighbours_is_refused():
    with pytest.raises(DataError, match="neighbours by name"):
        run(rows("A1", "A3", "B7"), signal(3), method="bipolar")


def test_laplacian_along_a_shaft():
    chans = list(rows("A1", "A2", "A3", "A4", "B1"))
    chans[3] = replace(chans[3], bad=True, reason="flat")
    x = signal(5)
    y, after = run(chans, x, method="laplacian")
    expected = x.copy()
    expected[:, 0] -= x[:, 1]
    expected[:, 1] -= (x[:, 0] + x[:, 2]) / 2
    expected[:, 2] -= x[:, 1]  # A4 is bad
    expected[:, 3] -= x[:, 2]
    assert np.allclose(y, expected)
    assert [c.bad for c in after] == [False, False, False, True, True]
    assert after[3].reason == "flat"
    assert "no good neighbour" in after[4].reason
    assert [c.reference for c in after] == ["laplacian"] * 4 + [""]


def test_laplacian_that_asks_for_both_neighbours_gives_up_the_ends_of_a_shaft():
    """BrainBERT (Wang et al. 2023) leaves contacts out that have not both; their neighbours still use them."""
    chans = rows("A1", "A2", "A3", "B1", "B2")
    x = np.random.default_rng(0).standard_normal((50, 5))
    y, after = run(chans, x, method="laplacian", least=2)
    assert [c.bad for c in after] == [True, False, True, True, True]
    assert after[0].reason == "has fewer than 2 good neighbours for a Laplacian"
    np.testing.assert_allclose(y[:, 1], x[:, 1] - (x[:, 0] + x[:, 2]) / 2)


def test_laplacian_by_distance_takes_the_nearest_good_ones():
    grid = [(i, j) for i in range(3) for j in range(3)]
    chans = [Channel(name=f"e{i}", kind="eeg", unit="uV", x=a / 50, y=b / 50, z=0.0) for i, (a, b) in enumerate(grid)]
    chans[1] = replace(chans[1], bad=True, reason="flat")
    chans.append(Channel(name="lost", kind="eeg", unit="uV"))
    x = signal(10)
    y, after = run(chans, x, method="laplacian", neighbours="distance", n_neighbours=4, reach_mm=21)
    for i, (a, b) in enumerate(grid):
        near = [k for k, (c, d) in enumerate(grid) if abs(a - c) + abs(b - d) == 1 and k != 1]
        assert np.allclose(y[:, i], x[:, i] - x[:, near].mean(axis=1)), i
    assert after[9].bad
    assert np.array_equal(y[:, 9], x[:, 9])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A1", ("a", 1)),
        ("A'01", ("a'", 1)),
        ("EEG LAH 3-Ref", ("lah", 3)),
        ("POL B12", ("b", 12)),
        ("LT1A_02", ("lt1a", 2)),
        ("RAM-7", ("ram", 7)),
        ("Cz", None),
        ("12", None),
    ],
)
def test_contact_names(name, expected):
    assert contact_of(name) == expected


def test_primes_and_kinds_are_shafts_of_their_own():
    chans = [*rows("A1", "A'2", "A2"), *rows("A3", kind="ecog")]
    assert along_shafts(chans, range(4)) == [(0, 2)]


@pytest.mark.parametrize(
    "choices",
    [
        {"method": "averag"},
        {"method": "channels"},
        {"method": "average", "channels": ["A1"]},
        {"method": "average", "pairs": [["A1", "A2"]]},
        {"method": "laplacian", "neighbours": "near"},
        {"method": "laplacian", "n_neighbours": 0},
        {"method": "laplacian", "least": 0},
    ],
)
def test_contradicting_choices_are_refused(choices):
    with pytest.raises(ConfigError, match="rereference"):
        STAGES.build("rereference", **choices)
