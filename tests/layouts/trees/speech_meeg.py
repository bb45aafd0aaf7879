"""Speech M/EEG: MEG-MASC (KIT files), Brennan & Hale in both releases, Broderick's natural speech."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.recording import Recording

from ..expected import Expected, Piece, Tree
from ..formats.brainvision import put_brainvision
from ..formats.kit import STEP_FT, put_con

nan = float("nan")
# onset, what is written as a Python dict
MASC: list[tuple[float, dict[str, Any]]] = [
    (0.1, {"story": "lw1", "kind": "sound", "sound": "stimuli/audio/LW1_0.0.wav", "start": 0.0}),
    (0.2, {"story": "lw1", "kind": "word", "word": "once", "start": 0.1, "pronounced": 1.0, "sequence_id": 0.0}),
    (0.2, {"story": "lw1", "kind": "phoneme", "phoneme": "w_B", "start": 0.1, "pronounced": 1.0}),
    (0.28, {"story": "lw1", "kind": "phoneme", "phoneme": "ah_I", "start": 0.18, "pronounced": 1.0}),
    # its repr is in the other quotes
    (0.7, {"story": "lw1", "kind": "word", "word": "don't", "start": 0.6, "pronounced": 1.0, "sequence_id": 0.0}),
    (0.7, {"story": "lw1", "kind": "phoneme", "phoneme": "d_B", "start": 0.6, "pronounced": 1.0}),
    (1.3, {"story": "lw1", "kind": "word", "word": 'say "hi"', "start": nan, "pronounced": 1.0, "sequence_id": nan}),
    (1.9, {"story": "lw1", "kind": "phoneme", "phoneme": "h#_S", "start": 1.8, "pronounced": 1.0}),
]


def put_masc(
    root: Path, rng: np.random.Generator, who: tuple[str, str, str], rows: list[tuple[float, str]], *, n: int = 2500
) -> Any:
    """Write one run; return its fT, shape (time, 208)."""
    subject, session, task = who
    counts = rng.integers(-400, 400, (n, 208 + 16 + 8)).astype(np.int16)
    counts[:, -8:] = 0
    stem = root / f"sub-{subject}/ses-{session}/meg/sub-{subject}_ses-{session}_task-{task}"
    put_con(Path(f"{stem}_meg.con"), counts, rate_hz=1000.0)
    lines = ["onset\tduration\ttrial_type\tvalue\tsample"]
    lines += [f"{t}\t0.1\t{text}\t1\t{round(t * 1000)}" for t, text in rows]
    Path(f"{stem}_events.tsv").write_text("\n".join(lines) + "\n")
    return counts[:, :208] * STEP_FT


def write_gwilliams2022(root: Path) -> Tree:
    from scipy.io import wavfile

    rng = np.random.default_rng(23)
    recordings = []
    # the second person has no second session
    for who in (("01", "0", "0"), ("01", "0", "1"), ("01", "1", "0"), ("27", "0", "3")):
        ft = put_masc(root, rng, who, [(t, repr(d)) for t, d in MASC])
        subject, session, task = who
        recordings.append(
            Expected(
                subject=subject, session=session, task=task, modality="meg", rate_hz=1000, kinds=["mag"] * 208,
                units=["fT"] * 208, n_samples=[2500], values={0: ft}, atol=1e-3,
                events=[(t, d["word"]) for t, d in MASC if d["kind"] == "word"], events_of_kind="word",
            )
        )  # fmt: skip
    (root / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t22\tF\nsub-27\t30\tM\n")
    (root / "stimuli/audio").mkdir(parents=True)
    wavfile.write(root / "stimuli/audio/lw1_0.wav", 8000, np.zeros(8000, np.int16))

    def also(read: list[Recording]) -> None:
        said = [(t, d["phoneme"].split("_")[0]) for t, d in MASC if d["kind"] == "phoneme"]
        for r in read:
            found = [(e.onset_s, e.label) for e in r.events if e.kind == "phoneme"]
            assert len(found) == len(said), found
            for (t, label), (asked_t, asked) in zip(found, said, strict=True):
                assert abs(t - asked_t) < 2e-3
                assert label.split("_")[0] == asked

    choices = {"root": root, "study": "gwilliams2022"}
    return Tree(source="speech_meeg", choices=choices, recordings=recordings, also=also)


def make_gwilliams2022_stories(root: Path) -> Tree:
    """Two people, two stories of three sounds each; the rows of sounds do not say how long they last, as their words do."""
    from scipy.io import wavfile

    rng = np.random.default_rng(28)
    (root / "stimuli/audio").mkdir(parents=True)
    for story in ("lw1", "easy_money"):
        for k in range(3):
            noise = (8000 * rng.standard_normal(16_000 * 4)).astype(np.int16)
            wavfile.write(root / f"stimuli/audio/{story}_{k}.wav", 16_000, noise)
    for subject in ("01", "27"):
        for task, story in (("0", "lw1"), ("2", "Easy_Money")):
            rows: list[tuple[float, dict[str, Any]]] = []
            for k in range(3):
                at = 0.5 + 4.5 * k
                sound = f"stimuli/audio/{story}_{k}.0.wav"
                rows.append((at, {"story": story, "kind": "sound", "sound": sound, "start": 0.0}))
                rows += [
                    (at + t, {"story": story, "kind": "word", "word": f"w{t}", "start": t, "pronounced": 1.0})
                    for t in (0.1, 0.9, 1.7, 2.5, 3.4)
                ]
            put_masc(root, rng, (subject, "0", task), [(t, repr(d)) for t, d in rows], n=14_500)
    (root / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t22\tF\nsub-27\t30\tM\n")
    return Tree(source="speech_meeg", choices={"root": root, "study": "gwilliams2022"}, recordings=[])


def write_gwilliams2022_hostile(root: Path) -> Tree:
    """A table whose dict is a call."""
    rng = np.random.default_rng(24)
    mark = root / "executed"
    call = f"{{'kind': 'word', 'word': __import__('pathlib').Path({str(mark)!r}).touch()}}"
    put_masc(root, rng, ("02", "0", "0"), [(t, repr(d)) for t, d in MASC] + [(2.2, call)])

    def also(read: list[Recording]) -> None:
        assert not mark.exists()

    choices = {"root": root, "study": "gwilliams2022"}
    return Tree(source="speech_meeg", choices=choices, recordings=[], rejected=[""], also=also)


# Word, Segment, onset and offset in the segment's sound, start in seconds of the EEG
ALICE = [
    ("Alice", 1, 0.05, 0.40, 0.52), ("was", 1, 0.45, 0.60, 0.92), ("don't", 1, 1.20, 1.50, 1.668),
    ("tired", 2, 3.10, 3.60, 2.9), ("of", 2, 3.70, 3.80, 3.5), ("sitting", 2, 4.10, 4.50, 3.9),
]  # fmt: skip
BRENNAN = [str(i) for i in range(1, 62) if i != 29]


def put_alice(root: Path, proc: Path) -> list[tuple[float, str]]:
    """Write the table of words and one person's table of their samples; return the words in time."""
    from scipy.io import savemat

    lines = ["Word,Segment,onset,offset,Order,Position,Sentence"]
    lines += [f"{w},{s},{a},{b},{i},{i},1" for i, (w, s, a, b, _) in enumerate(ALICE, 1)]
    (root / "AliceChapterOne-EEG.csv").write_text("\n".join(lines) + "\n")
    starts = [round(t * 500) for *_, t in ALICE]
    trl = [[at, at + 500, 0, s, a, i] for i, (at, (_, s, a, _, _)) in enumerate(zip(starts, ALICE, strict=True), 1)]
    names = np.empty((1, 3), dtype=object)
    names[0] = ["segment", "tmin", "Order"]
    empty = np.empty((0, 0), dtype=object)
    fields = {
        "trl": np.array(trl, float), "varnames": names, "tot_trials": float(len(trl)), "tot_chans": 61.0,
        "impedence": {"bads": empty},  # codespell:ignore
        "rejections": {"badchans": empty},
    }  # fmt: skip
    proc.parent.mkdir(exist_ok=True)
    savemat(proc, {"proc": fields})
    return [(at / 500, w) for at, (w, *_) in zip(starts, ALICE, strict=True)]


