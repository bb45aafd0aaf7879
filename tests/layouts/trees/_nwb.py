"""What the trees of NWB files share: a file of a subject, spikes of a unit, a table of electrodes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.file import Subject

Truth = list[tuple[np.ndarray, np.ndarray]]


def nwb_file(subject: str, *, session: str = "") -> NWBFile:
    """Return an empty file; dates and names are there, as in real ones, to be left behind."""
    file = NWBFile(
        session_description="miniature",
        identifier=f"{subject}-{session}",
        session_start_time=datetime(2012, 9, 24, 11, 17, tzinfo=UTC),
        session_id=session or None,
        experimenter=["Doe, Jane"],
    )
    file.subject = Subject(subject_id=subject, species="Macaca mulatta", sex="M", age="P8Y", description="none")
    return file


def save(file: NWBFile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)


def series(name: str, data: Any, *, rate_hz: float | None = None, times_s: Any = None, **rest: Any) -> TimeSeries:
    """Return a time series with either a rate or time stamps."""
    clock = {"timestamps": times_s} if rate_hz is None else {"rate": rate_hz, "starting_time": 0.0}
    return TimeSeries(name=name, data=data, unit=rest.pop("unit", "a.u."), **clock, **rest)


def add_electrodes(file: NWBFile, regions: Sequence[str]) -> None:
    """Add one electrode per region, without coordinates: they are optional."""
    device = file.create_device(name="array")
    for region in dict.fromkeys(regions):
        file.create_electrode_group(name=region, description=region, location=region, device=device)
    for region in regions:
        file.add_electrode(location=region, group=file.electrode_groups[region])


def spike_times(
    n_units: int, spans: Sequence[tuple[float, float]], *, per_s: float, seed: int, grid_s: float | None = None
) -> list[np.ndarray]:
    """Return sorted times of each unit inside `spans`, clear of their edges; on multiples of `grid_s` if given."""
    rng = np.random.default_rng(seed)
    trains = []
    for _ in range(n_units):
        times = np.concatenate([rng.uniform(a + 0.002, b - 0.002, int(per_s * (b - a))) for a, b in spans])
        trains.append(np.unique(times if grid_s is None else np.round(times / grid_s) * grid_s))
    return trains


def truth(trains: Sequence[np.ndarray], spans: Sequence[tuple[float, float]]) -> Truth:
    """Return (time_s, unit) of each span, sorted by time; times on the recording's clock."""
    times = np.concatenate(trains)
    units = np.repeat(np.arange(len(trains)), [len(t) for t in trains])
    order = np.argsort(times, kind="stable")
    times, units = times[order], units[order]
    inside = [(times >= a) & (times < b) for a, b in spans]
    return [(times[i], units[i]) for i in inside]
