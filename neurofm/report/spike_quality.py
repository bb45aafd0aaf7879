"""The part of a dataset's quality report that is about events: rates, intervals, units × sessions, an example."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.report.content import Drawing, Section, Table
from neurofm.report.figures_spikes import INTERVALS_S, REFRACTORY_S, population_overview, raster, units_by_session

# of each recording so much is looked at, and of so many recordings, so that a report takes minutes
LOOKED_AT_S = 600.0
RECORDINGS = 40
GROUPS = 8
EXAMPLE_S = 10.0
EXAMPLE_UNITS = 120


def spikes_section(dataset: Dataset, recordings: Sequence[str]) -> Section:
    """Return the section about these recordings, whose signal is a list of events."""
    looked_at = recordings[:RECORDINGS]
    rates: dict[str, list[np.ndarray]] = defaultdict(list)
    intervals: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(INTERVALS_S) - 1))
    rows = []
    for r in looked_at:
        n_units, (start_s, stop_s) = len(dataset.channels(r)), longest(dataset, r)
        if n_units == 0:
            continue
        stop_s = min(stop_s, start_s + LOOKED_AT_S)
        time_s, unit = dataset.read_events(r, start_s, stop_s)
        rate = np.bincount(unit, minlength=n_units) / (stop_s - start_s)
        gaps = intervals_of(time_s, unit)
        rates[dataset.subject(r)].append(rate)
        intervals[dataset.subject(r)] += np.histogram(gaps, INTERVALS_S)[0]
        soon = float((gaps < REFRACTORY_S).mean()) if len(gaps) else float("nan")
        rows.append((r, n_units, stop_s - start_s, *np.quantile(rate, [0, 0.5, 1]), int((rate == 0).sum()), 100 * soon))
    groups = sorted(rates)[:GROUPS]
    drawings: list[tuple[Drawing, str]] = []
    if groups:
        overview = population_overview(
            rates={g: np.concatenate(rates[g]) for g in groups}, intervals={g: intervals[g] for g in groups}
        )
        drawings = [
            (overview, "Intervals left of the dotted line are no neuron's: spikes of others, or counted twice.")
        ]
        drawings.append((example_of(dataset, rows[0][0]), f"The first seconds of {rows[0][0]}."))
    drawings.append((sessions_of(dataset, recordings), "Good units; units of one name in two sessions count in both."))
    columns = ["recording", "units", "seconds looked at", "least spikes/s", "median", "most", "silent units",
               f"intervals below {1000 * REFRACTORY_S:g} ms (%)"]  # fmt: skip
    more = len(recordings) - len(looked_at)
    return Section(
        title="Spikes",
        lead="How often units fire, how soon again, an example, and how many there are where."
        + (f" Figures of the first {len(looked_at)} recordings; {more} more are in the dataset." if more else ""),
        drawings=drawings,
        tables=[Table(caption="Recordings", columns=columns, rows=rows)],
    )


def intervals_of(time_s: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Seconds between successive spikes of the same unit, of all units; `time_s` is sorted."""
    order = np.argsort(unit, kind="stable")
    same = np.diff(unit[order]) == 0
    return np.diff(time_s[order])[same]


def example_of(dataset: Dataset, recording_id: str) -> Drawing:
    """Raster of the beginning of a recording's longest interval."""
    start_s, stop_s = longest(dataset, recording_id)
    stop_s = min(stop_s, start_s + EXAMPLE_S)
    time_s, unit = dataset.read_events(recording_id, start_s, stop_s)
    n_units = min(len(dataset.channels(recording_id)), EXAMPLE_UNITS)
    shown = unit < n_units
    return raster(time_s[shown], unit[shown], n_units=n_units, span_s=(start_s, stop_s))


def sessions_of(dataset: Dataset, recordings: Sequence[str]) -> Drawing:
    """Good units of each subject in each session; of several recordings of a session the most."""
    counts: dict[tuple[str, str], int] = {}
    for r in recordings:
        key = (dataset.subject(r), str(dataset.recordings[r]["session"]) or "no session")
        counts[key] = max(counts.get(key, 0), len(dataset.channels(r)))
    subjects, sessions = (sorted({k[i] for k in counts}) for i in (0, 1))
    cells = [[counts.get((a, b), -1) for b in sessions] for a in subjects]
    return units_by_session(cells, subjects=subjects, sessions=sessions)


def longest(dataset: Dataset, recording_id: str) -> tuple[float, float]:
    """Return start and stop in seconds of a recording's longest valid interval."""
    return max(dataset.valid(recording_id), key=lambda v: v[1] - v[0])
