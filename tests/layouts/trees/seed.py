"""SEED, SEED-IV (MAT files of cut trials) and SEED-V (continuous Neuroscan files)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..expected import Expected, Piece, Tree
from ..formats.cnt import STEP_UV, put_cnt
from ..montages import SEED

# label.mat, the same for every session: the films are the same
SEED_LABELS = [1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1]
SEED_WORDS = {1: re.compile(r"^(1|positive)$"), 0: re.compile(r"^(0|neutral)$"), -1: re.compile(r"^(-1|negative)$")}

SEED_IV_WORDS = ["neutral", "sad", "fear", "happy"]
SEED_IV_LABELS = {
    1: [1, 2, 3, 0, 2, 0, 0, 1, 0, 1, 2, 1, 1, 1, 2, 3, 2, 2, 3, 3, 0, 3, 0, 3],
    2: [2, 1, 3, 0, 0, 2, 0, 2, 3, 3, 2, 3, 2, 0, 1, 1, 2, 1, 0, 3, 0, 1, 3, 1],
    3: [1, 2, 2, 1, 3, 3, 3, 1, 1, 2, 1, 0, 2, 3, 3, 0, 2, 3, 0, 0, 2, 0, 1, 0],
}

SEED_V_WORDS = ["disgust", "fear", "sad", "neutral", "happy"]
SEED_V = {
    1: (
        [30, 132, 287, 555, 773, 982, 1271, 1628, 1730, 2025, 2227, 2435, 2667, 2932, 3204],
        [102, 228, 524, 742, 920, 1240, 1568, 1697, 1994, 2166, 2401, 2607, 2901, 3172, 3359],
        [4, 1, 3, 2, 0] * 3,
    ),
    2: (
        [30, 299, 548, 646, 836, 1000, 1091, 1392, 1657, 1809, 1966, 2186, 2333, 2490, 2741],
        [267, 488, 614, 773, 967, 1059, 1331, 1622, 1777, 1908, 2153, 2302, 2428, 2709, 2817],
        [2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0],
    ),
}


def put_trials(path: Path, rng: np.random.Generator, *, initials: str, n_trials: int, n_first: int) -> list[np.ndarray]:
    """Write trials of different lengths, 62 × T in µV, in an order that is not theirs; return them (time, channel)."""
    from scipy.io import savemat

    trials = [np.round(rng.normal(0, 20, (n_first + 4 * k, 62)), 3) for k in range(n_trials)]
    order = [*range(9, n_trials), *range(9)]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {f"{initials}_eeg{k + 1}": trials[k].T for k in order})
    return trials


def put_features(path: Path, rng: np.random.Generator, n_trials: int) -> None:
    """Write the features that come along: no recording."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{f}_{s}{k + 1}" for f in ("de", "psd") for s in ("LDS", "movingAve") for k in range(n_trials)]
    savemat(path, {name: rng.normal(size=(62, 3, 5)) for name in names})


def write_seed(root: Path) -> Tree:
    from scipy.io import savemat

    rng = np.random.default_rng(11)
    folder = root / "Preprocessed_EEG"
    recordings = []
    # the session is the rank of the date; in the order of names 10 comes before 2, and the last was written first
    files = [
        ("10", "20131211", "3", "ww"), ("10", "20131130", "1", "ww"), ("10", "20131204", "2", "ww"),
        ("2", "20140413", "2", "jl"), ("2", "20140404", "1", "jl"), ("2", "20140419", "3", "jl"),
    ]  # fmt: skip
    for subject, date, session, initials in files:
        trials = put_trials(folder / f"{subject}_{date}.mat", rng, initials=initials, n_trials=15, n_first=200)
        put_features(root / f"ExtractedFeatures/{subject}_{date}.mat", rng, 15)
        pieces = [
            Piece(
                values=x, events=[(0.0, SEED_WORDS[y])], events_of=r"^(-?[01]|\w+tive|neutral)$", stimuli=[f"film {k}"]
            )
            for k, (x, y) in enumerate(zip(trials, SEED_LABELS, strict=True))
        ]
        recordings.append(
            Expected(
                subject=subject, session=session, part="", modality="eeg", rate_hz=200, electrodes=SEED,
                kinds=["eeg"] * 62, units=["uV"] * 62, n_samples=[len(x) for x in trials], pieces=pieces,
            )
        )  # fmt: skip
    savemat(folder / "label.mat", {"label": np.array([SEED_LABELS], np.int16)})
    (folder / "readme.txt").write_text("Each file holds 15 trials at 200 Hz.\n")
    return Tree(source="seed", choices={"root": root, "variant": "seed"}, recordings=recordings)


