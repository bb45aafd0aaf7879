"""FALCON: NWB files of five tasks, ``sub-<Subject>-held-in-calib/…``, ``-held-out-calib``, ``-held-in-minival``.

The split is part of the subject label, inside the file too (DANDI names files after it): the subject is what stands
before it. Sessions are dates, which must not travel, so nothing is asked of their names. `root` is the DANDI set's
folder. Spike times are in seconds on the file's clock; H2 and B1 hold samples instead.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries

from ..expected import Expected, Tree
from ._nwb import Truth, nwb_file, save, series, spike_times, truth

BIN_S = 0.02
Values = dict[str, np.ndarray]
# what the benchmark calls its parts
PARTS = {"held-in-calib": "held_in_calib", "held-in-minival": "held_in_minival"}


def _path(root: Path, label: str, session: str, suffix: str = "") -> Path:
    return root / f"sub-{label}/sub-{label}_ses-{session}{suffix}.nwb"


def _tree(root: Path, variant: str, recordings: list[Expected]) -> Tree:
    return Tree(source="falcon", choices={"root": root, "tasks": [variant]}, recordings=recordings)


def _expected(subject: str, n_units: int, *, part: str | None = "held_in_calib", **more: object) -> Expected:
    kinds = ["unit"] * n_units
    return Expected(subject=subject, session=None, part=part, modality="spikes", kinds=kinds, **more)


def _group(name: str, data: np.ndarray, channels: list[str], times: np.ndarray) -> BehavioralTimeSeries:
    members = [series(c, column, times_s=times) for c, column in zip(channels, data.T, strict=True)]
    return BehavioralTimeSeries(name=name, time_series=members)


def _mask(file: NWBFile, times: np.ndarray) -> None:
    file.add_acquisition(series("eval_mask", np.arange(len(times)) % 10 > 0, times_s=times))


def _m1(root: Path, label: str, session: str, *, seed: int) -> tuple[Truth, Values]:
    """Stamps are the ends of bins: the first is 0.02, and spikes before it count. One trial spans the file."""
    n_bins, spans = 200, [(0.0, 4.0)]
    file = nwb_file(label, session=session)
    trains = spike_times(4, spans, per_s=10, seed=seed)
    trains[0] = np.r_[0.005, trains[0][trains[0] > 0.006]]
    for times in trains:
        file.add_unit(spike_times=times)
    ends = (np.arange(n_bins) + 1) * BIN_S
    emg = np.random.default_rng(seed).normal(size=(n_bins, 16))
    file.add_acquisition(_group("preprocessed_emg", emg, [f"muscle{i}" for i in range(16)], ends))
    _mask(file, ends)
    file.add_trial_column("condition_id", "object")
    file.add_trial(start_time=0.0, stop_time=4.0, condition_id=7)
    save(file, _path(root, label, session, "_behavior+ecephys"))
    return truth(trains, spans), {f"muscle{i}": column for i, column in enumerate(emg.T)}


def write_m1(root: Path) -> Tree:
    """A day of calibration and its small public test: same animal, same day, two recordings."""
    folder = root / "000941"
    for i, split in enumerate(PARTS):
        _m1(folder, f"MonkeyL-{split}", "20120924", seed=i)
    return _tree(folder, "m1", [_expected("MonkeyL", 4, part=p, duration_s=[4.0]) for p in PARTS.values()])


def write_m1_held_out(root: Path) -> Tree:
    """A day that is not trained on, of the same animal."""
    folder = root / "000941"
    _m1(folder, "MonkeyL-held-out-calib", "20121004", seed=3)
    return _tree(folder, "m1", [_expected("MonkeyL", 4, part="held_out_calib")])


def write_local_folder_names(root: Path) -> Tree:
    """Copies of the sets name folders by the split alone; the name inside the file still has the subject."""
    folder = root / "000941"
    _m1(folder, "MonkeyL-held-in-calib", "20120924", seed=4)
    (folder / "sub-MonkeyL-held-in-calib").rename(folder / "held_in_calib")
    return _tree(folder, "m1", [_expected("MonkeyL", 4)])


def _m2(root: Path) -> tuple[Truth, Values]:
    """Stamps are the starts of bins: the first is 0."""
    n_bins, spans = 150, [(0.0, 3.0)]
    label = "MonkeyN-held-in-calib"
    file = nwb_file(label, session="2020-10-19-Run1")
    trains = spike_times(3, spans, per_s=10, seed=21)
    trains[1] = np.r_[0.005, trains[1][trains[1] > 0.006]]
    for times in trains:
        file.add_unit(spike_times=times)
    starts = np.arange(n_bins) * BIN_S
    position = np.random.default_rng(22).uniform(size=(n_bins, 2))
    fingers = ["index", "mrs"]
    velocity = np.gradient(position, axis=0)
    file.add_acquisition(_group("finger_vel", velocity, fingers, starts))
    file.add_acquisition(_group("finger_pos", position, fingers, starts))
    _mask(file, starts)
    file.add_trial(start_time=0.0, stop_time=3.0)
    save(file, _path(root, label, "2020-10-19-Run1", "_behavior+ecephys"))
    return truth(trains, spans), dict(zip(fingers, velocity.T, strict=True))


def write_m2(root: Path) -> Tree:
    _m2(root / "000953")
    return _tree(root / "000953", "m2", [_expected("MonkeyN", 3, duration_s=[3.0])])


def _h1(root: Path, session: str, *, old: bool = False, seed: int = 31) -> tuple[Truth, Values]:
    """`rate` holds seconds per bin; stamps are bin ends, first at 0.02. Older files mark what is *not* evaluated."""
    n_bins, spans = 250, [(0.0, 5.0)]
    label = "HumanPitt-held-in-calib"
    file = nwb_file(label, session=session)
    trains = spike_times(5, spans, per_s=8, seed=seed)
    for times in trains:
        file.add_unit(spike_times=times)
    kinematics = np.random.default_rng(seed).normal(size=(n_bins, 7))
    for name, data in [
        ("OpenLoopKinematics", kinematics.cumsum(axis=0)),
        ("OpenLoopKinematicsVelocity", kinematics),
        ("TrialNum", np.zeros(n_bins)),
    ]:
        file.add_acquisition(TimeSeries(name=name, data=data, unit="a.u.", rate=BIN_S, starting_time=0.0, offset=BIN_S))
    wanted = np.arange(n_bins) % 10 > 0
    name, mask = ("Blacklist", ~wanted) if old else ("eval_mask", wanted)
    file.add_acquisition(TimeSeries(name=name, data=mask, unit="bool", rate=BIN_S, starting_time=0.0, offset=BIN_S))
    save(file, _path(root, label, session))
    return truth(trains, spans), {str(i): column for i, column in enumerate(kinematics.T)}


def write_h1(root: Path) -> Tree:
    _h1(root / "000954", "19250101T111740")
    return _tree(root / "000954", "h1", [_expected("HumanPitt", 5, duration_s=[5.0])])


def write_h1_old_mask(root: Path) -> Tree:
    _h1(root / "000954", "19250113T120811", old=True)
    return _tree(root / "000954", "h1", [_expected("HumanPitt", 5, duration_s=[5.0])])


def _sentences(root: Path) -> tuple[list[str], list[np.ndarray]]:
    """Write the handwriting task: counts in bins of 20 ms, with a pause between sentences, and no spike times."""
    label, cues = "T5-held-in-calib", ["the>quick~fox", "isn't>it,>so?", "yes"]
    rng = np.random.default_rng(41)
    counts = [rng.poisson(1.0, (n, 6)).astype(np.uint8) for n in (60, 75, 31)]
    times, start = [], 0.0
    file = nwb_file(label, session="20220518")
    file.add_trial_column("cue", "'>' is a space")
    file.add_trial_column("block_num", "block")
    for cue, trial in zip(cues, counts, strict=True):
        stop = start + len(trial) * BIN_S
        times.append(start + np.arange(len(trial)) * BIN_S)
        file.add_trial(start_time=start, stop_time=stop, cue=cue, block_num=1)
        start = stop + 1.3
    stamps = np.concatenate(times)
    file.add_acquisition(series("binned_spikes", np.concatenate(counts), times_s=stamps))
    _mask(file, stamps)
    save(file, _path(root, label, "20220518"))
    return cues, counts


def write_h2(root: Path) -> Tree:
    """The signal is counts, regular at 50 Hz: one interval per sentence, cut where stamps leap."""
    folder = root / "000950"
    _, counts = _sentences(folder)
    recording = _expected(
        "T5",
        6,
        rate_hz=50.0,
        n_samples=[len(c) for c in counts],
        values={i: c.astype(float) for i, c in enumerate(counts)},
    )
    return _tree(folder, "h2", [recording])


def sentences(root: Path) -> tuple[Tree, list[str]]:
    """The handwriting task and its cues as stored."""
    folder = root / "000950"
    cues, _ = _sentences(folder)
    return _tree(folder, "h2", []), cues


def _b1(root: Path) -> Truth:
    """Threshold crossings as a raster at 30 kHz, song at 25 kHz; the bird's own label has dashes in it."""
    label = "Finch-z-r12r13-21-held-in-calib"
    rng = np.random.default_rng(51)
    file = nwb_file(label, session="20210627")
    raster = (rng.uniform(size=(6000, 5)) < 0.01).astype(np.int8)
    file.add_acquisition(series("tx", raster, rate_hz=30000.0))
    file.add_acquisition(series("vocalizations", rng.normal(size=5000), rate_hz=25000.0))
    file.add_trial_column("spectrogram_values", "song")
    file.add_trial_column("spectrogram_eval_mask", "whether")
    for start in (0.0, 0.1):
        file.add_trial(
            start_time=start,
            stop_time=start + 0.1,
            spectrogram_values=rng.normal(size=(8, 100)),
            spectrogram_eval_mask=np.ones((8, 100), bool),
        )
    save(file, _path(root, label, "20210627"))
    return truth([np.flatnonzero(column) / 30000 for column in raster.T], [(0.0, 0.2)])


