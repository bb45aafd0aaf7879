"""Tables of units and of electrodes in an NWB file as rows of the channel table: region, position, depth and quality."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.privacy import code_of
from neurofm.schema.recording import Channel

if TYPE_CHECKING:
    from pynwb.misc import Units

QUALITY = ("quality", "unit_quality", "group", "ks_label", "KSLabel", "kslabel", "kilosort2_label", "kilosort_label")
NOISE = ("noise", "artifact", "artefact", "bad")
REGION = ("location", "region", "brain_area", "brain_region", "area")
DEPTH = (
    "depth_um", "depth", "depths", "unit_depth", "cluster_depth", "depth_mm", "depth_m", "distance_from_probe_tip_um",
    "distance_from_probe_tip", "probe_vertical_position",
)  # fmt: skip
MICRON = 1e-6
# what the name or the description of a column may say of its unit, and the factor to the format's own, microns
LENGTHS = (
    (re.compile(r"_um\b|\bum\b|[µμ]m\b|micron|micromet"), 1.0),
    (re.compile(r"_mm\b|\bmm\b|millimet"), 1e3),
    (re.compile(r"_m\b|\bm\b|\bmet(?:re|er)s?\b"), 1e6),
)


def unit_channels(units: Units, *, owner: str, partly: dict[int, str], quality: Sequence[str] | None) -> list[Channel]:
    """One channel per unit: region, position, depth and quality where the file has them.

    Parameters
    ----------
    units : Units
        The table.
    owner : str
        What makes the unit's name unique among recordings.
    partly : dict of int to str
        Units that are bad because they were not observed throughout, and the reason.
    quality : sequence of str, optional
        Labels that are good; None = all but those that say noise.
    """
    n = len(units.id)
    label = _texts(units, QUALITY)
    region = _texts(units, REGION)
    depth = depths_um(units)
    place = _electrodes(units)
    channels = []
    for i in range(n):
        facts = dict(place[i]) if place else {}
        if region and region[i]:
            facts["region"] = region[i]
        if depth is not None and np.isfinite(depth[i]):
            facts["depth_um"] = float(depth[i])
        reasons = [partly[i]] if i in partly else []
        wrong = bool(label) and (label[i].lower() in NOISE if quality is None else label[i] not in quality)
        if wrong:
            reasons.append(f"quality '{label[i]}'")
        name = str(units.id[i])
        channels.append(
            Channel(
                name=name, canonical=f"{owner}/{name}", kind="unit", unit="au", bad=bool(reasons),
                reason="; ".join(reasons), quality=label[i] if label else "", **facts,
            )
        )  # fmt: skip
    return channels


def _texts(units: Units, names: Sequence[str]) -> list[str]:
    name = next((c for c in names if c in units.colnames), None)
    return [] if name is None else [code_of(v) for v in units[name][:]]


def _electrodes(units: Units) -> list[dict[str, Any]]:
    """Region, position and depth of each unit's first electrode."""
    if "electrodes" not in units.colnames:
        return []
    # the region behind the ragged column: reading it row by row would build a table for every unit
    region = units.electrodes
    ends = np.asarray(units.electrodes_index.data[:], np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    at = np.asarray(getattr(region, "target", region).data[:], np.int64)
    table = getattr(region, "target", region).table
    each = electrode_facts(table)
    return [each[at[a]] if b > a else {} for a, b in zip(starts, ends, strict=True)]


def depths_um(table: Any) -> np.ndarray | None:
    """Return the depth of each row in microns, NaN where a cell is no number; None where no column states one."""
    name = next((c for c in DEPTH if c in table.colnames), None)
    if name is None:
        return None
    column = table[name]
    said = (name.lower(), str(getattr(column, "description", "") or "").lower())
    factor = next((f for text in said for unit, f in LENGTHS if unit.search(text)), 1.0)
    values = np.asarray(column[:])
    # a ragged column, or words
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        return None
    return values.astype(np.float64) * factor


def electrode_facts(table: Any) -> list[dict[str, Any]]:
    """Region, position in metres (the format states microns) and depth of each row of an electrode table."""
    n = len(table.id)
    regions = [code_of(v) for v in table["location"][:]] if "location" in table.colnames else [""] * n
    facts: list[dict[str, Any]] = [{"region": "" if r.lower() in ("unknown", "none", "nan") else r} for r in regions]
    if all(c in table.colnames for c in "xyz"):
        places = np.stack([np.asarray(table[c][:], np.float64) for c in "xyz"], axis=1)
        for f, p in zip(facts, places, strict=True):
            if np.isfinite(p).all() and p.any():
                f |= {"x": float(p[0] * MICRON), "y": float(p[1] * MICRON), "z": float(p[2] * MICRON)}
    depth = depths_um(table)
    if depth is not None:
        for i in np.flatnonzero(np.isfinite(depth)):
            facts[i]["depth_um"] = float(depth[i])
    return facts
