"""Neural Latents Benchmark '21: NWB pairs ``…_desc-train_behavior+ecephys.nwb`` and ``…_desc-test_ecephys.nwb``.

The training file has all units, marked ``heldout`` or not; the test file has the held-in ones only. Times are on a
1 ms grid. Test trials have a start, a stop, an onset and their split and nothing else. `root` is the DANDI set's folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pynwb import NWBFile

from ..expected import Expected, Tree
from ._nwb import Truth, add_electrodes, nwb_file, save, series, spike_times, truth

MAZE_COLUMNS = ["target_on_time", "go_cue_time", "rt", "delay", "maze_id", "success"]
Spans = list[tuple[float, float]]


def _spans(n: int, *, every_s: float, length_s: float) -> Spans:
    return [(round(i * every_s, 3), round(i * every_s + length_s, 3)) for i in range(n)]


def _units(file: NWBFile, trains: list[np.ndarray], spans: Spans, *, test: bool = False) -> list[str]:
    """Add units observed during the trials; every third is held out and not in the test file. Returned: their regions.

    Unit i of the test file is the i-th of those that are not held out.
    """
    rows = [i for i in range(9) if not (test and i % 3 == 2)][: len(trains)]
    regions = ["M1" if i % 2 else "PMd" for i in rows]
    add_electrodes(file, regions)
    file.add_unit_column("heldout", "to be predicted")
    for i, (row, times) in enumerate(zip(rows, trains, strict=True)):
        file.add_unit(spike_times=times, obs_intervals=np.array(spans), electrodes=[i], heldout=row % 3 == 2)
    return regions


def _behaviour(file: NWBFile, spans: Spans, names: list[str]) -> None:
    """Behaviour at 1 kHz, present during trials only."""
    times = np.concatenate([np.arange(round(a * 1000), round(b * 1000)) / 1000 for a, b in spans])
    module = file.create_processing_module("behavior", "hand and eye")
    for name in names:
        data = np.c_[np.sin(times), np.cos(times)]
        module.add(series(name, data, times_s=times, comments="columns=[x,y]", unit="mm/s"))


def _pair(
    root: Path, *, subject: str, session: str, seed: int, splits: list[str]
) -> tuple[dict[str, Expected], dict[str, Truth]]:
    """Write a training file whose trials are of `splits`, and a test file of three trials."""
    found, spiking = {}, {}
    names = f"sub-{subject}/sub-{subject}" + (f"_ses-{session}" if session else "")
    long = _spans(len(splits), every_s=2.5, length_s=2.0)
    trains = spike_times(6, long, per_s=8, seed=seed, grid_s=0.001)
    file = nwb_file(subject, session=session)
    regions = _units(file, trains, long)
    for column in ["move_onset_time", "split", "trial_type", *MAZE_COLUMNS]:
        file.add_trial_column(column, column)
    for i, ((a, b), split) in enumerate(zip(long, splits, strict=True)):
        more = {
            "target_on_time": a + 0.1,
            "go_cue_time": a + 0.5,
            "rt": 300.0,
            "delay": 400.0,
            "maze_id": i,
            "success": True,
        }
        file.add_trial(start_time=a, stop_time=b, move_onset_time=a + 0.8, split=split, trial_type=i % 3, **more)
    _behaviour(file, long, ["cursor_pos", "hand_pos", "hand_vel"])
    save(file, root / f"{names}_desc-train_behavior+ecephys.nwb")
    for part in dict.fromkeys(splits):
        found[part] = Expected(
            subject=subject,
            session=session,
            part=part,
            modality="spikes",
            kinds=["unit"] * 6,
            regions=regions,
            duration_s=[2.0] * splits.count(part),
        )
        spiking[part] = truth(trains, [s for s, split in zip(long, splits, strict=True) if split == part])

    short = _spans(3, every_s=0.8, length_s=0.7)
    trains = spike_times(4, short, per_s=10, seed=seed + 1, grid_s=0.001)
    file = nwb_file(subject, session=session)
    regions = _units(file, trains, short, test=True)
    for column in ["move_onset_time", "split"]:
        file.add_trial_column(column, column)
    for a, b in short:
        file.add_trial(start_time=a, stop_time=b, move_onset_time=a + 0.25, split="test")
    save(file, root / f"{names}_desc-test_ecephys.nwb")
    found["test"] = Expected(
        subject=subject,
        session=session,
        part="test",
        modality="spikes",
        kinds=["unit"] * 4,
        regions=regions,
        duration_s=[0.7] * 3,
    )
    spiking["test"] = truth(trains, short)
    return found, spiking


def _maze(root: Path) -> tuple[Tree, dict[str, Truth]]:
    folder = root / "000140"
    found, spiking = _pair(folder, subject="Jenkins", session="small", seed=1, splits=["train"] * 4)
    return Tree(source="nlb", choices={"root": folder}, recordings=list(found.values())), spiking


def write_maze(root: Path) -> Tree:
    """A pair without validation trials."""
    return _maze(root)[0]


def spikes(root: Path, *, variant: str = "small") -> tuple[Tree, dict[str, Truth]]:
    """Part → for each trial of the part the spike times in seconds on the file's clock, sorted, and their units.

    All from one subject; trials are the valid intervals (they are also the units' observation intervals). `variant`:
    "small", "large" (training and validation trials take turns) or "rtt" (trials follow each other without a pause).
    """
    return {"small": _maze, "large": _large, "rtt": _rtt}[variant](root)


def _large(root: Path) -> tuple[Tree, dict[str, Truth]]:
    folder = root / "000138"
    splits = ["train", "val", "train", "train", "val"]
    found, spiking = _pair(folder, subject="Jenkins", session="large", seed=5, splits=splits)
    return Tree(source="nlb", choices={"root": folder}, recordings=list(found.values())), spiking


def write_validation_trials(root: Path) -> Tree:
    """Training and validation trials lie in one file; what a trial is for is told by its row."""
    return _large(root)[0]


def _rtt(root: Path) -> tuple[Tree, dict[str, Truth]]:
    folder = root / "000129"
    spans = _spans(4, every_s=0.6, length_s=0.6)
    trains = spike_times(5, spans, per_s=8, seed=9, grid_s=0.001)
    file = nwb_file("Indy")
    regions = _units(file, trains, spans)
    file.add_trial_column("split", "part")
    for a, b in spans:
        file.add_trial(start_time=a, stop_time=b, split="train")
    _behaviour(file, spans, ["cursor_pos", "finger_pos", "finger_vel"])
    save(file, folder / "sub-Indy/sub-Indy_desc-train_behavior+ecephys.nwb")
    expected = Expected(
        subject="Indy",
        session=None,
        part="train",
        modality="spikes",
        kinds=["unit"] * 5,
        regions=regions,
        duration_s=[0.6] * 4,
    )
    return Tree(source="nlb", choices={"root": folder}, recordings=[expected]), {"train": truth(trains, spans)}


def write_rtt(root: Path) -> Tree:
    """The random-target set: another monkey, finger velocity, no session in the name, none of the maze's columns."""
    return _rtt(root)[0]