def write_b1(root: Path) -> Tree:
    folder = root / "001046"
    _b1(folder)
    return _tree(folder, "b1", [_expected("Finch-z-r12r13-21", 5, duration_s=[0.2])])


def spikes(root: Path, *, variant: str = "m1") -> tuple[Tree, dict[str, Truth]]:
    """Subject → its one interval's spike times in seconds from the recording's start, sorted, and their units.

    `variant`: "m1" (4 s, stamps at bin ends), "m2" (3 s, stamps at bin starts), "h1" (5 s, stamps at bin ends) or "b1"
    (0.2 s, a raster). All start at 0, M1 and M2 with a spike 5 ms after it.
    """
    if variant == "b1":
        folder = root / "001046"
        found = _b1(folder)
        return _tree(folder, variant, [_expected("Finch-z-r12r13-21", 5)]), {"Finch-z-r12r13-21": found}
    tree, found, _ = _one(root, variant)
    return tree, {str(tree.recordings[0].subject): found}


def decoded(root: Path, *, variant: str) -> tuple[Tree, Values]:
    """What is decoded from the spikes, by the end of its channel's name: one value per bin of 20 ms from time 0 on."""
    tree, _, values = _one(root, variant)
    return tree, values


def _one(root: Path, variant: str) -> tuple[Tree, Truth, Values]:
    """Write one file of calibration of M1, M2 or H1."""
    if variant == "m1":
        folder = root / "000941"
        found = _m1(folder, "MonkeyL-held-in-calib", "20120924", seed=0)
        return _tree(folder, variant, [_expected("MonkeyL", 4)]), *found
    if variant == "m2":
        folder = root / "000953"
        return _tree(folder, variant, [_expected("MonkeyN", 3)]), *_m2(folder)
    folder = root / "000954"
    return _tree(folder, variant, [_expected("HumanPitt", 5)]), *_h1(folder, "19250101T111740")
