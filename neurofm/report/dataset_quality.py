"""The quality report of a prepared dataset: spectra, traces, positions, missing channels, as one HTML page."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.report.content import Claim, Drawing, Report, Section, Table
from neurofm.report.figures_quality import channel_matrix, sensor_positions
from neurofm.report.figures_signals import dataset_overview
from neurofm.report.html import write_report
from neurofm.report.spike_quality import spikes_section
from neurofm.schema.words import ODD_SCALE, counted, some

SPECTRA = 12  # subjects whose spectra are drawn
TRACES = 8  # channels of the example
EXAMPLE_S = 10.0
EXAMPLE_SAMPLES = 5000
# Spectra are of at most this much of a recording, so that the report of a large dataset takes minutes, not days.
SPECTRUM_SAMPLES = 120_000
USABLE = 0.9


def write_quality_report(dataset: str | Path, folder: str | Path) -> Path:
    """Write the report of the dataset at a folder or URL into `folder`; return the page.

    Raises
    ------
    DataError
        When the dataset is not whole.
    """
    opened = Dataset(dataset)
    return write_report(folder, quality_report(opened))


def quality_report(dataset: Dataset) -> Report:
    """Return the report; a few spans of a few recordings are read, the rest comes from the tables."""
    channels = [c for r in dataset.recordings for c in dataset.channels(r, include_bad=True)]
    bad = sum(bool(c["bad"]) for c in channels)
    regular = [r for r in dataset.recordings if not dataset.is_events(r)]
    spiking = [r for r in dataset.recordings if dataset.is_events(r)]
    rates = Counter(dataset.rate_hz(r) for r in regular)
    reasons = Counter(r["reason"] for r in dataset.rejected)
    hours = sum(r["duration_s"] for r in dataset.recordings.values()) / 3600
    usable = 1 - bad / max(len(channels), 1)
    claims = [
        Claim(text="No recording was rejected.", held=not dataset.rejected, detail=f"{len(dataset.rejected)} rejected"),
        Claim(
            text=f"At least {USABLE:.0%} of the channels are usable.",
            held=usable >= USABLE,
            detail=f"{bad} of {len(channels)} are bad",
        ),
        Claim(
            text="All recordings have one sampling rate.",
            held=len(rates) == 1 if rates else None,
            detail=", ".join(f"{n} at {r:g} Hz" for r, n in sorted(rates.items())) or "events have none",
        ),
    ]
    odd, compared = _oddly_scaled(dataset)
    claims.append(
        Claim(
            text="No channel is far off the scale of its kind in its recording.",
            held=not odd if compared else None,
            detail=some(odd) if odd else f"amplitudes compared in {counted(compared, 'recording')}",
        )
    )
    positions = positions_of(dataset)
    sections = []
    if regular:
        lead = "How much there is of whom, an example, and power spectra (mean over good channels)."
        caption = "Line noise is a peak at 50 or 60 Hz, a filter a cliff."
        sections.append(Section(title="Signals", lead=lead, drawings=[(overview_of(dataset, regular), caption)]))
    if spiking:
        sections.append(spikes_section(dataset, spiking))
    sections += [
        Section(
            title="Channels",
            lead="Which channels are there, bad or missing in which recording, by their shared names.",
            drawings=[(matrix_of(dataset), "A row that changes is a channel that not every recording has.")],
        ),
        Section(
            title="Sensors",
            lead="Where sensors are, over all recordings." if positions else "No channel has a position.",
            drawings=[(positions, "In the coordinate frame that the source states.")] if positions else [],
        ),
        Section(title="Quality figures", tables=[_figures(dataset)]),
    ]
    if reasons:
        rows = [(n, reason) for reason, n in reasons.most_common()]
        sections.append(
            Section(title="Rejected", tables=[Table(caption="Why", columns=["recordings", "reason"], rows=rows)])
        )
    manifest = dataset.manifest
    return Report(
        title=f"Quality of {dataset.id}",
        subtitle=f"{counted(len(dataset.recordings), 'recording')} of {counted(len(dataset.subjects), 'subject')}, {hours:.2f} h",
        claims=claims,
        sections=sections,
        facts={"licence": manifest.licence or "not stated", "prep": manifest.prep_hash,
               "content": manifest.content_hash},
    )  # fmt: skip


def overview_of(dataset: Dataset, recordings: Sequence[str]) -> Drawing:
    """Minutes per subject, an example, and one spectrum per subject (the first `SPECTRA`), of these recordings."""
    minutes: dict[str, float] = defaultdict(float)
    first: dict[str, str] = {}
    for r in recordings:
        subject = dataset.subject(r)
        minutes[subject] += dataset.recordings[r]["duration_s"] / 60
        first.setdefault(subject, r)
    shown = sorted(minutes, key=lambda s: -minutes[s])[:30]
    spectra = {s: spectrum(dataset, first[s]) for s in sorted(first)[:SPECTRA]}
    r = recordings[0]
    rate = dataset.rate_hz(r)
    start_s, n = _longest(dataset, r)
    n = min(n, EXAMPLE_SAMPLES, max(2, round(EXAMPLE_S * rate)))
    names = [c["name"] for c in dataset.channels(r)][:TRACES]
    units = Counter(c["unit"] for c in dataset.channels(r))
    return dataset_overview(
        minutes={s: minutes[s] for s in sorted(shown)},
        example=dataset.read(r, start_s, n)[:, : len(names)],
        rate_hz=rate,
        channels=names,
        spectra=spectra,
        name="signals",
        unit=units.most_common(1)[0][0],
    )


def spectrum(dataset: Dataset, recording_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz and mean power density over the good channels of a recording's longest interval (Welch)."""
    from scipy.signal import welch

    start_s, n = _longest(dataset, recording_id)
    values = dataset.read(recording_id, start_s, min(n, SPECTRUM_SAMPLES)).astype(np.float64)
    rate = dataset.rate_hz(recording_id)
    frequency, density = welch(values, fs=rate, nperseg=min(len(values), max(64, round(4 * rate))), axis=0)
    return frequency, density.mean(axis=1)