def brennan(subject: str, uv: np.ndarray, said: list[tuple[float, str]]) -> Expected:
    return Expected(
        subject=subject, session=None, modality="eeg", rate_hz=500, electrodes=BRENNAN, kinds=["eeg"] * 60,
        units=["uV"] * 60, n_samples=[len(uv)], values={0: uv}, events=list(said), events_of_kind="word",
    )  # fmt: skip


def write_brennan2019(root: Path) -> Tree:
    from scipy.io import savemat

    rng = np.random.default_rng(25)
    recordings = []
    n = 2500
    for subject, last in (("S01", ["AUD"]), ("S03", []), ("S04", ["Aux5"])):
        labels = [*BRENNAN, "VEOG", *last]
        uv = np.round(rng.normal(0, 15, (len(labels), n)), 3)
        cell = np.array(labels, dtype=object)[:, None]
        trial, time = np.empty((1, 1), dtype=object), np.empty((1, 1), dtype=object)
        trial[0, 0], time[0, 0] = uv, np.arange(n)[None] / 500
        hdr = {
            "Fs": 500.0, "nChans": float(len(labels)), "nSamples": float(n), "nSamplesPre": 0.0, "nTrials": 1.0,
            "label": cell, "chantype": np.full((len(labels), 1), "eeg", dtype=object),
            "chanunit": np.full((len(labels), 1), "uV", dtype=object),
        }  # fmt: skip
        raw = {
            "hdr": hdr, "label": cell, "trial": trial, "time": time, "fsample": 500.0,
            "sampleinfo": np.array([[1.0, n]]),
        }  # fmt: skip
        savemat(root / f"{subject}.mat", {"raw": raw})
        recordings.append(brennan(subject, uv[:60].T, put_alice(root, root / f"proc/{subject}.mat")))
    choices = {"root": root, "study": "brennan2019"}
    return Tree(source="speech_meeg", choices=choices, recordings=recordings)


