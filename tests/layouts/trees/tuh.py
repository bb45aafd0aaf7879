"""The TUH EEG family: TUAB v3.0.1 (normal, abnormal), TUEV v2.0.1 (six events) and TUEG v2.0.1 (everything)."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.recording import Recording

from ..expected import Expected, Piece, Tree
from ..formats.edf import microvolts, put_edf
from ..montages import words

SCALP = words("FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T3 T4 T5 T6 A1 A2 FZ CZ PZ T1 T2")
NO_EARS = [n for n in SCALP if n not in ("A1", "A2")]
OTHERS = ["PHOTIC-REF", "IBI", "BURSTS", "SUPPR", "EMG-REF"]
LABELS = {1: "spsw", 2: "gped", 3: "pled", 4: "eyem", 5: "artf", 6: "bckg"}


def put(
    path: Path,
    rng: np.random.Generator,
    *,
    code: str,
    rate_hz: int = 250,
    n_s: int = 4,
    reference: str = "REF",
    scalp: list[str] = SCALP,
) -> dict[str, Any]:
    """Write one EDF with channels that are no EEG among those that are; return what must come out."""
    eeg = [f"EEG {n}-{reference}" for n in scalp]
    names = [*eeg[:-2], f"EEG EKG1-{reference}", f"EEG 20-{reference}", *eeg[-2:], *OTHERS]
    values = microvolts(rng, n_s * rate_hz, len(names))
    day = datetime.date(2015, 12, 30)
    put_edf(
        path, values, rate_hz=rate_hz, names=names, record_s=1, day=day, code=code, sex="F", more=["Age:61"]
    )  # fmt: skip
    kept = values[:, [names.index(n) for n in eeg]]
    return {
        "modality": "eeg", "rate_hz": rate_hz, "electrodes": eeg, "kinds": ["eeg"] * len(eeg),
        "units": ["uV"] * len(eeg), "n_samples": [len(values)], "values": {0: kept}, "atol": 2e-3,
    }  # fmt: skip


def write_tuab(root: Path) -> Tree:
    rng = np.random.default_rng(6)
    files = [
        # one person with a normal and an abnormal recording
        ("train", "abnormal", "aaaaaaav_s004_t000", 250),
        ("train", "normal", "aaaaaaav_s005_t000", 256),
        ("eval", "normal", "aaaaaabb_s001_t000", 512),
        ("eval", "abnormal", "aaaaaabc_s002_t001", 250),
    ]
    recordings = []
    for folder, label, name, rate in files:
        path = root / f"edf/{folder}/{label}/01_tcp_ar/{name}.edf"
        subject = name.split("_")[0]
        facts = put(path, rng, code=subject, rate_hz=rate)
        recordings.append(
            Expected(
                subject=subject, session=None, file=path.name, part={"train": "train", "eval": "test"}[folder],
                events=[(0.0, label)], events_of="normal", **facts,
            )
        )  # fmt: skip
    return Tree(source="tuh", choices={"root": root, "corpus": "tuab"}, recordings=recordings)


def write_tueg(root: Path) -> Tree:
    rng = np.random.default_rng(7)
    files = [
        ("000", "aaaaaaaa", "s001_2015_12_30", "01_tcp_ar", "t000", "REF", SCALP),
        ("000", "aaaaaaaa", "s001_2015_12_30", "01_tcp_ar", "t001", "REF", SCALP),
        ("000", "aaaaaaaa", "s002_2016_01_02", "02_tcp_le", "t000", "LE", SCALP),
        ("001", "aaaaabdc", "s001_2010_03_01", "03_tcp_ar_a", "t000", "REF", NO_EARS),
        ("001", "aaaaabdc", "s001_2010_03_01", "04_tcp_le_a", "t001", "LE", NO_EARS),
    ]
    recordings = []
    for group, subject, session, montage, part, reference, scalp in files:
        path = root / f"edf/{group}/{subject}/{session}/{montage}/{subject}_{session[:4]}_{part}.edf"
        facts = put(path, rng, code=subject, reference=reference, scalp=scalp)
        recordings.append(Expected(subject=subject, session=None, file=path.name, part="", **facts))

    def also(read: list[Recording]) -> None:
        # the folder of a session tells its date; a recording must not
        assert not any("2015" in r.recording_id or "2010" in r.recording_id for r in read)
        assert len({(r.subject, r.session) for r in read}) == 3

    return Tree(source="tuh", choices={"root": root, "corpus": "tueg"}, recordings=recordings, also=also)


def write_tuev(root: Path) -> Tree:
    rng = np.random.default_rng(8)
    # TCP pair, start, stop, code. The same event stands once for each pair that shows it; one event runs over the
    # end of the recording, one lies wholly behind it
    first = [(1, 1, 2, 6), (2, 1, 2, 6), (13, 3.4, 4.4, 1), (14, 3.4, 4.4, 1), (5, 5, 8, 5), (0, 9, 10, 3)]
    first += [(0, 11.5, 12.5, 4), (4, 13, 14, 2)]
    second = [(21, 0.5, 1.5, 2), (20, 0.5, 1.5, 2), (7, 2.1, 3.1, 4), (8, 6, 7, 6)]
    said = {
        "first": [(1, "bckg", 1), (3.4, "spsw", 1), (5, "artf", 3), (9, "pled", 1), (11.5, "eyem", 0.5)],
        "second": [(0.5, "gped", 1), (2.1, "eyem", 1), (6, "bckg", 1)],
    }
    files = [
        ("train/aaaaaaar/aaaaaaar_00000001", "aaaaaaar", "train", "first"),
        ("train/aaaaaaar/aaaaaaar_00000002", "aaaaaaar", "train", "second"),
        # here the file's name begins with a kind of event; the person is the folder
        ("eval/000/bckg_000_a_", "000", "test", "first"),
        ("eval/049/bckg_049_a_6", "049", "test", "second"),
        ("eval/049/gped_049_a_6", "049", "test", "first"),
    ]
    recordings = []
    for stem, subject, part, which in files:
        path = root / f"edf/{stem}.edf"
        facts = put(path, rng, code=subject, n_s=12)
        rows = first if which == "first" else second
        path.with_suffix(".rec").write_text("".join(f"{c},{a},{b},{k}\n" for c, a, b, k in rows))
        for c in ("", "_ch000", "_ch001"):
            lab = path.with_name(f"{path.stem}{c}.lab")
            lab.write_text("".join(f"{int(a * 1e5)} {int(b * 1e5)} {LABELS[k]}\n" for _, a, b, k in rows))
            lab.with_suffix(".htk").write_bytes(bytes(12))
        piece = Piece(values=facts["values"][0], atol=2e-3, events=said[which], events_of="|".join(LABELS.values()))
        recordings.append(
            Expected(subject=subject, session=None, file=path.name, part=part, pieces=[piece], **facts)
        )  # fmt: skip

    def also(read: list[Recording]) -> None:
        assert {r.subject for r in read} == {"aaaaaaar", "000", "049"}
        assert all(0 <= e.onset_s < 12 for r in read for e in r.events)

    return Tree(source="tuh", choices={"root": root, "corpus": "tuev"}, recordings=recordings, also=also)