def matrix_of(dataset: Dataset) -> Drawing:
    """The state of every channel in every recording."""
    state: dict[str, dict[str, int]] = defaultdict(dict)
    for r in dataset.recordings:
        for c in dataset.channels(r, include_bad=True):
            state[c["canonical"] or c["name"]][r] = 1 if c["bad"] else 2
    recordings = list(dataset.recordings)
    cells = [[state[c].get(r, 0) for r in recordings] for c in state]
    return channel_matrix(cells, channels=list(state), recordings=recordings)


def positions_of(dataset: Dataset) -> Drawing | None:
    """Mean position of every sensor in its frame, and how often it is bad; None when none is known."""
    places: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    bad: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for r, about in dataset.recordings.items():
        for c in dataset.channels(r, include_bad=True):
            xyz = [c["x"], c["y"], c["z"]]
            if np.isfinite(xyz).all():
                # intracranial contacts of one name are elsewhere in every brain
                own = about["subject"] if c["kind"] in ("ecog", "seeg", "dbs", "lfp") else ""
                key = (str(c["frame"] or "unknown"), f"{own} {c['canonical'] or c['name']}".strip())
                places[key].append(xyz)
                bad[key].append(bool(c["bad"]))
    if not places:
        return None
    frames: dict[str, Any] = {}
    labels: list[str] = []
    for frame in sorted({f for f, _ in places}):
        keys = sorted(k for k in places if k[0] == frame)
        frames[frame] = ([np.mean(places[k], axis=0) for k in keys], [np.mean(bad[k]) for k in keys])
        labels += [name for _, name in keys]
    return sensor_positions(frames, labels=labels)


def _oddly_scaled(dataset: Dataset) -> tuple[list[str], int]:
    """Channels that `prep` found far from the median of their kind, as sentences, and in how many recordings it compared."""
    found, compared = [], 0
    for r, about in dataset.recordings.items():
        n = json.loads(about["quality"] or "{}").get("odd_scale")
        compared += n is not None
        if not n:
            continue
        named = [c for c in dataset.channels(r, include_bad=True) if ODD_SCALE in c["reason"]]
        # a new reference takes the place of the channels it was found in
        found += [f"{r}: {c['name']}, {c['reason']}" for c in named] or [f"{r}: {n:g} before it was re-referenced"]
    return found, compared


def _figures(dataset: Dataset) -> Table:
    values: dict[str, list[float]] = defaultdict(list)
    for about in dataset.recordings.values():
        for name, value in json.loads(about["quality"] or "{}").items():
            values[name].append(float(value))
    rows = [(name, len(v), *(float(q) for q in np.quantile(v, [0, 0.5, 1]))) for name, v in sorted(values.items())]
    columns = ["figure", "recordings", "least", "median", "most"]
    return Table(caption="Over recordings", columns=columns, rows=rows)


def _longest(dataset: Dataset, recording_id: str) -> tuple[float, int]:
    """Start in seconds and length in samples of a recording's longest interval."""
    lengths = dataset.interval_samples(recording_id)
    i = int(np.argmax(lengths))
    return dataset.valid(recording_id)[i][0], lengths[i]