def write_brennan2019_v2(root: Path) -> Tree:
    rng = np.random.default_rng(26)
    recordings = []
    for subject in ("S01", "S48"):
        uv = np.round(rng.normal(0, 15, (2500, 61)), 1)
        put_brainvision(root / f"{subject}.vhdr", uv, rate_hz=500, names=[*BRENNAN, "VEOG"])
        said = put_alice(root, root / f"timelock-preprocessing/{subject}.mat")
        recordings.append(brennan(subject, uv[:, :60], said))
    choices = {"root": root, "study": "brennan2019"}
    return Tree(source="speech_meeg", choices=choices, recordings=recordings)


def write_broderick2019(root: Path) -> Tree:
    from scipy.io import savemat

    rng = np.random.default_rng(27)
    biosemi = [f"{letter}{i}" for letter in "ABCD" for i in range(1, 33)]
    recordings = []
    for subject, run in ((1, 1), (1, 2), (1, 10), (19, 20)):
        x = np.round(rng.normal(0, 15, (640 + run, 128)), 3)
        path = root / f"Natural Speech/EEG/Subject{subject}/Subject{subject}_Run{run}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"eegData": x, "mastoids": rng.normal(0, 15, (len(x), 2)), "fs": 128.0})
        recordings.append(
            Expected(
                subject=re.compile(rf"(^|\D)0*{subject}$"), session=None, file=path.name, modality="eeg", rate_hz=128,
                electrodes=biosemi, kinds=["eeg"] * 128, n_samples=[len(x)],
                pieces=[Piece(values=x, any_scale=True)],
            )
        )  # fmt: skip
    choices = {"root": root, "study": "broderick2019"}
    return Tree(source="speech_meeg", choices=choices, recordings=recordings)
