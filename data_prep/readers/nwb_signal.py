"""The signal of an NWB file that is no list of spikes: an electrical series (LFP, ECoG) or calcium traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.readers.nwb_channels import electrode_facts
from data_prep.readers.nwb_series import Series, series_of
from data_prep.readers.nwb_units import Spans
from neurofm.schema.errors import DataError, nearest
from neurofm.schema.recording import Channel, Stream

if TYPE_CHECKING:
    from pynwb import NWBFile

SIGNALS = ("units", "electrical", "roi")
MICROVOLT = 1e6
# containers whose series is meant when a file holds others too, the first that is there
PREFERRED = {"ElectricalSeries": ("LFP",), "RoiResponseSeries": ("DfOverF", "Fluorescence")}
NAMES = ("channel_name", "label", "electrode_name", "name")

Found = tuple[Stream, Spans, tuple[str, ...]]


def signal_kind(nwb: NWBFile) -> str:
    """Return the first kind of signal that a file has.

    Raises
    ------
    DataError
        When it has none.
    """
    if nwb.units is not None and len(nwb.units.id):
        return "units"
    for kind, type_name in (("electrical", "ElectricalSeries"), ("roi", "RoiResponseSeries")):
        if found(nwb, type_name):
            return kind
    empty = "its unit table is empty, and it" if nwb.units is not None else "it"
    raise DataError(f"{empty} has no units, no ElectricalSeries and no RoiResponseSeries")


def found(nwb: NWBFile, type_name: str) -> list[Any]:
    """Return the series of a type, sorted by name."""
    from pynwb.ecephys import SpikeEventSeries

    series = [
        o for o in nwb.objects.values()
        if any(c.__name__ == type_name for c in type(o).__mro__) and not isinstance(o, SpikeEventSeries)
    ]  # fmt: skip
    return sorted(series, key=lambda o: (str(o.name), o.object_id))


def the_one(nwb: NWBFile, type_name: str, wanted: str | None) -> Any:
    """Return the series that is meant.

    Raises
    ------
    DataError
        When there is none of that name, or several and none is named.
    """
    there = found(nwb, type_name)
    names = [str(o.name) for o in there]
    if not there:
        raise DataError(f"it has no {type_name}")
    if wanted is not None:
        if wanted not in names:
            raise DataError(f"it has no {type_name} '{wanted}': {nearest(wanted, names)}")
        return there[names.index(wanted)]
    for container in PREFERRED[type_name]:
        inside = [o for o in there if type(o.parent).__name__ == container]
        if inside:
            there = inside
            break
    if len(there) > 1:
        raise DataError(
            f"it has {len(there)} {type_name} ({', '.join(str(o.name) for o in there[:6])}); name one with source.series"
        )
    return there[0]


def electrical_stream(nwb: NWBFile, *, series: str | None, kind: str, holes: Spans) -> Found:
    """Return an ElectricalSeries in µV: (data · conversion · channel_conversion + offset) volts, times 10⁶."""
    ts = the_one(nwb, "ElectricalSeries", series)
    described = series_of(ts)
    rows = np.asarray(ts.electrodes.data[:], np.int64)
    table = ts.electrodes.table
    if len(rows) != len(described.columns):
        raise DataError(f"series '{ts.name}': {len(rows)} electrodes for {len(described.columns)} columns")
    facts = electrode_facts(table)
    names = _names(table, rows)
    channels = tuple(Channel(name=n, kind=kind, unit="uV", **facts[r]) for n, r in zip(names, rows, strict=True))
    return _regular(described, channels, "uV", MICROVOLT, holes)


def roi_stream(nwb: NWBFile, *, series: str | None, owner: str, holes: Spans) -> Found:
    """Return calcium traces of regions of interest."""
    ts = the_one(nwb, "RoiResponseSeries", series)
    described = series_of(ts)
    rows = np.asarray(ts.rois.data[:], np.int64)
    if len(rows) != len(described.columns):
        raise DataError(
            f"series '{ts.name}': {len(rows)} regions of interest for {len(described.columns)} columns; expected data "
            "(time, region)"
        )
    ids = [str(ts.rois.table.id[int(r)]) for r in rows]
    channels = tuple(Channel(name=i, canonical=f"{owner}/{i}", kind="calcium", unit="au") for i in ids)
    return _regular(described, channels, "au", 1.0, holes)


def _names(table: Any, rows: np.ndarray) -> list[str]:
    """Names of electrodes, where a column gives every one its own; else their ids."""
    for column in NAMES:
        if column in table.colnames:
            names = [str(table[column][int(r)]) for r in rows]
            if len(set(names)) == len(names) and all(names):
                return names
    return [str(table.id[int(r)]) for r in rows]


def _regular(series: Series, channels: tuple[Channel, ...], unit: str, factor: float, holes: Spans) -> Found:
    """Samples as they are where the clock is regular; else on the grid of the median interval, NaN in gaps."""
    line = series.timeline
    rate, start_s = line.rate_hz, line.start_s
    if start_s < 0:
        raise DataError(f"series '{series.name}' begins at {start_s:g} s; expected 0 or later")
    n = line.n if line.is_regular else int(np.floor((line.stop_s - start_s) * rate + 1e-6))
    pieces = _pieces(n, start_s, rate, holes)
    values: Callable[[int, int], np.ndarray] = series.values if line.is_regular else _gridded(series)

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        first = pieces[interval][0]
        return values(first + start, first + stop) * factor

    stream = Stream(
        name="signal",
        unit=unit,
        rate_hz=rate,
        channels=channels,
        n_samples=tuple(b - a for a, b in pieces),
        read=read,
    )
    spans = tuple((start_s + a / rate, start_s + b / rate) for a, b in pieces)
    return stream, spans, (series.place,)


def _gridded(series: Series) -> Callable[[int, int], np.ndarray]:
    line = series.timeline

    def values(a: int, b: int) -> np.ndarray:
        return series.at(line.start_s + np.arange(a, b) / line.rate_hz)

    return values


def _pieces(n: int, start_s: float, rate_hz: float, holes: Spans) -> list[tuple[int, int]]:
    """Samples outside of every hole."""
    pieces, at = [], 0
    for a, b in sorted(holes):
        first = max(at, min(n, int(np.ceil((a - start_s) * rate_hz - 1e-6))))
        stop = max(at, min(n, int(np.ceil((b - start_s) * rate_hz - 1e-6))))
        if first > at:
            pieces.append((at, first))
        at = max(at, stop)
    if at < n:
        pieces.append((at, n))
    if not pieces:
        raise DataError("no valid time is left: its invalid_times cover everything")
    return pieces
