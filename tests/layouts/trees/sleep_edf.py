"""Sleep-EDF Expanded: a polysomnogram and a hypnogram a night, paired by the first seven characters."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from neurofm.schema.recording import Recording

from ..expected import Expected, Piece, Tree
from ..formats.edf import microvolts, put_edf

EEG = ["EEG Fpz-Cz", "EEG Pz-Oz"]
# whichever way a reader spells them: as in the file, or with 3 and 4 joined
STAGES = {
    "W": r"(?i)(\bW|wake)$",
    "1": r"(?i)(stage |\bN?)1$",
    "2": r"(?i)(stage |\bN?)2$",
    "3": r"(?i)(stage |\bN?)3$",
    "4": r"(?i)(stage 4|\bN3|\b3|\b4)$",
    "R": r"(?i)(\bR|rem)$",
}


def night(root: Path, rng: np.random.Generator, folder: str, psg: str, hypnogram: str, stages: list[tuple[str, int]]):
    """Write one night of 30-s pages; return its EEG and (stage, start, stop) of what was recorded."""
    n_s = 240
    values = microvolts(rng, n_s * 100, 2)
    slow = folder == "sleep-cassette"
    others = [("EOG horizontal", microvolts(rng, n_s * 100, 1)[:, 0], 100.0)]
    if slow:
        others += [(n, np.full(n_s, 1.0 + i), 1.0) for i, n in enumerate(("Resp oro-nasal", "EMG submental"))]
        others += [("Temp rectal", np.full(n_s, 37.0), 1.0), ("Event marker", np.zeros(n_s), 1.0)]
    else:
        others += [("EMG submental", microvolts(rng, n_s * 100, 1)[:, 0], 100.0), ("Marker", np.zeros(n_s), 1.0)]
    put_edf(root / folder / psg, values, rate_hz=100, names=EEG, others=others, record_s=30)
    notes, at = [], 0
    for stage, length in stages:
        text = "Movement time" if stage == "M" else f"Sleep stage {stage}"
        notes.append((float(at), float(length), text))
        at += length
    put_edf(root / folder / hypnogram, None, notes=notes)
    spans = [(text[-1], a, min(a + d, n_s)) for a, d, text in notes if text.startswith("Sleep") and a < n_s]
    return values, spans


def write(root: Path) -> Tree:
    rng = np.random.default_rng(5)
    cassette, telemetry = "sleep-cassette", "sleep-telemetry"
    # the hypnogram runs on after the signal, and its last stage crosses the end
    first = [("W", 30), ("1", 60), ("2", 30), ("M", 30), ("3", 30), ("4", 30), ("R", 90), ("?", 600)]
    second = [("?", 30), ("W", 60), ("2", 60), ("3", 60), ("W", 30), ("?", 3000)]
    nights = [
        # two nights of one person, scored by different people
        (cassette, "SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf", first),
        (cassette, "SC4002E0-PSG.edf", "SC4002EH-Hypnogram.edf", second),
        (cassette, "SC4561F0-PSG.edf", "SC4561FJ-Hypnogram.edf", second),
        (cassette, "SC4811G0-PSG.edf", "SC4811GG-Hypnogram.edf", first),
        # number 00 of the other study is another person
        (telemetry, "ST7001J0-PSG.edf", "ST7001JP-Hypnogram.edf", first),
        (telemetry, "ST7002J0-PSG.edf", "ST7002JP-Hypnogram.edf", second),
    ]
    recordings, spans = [], {}
    for folder, psg, hypnogram, stages in nights:
        values, spans[psg] = night(root, rng, folder, psg, hypnogram, stages)
        recordings.append(
            Expected(
                subject=None, session=None, file=psg, part="", modality="eeg", rate_hz=100, electrodes=EEG,
                kinds=["eeg"] * 2, units=["uV"] * 2, n_samples=[len(values)], pieces=[Piece(values=values)],
            )
        )  # fmt: skip

    def also(read: list[Recording]) -> None:
        by_file = {Path(r.source_file).name: r for r in read}
        people = {psg: r.subject for psg, r in by_file.items()}
        assert people["SC4001E0-PSG.edf"] == people["SC4002E0-PSG.edf"]
        assert people["ST7001J0-PSG.edf"] == people["ST7002J0-PSG.edf"]
        assert len(set(people.values())) == 4, people
        for psg, recording in by_file.items():
            for stage, start, stop in spans[psg]:
                if stage not in STAGES:
                    continue
                for t in (start + 0.5, (start + stop) / 2 + 0.25, stop - 0.5):
                    labels = [e.label for e in recording.events if e.onset_s <= t < e.onset_s + e.duration_s]
                    assert len(labels) == 1, (psg, t, labels)
                    assert re.search(STAGES[stage], labels[0]), (psg, t, labels, stage)
            # nothing is said of a time that was not recorded
            assert all(e.onset_s + e.duration_s <= 240 + 1e-6 for e in recording.events), psg

    return Tree(source="sleep_edf", choices={"root": root}, recordings=recordings, also=also)