def write_seed_iv(root: Path) -> Tree:
    rng = np.random.default_rng(12)
    recordings = []
    files = [(1, "1", "20160518", "cz"), (2, "1", "20161125", "cz"), (3, "1", "20161126", "cz")]
    files += [(1, "15", "20150508", "tyc"), (3, "15", "20150527", "tyc")]
    for session, subject, date, initials in files:
        name = f"{session}/{subject}_{date}.mat"
        trials = put_trials(root / "eeg_raw_data" / name, rng, initials=initials, n_trials=24, n_first=100)
        put_features(root / "eeg_feature_smooth" / name, rng, 24)
        pieces = [
            Piece(
                values=x, events=[(0.0, SEED_IV_WORDS[y])], events_of="|".join(SEED_IV_WORDS),
                stimuli=[f"film {session}.{k}"],
            )
            for k, (x, y) in enumerate(zip(trials, SEED_IV_LABELS[session], strict=True))
        ]  # fmt: skip
        recordings.append(
            Expected(
                subject=subject, session=str(session), part="", modality="eeg", rate_hz=200, electrodes=SEED,
                kinds=["eeg"] * 62, units=["uV"] * 62, n_samples=[len(x) for x in trials], pieces=pieces,
            )
        )  # fmt: skip
    return Tree(source="seed", choices={"root": root, "variant": "seed_iv"}, recordings=recordings)


def write_seed_v(root: Path) -> Tree:
    rng = np.random.default_rng(13)
    # four channels are no EEG; two of them stand among the others
    names = [*SEED[:32], "M1", *SEED[32:42], "M2", *SEED[42:], "VEO", "HEO"]
    eeg = [names.index(n) for n in SEED]
    recordings = []
    for subject, session, date in (("1", 1, "20180804"), ("16", 2, "20180815")):
        starts, stops, labels = SEED_V[session]
        # a second around the first trial's end, and the first second of the third trial; zero elsewhere
        stretches = {t: rng.integers(-900, 900, (1000, 66)) for t in ((stops[0] - 1) * 1000, starts[2] * 1000)}
        path = root / f"EEG_raw/{subject}_{session}_{date}.cnt"
        put_cnt(path, stretches, n_samples=(stops[-1] + 8) * 1000, rate_hz=1000, names=names)
        said = [(float(t), SEED_V_WORDS[y]) for t, y in zip(starts, labels, strict=True)]
        pieces = [Piece(values=x[:, eeg] * STEP_UV, at_s=t / 1000) for t, x in stretches.items()]
        recordings.append(
            Expected(
                subject=subject, session=str(session), part="", modality="eeg", rate_hz=1000, electrodes=SEED,
                kinds=["eeg"] * 62, units=["uV"] * 62, events=said, events_of="|".join(SEED_V_WORDS), pieces=pieces,
            )
        )  # fmt: skip
    features = root / "EEG_DE_features/1_123.npz"
    features.parent.mkdir()
    np.savez(features, data=np.zeros(3), label=np.zeros(3))
    return Tree(source="seed", choices={"root": root, "variant": "seed_v"}, recordings=recordings)
