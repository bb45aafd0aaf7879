"""NWB files by pynwb: units, trials and behaviour; ElectricalSeries; RoiResponseSeries.

`write…` are read by the generic test, which cannot read spikes; `spikes` says which there are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pynwb import NWBFile
from pynwb.behavior import Position, SpatialSeries
from pynwb.ecephys import LFP, ElectricalSeries
from pynwb.misc import Units
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, OpticalChannel

from ..expected import Expected, Tree
from ._nwb import Truth, add_electrodes, nwb_file, save, series, spike_times, truth

REGIONS = ["M1", "PMd", "M1"]


def _tree(root: Path, recordings: list[Expected], rejected: list[str | tuple[str, str]] | None = None) -> Tree:
    return Tree(source="nwb", choices={"root": root}, recordings=recordings, rejected=rejected or [])


def _behaviour(file: NWBFile, *, duration_s: float) -> None:
    times = np.arange(0, duration_s, 0.01)
    position = SpatialSeries(
        name="hand", data=np.c_[np.sin(times), np.cos(times)] * 100, timestamps=times, conversion=0.001, unit="meters",
        reference_frame="screen",
    )  # fmt: skip
    module = file.create_processing_module("behavior", "hand")
    module.add(Position(spatial_series=position))


def _sorted_units(root: Path) -> tuple[Expected, Truth]:
    """Units of two regions, trials and behaviour; one unit is silent.

    120 and 80 spikes: the index of the ragged column is stored as uint8 and must not wrap.
    """
    file = nwb_file("A", session="one")
    add_electrodes(file, REGIONS)
    first, third = spike_times(2, [(0.0, 20.0)], per_s=6, seed=1)
    trains = [first[:120], np.zeros(0), third[:80]]
    file.add_unit_column("quality", "of the sorting")
    for i, (times, quality) in enumerate(zip(trains, ["good", "good", "mua"], strict=True)):
        file.add_unit(spike_times=times, electrodes=[i], quality=quality)
    _behaviour(file, duration_s=20.0)
    save(file, root / "sub-A/sub-A_ses-one_behavior+ecephys.nwb")
    return Expected(subject="A", session=None, modality="spikes", kinds=["unit"] * 3, regions=REGIONS), truth(
        trains, [(0.0, 20.0)]
    )


def _observed(root: Path) -> tuple[Expected, Truth]:
    """Units observed in two spans, the same for all; no electrodes, no trials."""
    spans = [(0.0, 8.0), (10.0, 15.0)]
    file = nwb_file("B")
    trains = spike_times(2, spans, per_s=5, seed=2)
    for times in trains:
        file.add_unit(spike_times=times, obs_intervals=np.array(spans))
    save(file, root / "sub-B/sub-B_ecephys.nwb")
    return Expected(subject="B", session=None, modality="spikes", kinds=["unit"] * 2, duration_s=[8.0, 5.0]), truth(
        trains, spans
    )


def write_units(root: Path) -> Tree:
    return _tree(root, [_sorted_units(root)[0], _observed(root)[0]])


def spikes(root: Path) -> tuple[Tree, dict[str, Truth]]:
    """Subject → for each valid interval the spike times in seconds from the recording's start, sorted, and their units.

    Subject A has no observation intervals: one interval, from 0 to at least the last spike. Subject B has two, the
    observation intervals; the clock runs on between them.
    """
    a, b = _sorted_units(root), _observed(root)
    return _tree(root, [a[0], b[0]]), {"A": a[1], "B": b[1]}


def write_trials(root: Path) -> Tree:
    """Trials with a stimulus and an outcome, beside units."""
    file = nwb_file("C")
    for times in spike_times(2, [(0.0, 12.0)], per_s=5, seed=3):
        file.add_unit(spike_times=times)
    file.add_trial_column("go_cue_time", "s")
    file.add_trial_column("success", "whether")
    for start in (1.0, 4.0, 7.5):
        file.add_trial(start_time=start, stop_time=start + 2, go_cue_time=start + 0.5, success=start != 4.0)
    save(file, root / "sub-C/sub-C_behavior+ecephys.nwb")
    return _tree(root, [Expected(subject="C", session=None, modality="spikes", kinds=["unit"] * 2)])


def write_electrical_series(root: Path) -> Tree:
    """Volts = stored × conversion × each channel's own factor + offset; µV come out.

    One file has a rate; the other has time stamps that start late, inside an LFP container.
    """
    rng = np.random.default_rng(4)
    recordings = []
    for subject, factors in [("E", None), ("F", np.array([1.0, 2.0, 0.5]))]:
        file = nwb_file(subject)
        regions = ["STN", "M1", "M1"]
        add_electrodes(file, regions)
        stored = rng.integers(-3000, 3000, (1500, 3)).astype(np.int16)
        where = file.create_electrode_table_region(list(range(3)), "all")
        clock = {"rate": 500.0, "starting_time": 0.0} if subject == "E" else {"timestamps": 5.0 + np.arange(1500) / 250}
        facts = {"name": "ElectricalSeries", "data": stored, "electrodes": where, "conversion": 1.95e-7, "offset": 1e-5}
        facts |= {"channel_conversion": factors, **clock}
        if subject == "E":
            file.add_acquisition(ElectricalSeries(**facts))
        else:
            lfp = LFP()
            file.create_processing_module("ecephys", "lfp").add(lfp)
            lfp.create_electrical_series(**facts)
        save(file, root / f"sub-{subject}/sub-{subject}_ecephys.nwb")
        volts = stored * 1.95e-7 * (1.0 if factors is None else factors) + 1e-5
        recordings.append(
            Expected(
                subject=subject,
                session=None,
                modality="ieeg",
                rate_hz=500.0 if subject == "E" else 250.0,
                units=["uV"] * 3,
                n_samples=[1500],
                values={0: volts * 1e6},
                regions=regions,
            )
        )
    return _tree(root, recordings)


def write_calcium(root: Path) -> Tree:
    """A RoiResponseSeries is found by its type: here under dF/F, and under a name of its own."""
    rng = np.random.default_rng(5)
    recordings = []
    for subject, name in [("G", "DfOverF"), ("H", "CalciumActivity")]:
        file = nwb_file(subject)
        optical = OpticalChannel(name="channel", description="green", emission_lambda=510.0)
        plane = file.create_imaging_plane(
            name="plane", optical_channel=optical, description="one", device=file.create_device(name="scope"),
            excitation_lambda=920.0, indicator="GCaMP6s", location="VISp",
        )  # fmt: skip
        module = file.create_processing_module("ophys", "traces")
        segmentation = ImageSegmentation()
        module.add(segmentation)
        table = segmentation.create_plane_segmentation(name="cells", description="all", imaging_plane=plane)
        for i in range(4):
            mask = np.zeros((5, 5))
            mask[i, i] = 1
            table.add_roi(image_mask=mask)
        traces = rng.normal(size=(200, 4))
        rois = table.create_roi_table_region("all", region=list(range(4)))
        box = DfOverF() if subject == "G" else Fluorescence(name=name)
        module.add(box)
        box.create_roi_response_series(name="traces", data=traces, rois=rois, unit="n.a.", rate=10.0, starting_time=0.0)
        save(file, root / f"sub-{subject}/sub-{subject}_ophys.nwb")
        recordings.append(
            Expected(
                subject=subject,
                session=None,
                modality="calcium",
                rate_hz=10.0,
                kinds=["calcium"] * 4,
                n_samples=[200],
                values={0: traces},
            )
        )
    return _tree(root, recordings)


def write_bad(root: Path) -> Tree:
    """An empty unit table, times out of order, a time before the start, nothing to read at all; and one good file."""
    file = nwb_file("empty")
    file.units = Units(name="units", description="none")
    save(file, root / "sub-empty/sub-empty_ecephys.nwb")
    for subject, times in [
        ("unsorted", [0.5, 2.0, 1.5, 3.0]),
        ("negative", [-0.25, 0.5, 1.0]),
        ("fine", [0.25, 0.5, 1.0]),
    ]:
        file = nwb_file(subject)
        file.add_unit(spike_times=np.array([0.1, 0.2]))
        file.add_unit(spike_times=np.array(times))
        save(file, root / f"sub-{subject}/sub-{subject}_ecephys.nwb")
    file = nwb_file("nothing")
    file.add_acquisition(series("temperature", np.zeros(5), rate_hz=1.0))
    save(file, root / "sub-nothing/sub-nothing_behavior.nwb")
    good = Expected(subject="fine", session=None, modality="spikes", kinds=["unit"] * 2)
    rejected = [
        ("sub-empty_ecephys.nwb", "unit table is empty"),
        ("sub-unsorted_ecephys.nwb", "not sorted"),
        ("sub-negative_ecephys.nwb", "negative"),
        ("sub-nothing_behavior.nwb", "no units"),
    ]
    return _tree(root, [good], rejected)
