"""Brain Treebank: one HDF5 per trial (``data/electrode_i``), names, bad contacts and regions beside it, words per film.

Position i of the label list names ``electrode_i``. Words are in film time; the timing track ties film time to samples
and stands still while the film is paused.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from ..expected import Expected, Tree

NAMES = ["LT1a1", "LT1a2", "LT1a3", "LT1a4", "RF2b1", "RF2b2", "RF2b3", "RF2b4"]
STORED = ["LT1a1", "*LT1a2", "LT1a3", "LT1a4#", "RF2b1", "RF2b2", "RF2b3", "RF2b4"]
REGIONS = ["superiortemporal"] * 4 + ["parsopercularis"] * 4
WORD_COLUMNS = [
    "",
    "text",
    "start",
    "end",
    "is_onset",
    "sentence",
    "idx_in_sentence",
    "pos",
    "bin_head",
    "pitch",
    "rms",
]
Word = tuple[str, float]


def _csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)


def _json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _trial(root: Path, subject: int, trial: int, *, n_electrodes: int, n_samples: int) -> np.ndarray:
    rng = np.random.default_rng(100 * subject + trial)
    values = rng.normal(scale=30.0, size=(n_samples, n_electrodes))
    with h5py.File(root / f"sub_{subject}_trial{trial:03d}.h5", "w") as file:
        for i in range(n_electrodes):
            file[f"data/electrode_{i}"] = values[:, i]
    return values


def _electrodes(root: Path, subject: int, stored: Sequence[str]) -> None:
    _json(root / f"electrode_labels/sub_{subject}/electrode_labels.json", list(stored))
    header = ["Electrode", "L", "I", "P", "DesikanKilliany", "Destrieux", "DKT"]
    rows = [[n, 60 + i, 90, 120, r, f"G_{r}", r] for i, (n, r) in enumerate(zip(NAMES, REGIONS, strict=True))]
    _csv(root / f"localization/sub_{subject}/depth-wm.csv", header, rows[::-1])  # in another order than the labels
    path = root / "localization/elec_coords_full.csv"
    known = path.read_text().splitlines()[1:] if path.exists() else []
    rows = [[f"sub_{subject}", n, -40.0 + i, -20.0, 5.0] for i, n in enumerate(NAMES)]
    _csv(path, ["Subject", "Electrode", "X", "Y", "Z"], [line.split(",") for line in known] + rows)


def _film(root: Path, subject: int, trial: int, film: str, words: Sequence[Word]) -> None:
    _json(
        root / f"subject_metadata/sub_{subject}_trial{trial:03d}_metadata.json",
        {"title": film.replace("-", " ").title(), "filename": film},
    )
    rows = [[i, w, t, t + 0.2, int(i == 0), 0, i, "NOUN", 0, 120.0, 0.1] for i, (w, t) in enumerate(words)]
    _csv(root / f"transcripts/{film}/features.csv", WORD_COLUMNS, rows)


def _timings(
    root: Path, subject: int, trial: int, rows: Sequence[tuple[str, float | str, int]], *, diff: str = ""
) -> None:
    path = root / f"subject_timings/sub_{subject}_trial{trial:03d}_timings.csv"
    _csv(path, ["type", "movie_time", "index", "diff"], [[*row, diff] for row in rows])


def _steady(rate_hz: float, *, first: int, seconds: int) -> list[tuple[str, float | str, int]]:
    """A trigger each second of film; film time 0 is at sample `first`."""
    return [("trigger", float(t), first + round(t * rate_hz)) for t in range(seconds + 1)]


def write(root: Path) -> Tree:
    """Two subjects; names with marks; more datasets than labels; a film that starts after the recording does."""
    recordings = []
    _json(root / "corrupted_elec.json", {"sub_1": [], "sub_2": []})
    for subject, trial, film, first in [(1, 2, "the-film", 1024), (2, 4, "another-film", 512)]:
        n_samples = 2048 * 5
        surplus = 2 * (subject - 1)  # as in sub_2: 164 datasets, 154 labels
        values = _trial(root, subject, trial, n_electrodes=len(NAMES) + surplus, n_samples=n_samples)
        _electrodes(root, subject, STORED)
        words = [("once", 0.25), ("upon", 0.75), ("a", 1.5), ("time", 3.125)]
        _film(root, subject, trial, film, words)
        _timings(root, subject, trial, _steady(2048, first=first, seconds=4))
        recordings.append(
            Expected(
                subject=str(subject),
                session=None,
                modality="ieeg",
                rate_hz=2048.0,
                channels=NAMES,
                kinds=["seeg"] * len(NAMES),
                n_samples=[n_samples],
                values={0: values[:, : len(NAMES)]},
                events=[(first / 2048 + t, w) for w, t in words],
                events_of_kind="word",
                regions=REGIONS,
            )
        )
    return Tree(source="brain_treebank", choices={"root": root}, recordings=recordings)


# columns of features.csv that Neuroprobe's tasks need beside those above
MORE = [
    "delta_rms", "gpt2_surprisal", "word_length", "mean_pixel_brightness", "max_global_magnitude", "max_vector_magnitude",
    "face_num",
]  # fmt: skip


def make_films(root: Path) -> Tree:
    """Two people, two films each, of those that Neuroprobe takes and one that it leaves for pretraining (sub_1 trial 0).

    A minute of speech in sentences of five words, with silences of seven seconds between stretches; all features.
    """
    _json(root / "corrupted_elec.json", {})
    for subject, trials in ((1, (0, 1, 2)), (2, (0, 4))):
        _electrodes(root, subject, NAMES)
        for trial in trials:
            rng = np.random.default_rng(10 * subject + trial)
            film = f"film-{subject}-{trial}"
            words = [8.0 * (i // 10) + 0.7 * (i % 10) + (7.0 * (i // 30)) for i in range(90)]
            _json(
                root / f"subject_metadata/sub_{subject}_trial{trial:03d}_metadata.json",
                {"title": film, "filename": film},
            )
            rows = [
                [i, "word", t, t + rng.uniform(0.2, 0.6), int(i % 5 == 0), i // 5, i % 5, ["NOUN", "VERB", "DET"][i % 3], i % 2,
                 *rng.normal(size=2), *rng.normal(size=6), i % 2]
                for i, t in enumerate(words)
            ]  # fmt: skip
            _csv(root / f"transcripts/{film}/features.csv", [*WORD_COLUMNS, *MORE], rows)
            seconds = int(words[-1]) + 9
            _trial(root, subject, trial, n_electrodes=len(NAMES), n_samples=2048 * seconds + 512)
            _timings(root, subject, trial, _steady(2048, first=512, seconds=seconds))
    return Tree(source="brain_treebank", choices={"root": root}, recordings=[])


def write_pause(root: Path) -> Tree:
    """While the film is paused, film time stands still and samples run on; unreadable rows and repeats occur.

    The film is paused at 2.5 s for 3 s. A word just after it is nearer to the rows of the pause than to the next
    trigger. Of two rows with one index the last counts.
    """
    rate, first, pause = 2048, 700, 3 * 2048
    at_pause = first + round(2.5 * rate)
    rows: list[tuple[str, float | str, int]] = [
        ("trigger", 0.0, first),
        ("trigger", 0.2, first + rate),
        ("trigger", 1.0, first + rate),
        ("trigger", "", first + rate + 300),
        ("trigger", 2.0, first + 2 * rate),
        ("pause", 2.5, at_pause),
        ("unpause", 2.5, at_pause + pause),
        ("trigger", 3.0, first + 3 * rate + pause),
        ("trigger", 4.0, first + 4 * rate + pause),
    ]
    words = [("before", 0.5), ("near", 1.1), ("ends", 2.4), ("after", 2.6), ("later", 3.5)]
    _json(root / "corrupted_elec.json", {})
    values = _trial(root, 3, 0, n_electrodes=len(NAMES), n_samples=rate * 8)
    _electrodes(root, 3, NAMES)
    _film(root, 3, 0, "paused-film", words)
    _timings(root, 3, 0, rows)
    onsets = [(first + t * rate + (pause if t > 2.5 else 0)) / rate for _, t in words]
    expected = Expected(
        subject="3",
        session=None,
        rate_hz=2048.0,
        values={0: values},
        events=[(on, w) for on, (w, _) in zip(onsets, words, strict=True)],
        events_of_kind="word",
    )
    return Tree(source="brain_treebank", choices={"root": root}, recordings=[expected])


def write_half_rate(root: Path) -> Tree:
    """Trial 0 of subject 9 has 1024 samples per second of film, though tools take 2048 for all."""
    _json(root / "corrupted_elec.json", {})
    values = _trial(root, 9, 0, n_electrodes=len(NAMES), n_samples=1024 * 6)
    _electrodes(root, 9, NAMES)
    words = [("half", 1.0), ("speed", 3.25)]
    _film(root, 9, 0, "slow-film", words)
    _timings(root, 9, 0, _steady(1024, first=256, seconds=5))
    expected = Expected(
        subject="9",
        session=None,
        rate_hz=1024.0,
        n_samples=[1024 * 6],
        values={0: values},
        events=[(0.25 + t, w) for w, t in words],
        events_of_kind="word",
    )
    return Tree(source="brain_treebank", choices={"root": root}, recordings=[expected])


def bad_and_trigger_channels(root: Path) -> tuple[Tree, list[str], dict[str, np.ndarray]]:
    """One trial of two: which channels are brain and fit to read, and the signal of each by name.

    ``DC1`` and ``TRIG1`` are no contacts; ``LT1a3`` is listed as corrupted.
    """
    stored = ["DC1", *STORED, "TRIG1"]
    _json(root / "corrupted_elec.json", {"sub_4": ["LT1a3"], "sub_1": ["RF2b1"]})
    signals = {}
    for trial, film in enumerate(["one", "two"]):
        values = _trial(root, 4, trial, n_electrodes=len(stored), n_samples=2048)
        _film(root, 4, trial, film, [("word", 0.25)])
        _timings(root, 4, trial, _steady(2048, first=0, seconds=1)[:2])
        if trial == 0:
            signals = dict(zip(["DC1", *NAMES, "TRIG1"], values.T, strict=True))
    _electrodes(root, 4, stored)
    tree = Tree(source="brain_treebank", choices={"root": root}, recordings=[])
    return tree, [n for n in NAMES if n != "LT1a3"], signals
