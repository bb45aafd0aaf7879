"""PhysioNet EEG motor movement/imagery: 109 people, 14 runs each (Schalk et al. 2004, IEEE TBME 51).

T1 and T2 mean left and right fist in some runs, both fists and both feet in others; here events say which. The
files of three people (S088, S092, S100) are sampled at 128 Hz with other timing; they are rejected by that.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from data_prep.fetch_mne import mne_fetch
from data_prep.layout.tree import folder, found, tree_item
from data_prep.readers.from_mne import notes_of, recording_from_raw
from data_prep.readers.raw_file import inside, open_raw
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording

RATE_HZ = 160.0
FILE = re.compile(r"(S\d{3})R(\d{2})")
SIDES = ("left fist", "right fist")
BOTH = ("both fists", "both feet")
# run → task, what T1 and T2 mean
RUNS = {
    1: ("eyes_open", ("", "")),
    2: ("eyes_closed", ("", "")),
    **{r: ("execute_sides", SIDES) for r in (3, 7, 11)},
    **{r: ("imagine_sides", SIDES) for r in (4, 8, 12)},
    **{r: ("execute_both", BOTH) for r in (5, 9, 13)},
    **{r: ("imagine_both", BOTH) for r in (6, 10, 14)},
}


class PhysionetMi(Source):
    """One recording per run; the task says whether a movement was executed or imagined.

    Parameters
    ----------
    root : path
        Folder with S001 … in it, or above; where `download` puts them.
    download : bool
        Fetch the files through mne first.
    subjects : list of int, optional
        Which to fetch; default all.
    """

    name = "physionet_mi"
    id = "physionet_mi"
    licence = "Open Data Commons Attribution Licence 1.0 (ODC-By)"
    citation = (
        "Schalk et al. 2004, BCI2000: a general-purpose brain-computer interface (BCI) system, IEEE "
        "Transactions on Biomedical Engineering 51; Goldberger et al. 2000, PhysioBank, PhysioToolkit, and "
        "PhysioNet, Circulation 101"
    )
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path, download: bool = False, subjects: list[int] | None = None) -> None:
        self.root, self.download, self.subjects = Path(root), download, subjects

    def list(self) -> list[Item]:
        """Return one item per run."""
        if self.download:
            mne_fetch("physionet_mi", self.root.expanduser(), self.subjects)
        root = folder(self.root, "the PhysioNet motor imagery set")
        return [
            tree_item(root, path, load, who[1], who[2], subject=who[1])
            for path in found(root, "**/S*R*.edf")
            if (who := FILE.fullmatch(path.stem))
        ]


def electrode(name: str) -> tuple[str, str]:
    """Return a channel's usual name: ``"Fcz."`` → ``"FCz"``, ``"Fp1."`` → ``"Fp1"``."""
    plain = name.strip().rstrip(".").upper()
    if plain.endswith("Z"):
        plain = plain[:-1] + "z"
    return ("Fp" + plain[2:] if plain.startswith("FP") else plain), "eeg"


def load(root: Path, name: str, subject: str, run: str) -> Recording:
    """Read one run.

    Raises
    ------
    DataError
        When it is sampled at another rate than the set is, or its run is unknown.
    """
    path = root / name
    if int(run) not in RUNS:
        raise DataError(f"{path.name}: run {run} is unknown, there are 1 to 14")
    task, meaning = RUNS[int(run)]
    raw = open_raw(path, channel=electrode)
    rate_hz = float(raw.info["sfreq"])
    if rate_hz != RATE_HZ:
        raise DataError(
            f"{path.name}: is sampled at {rate_hz:g} Hz, expected {RATE_HZ:g} Hz; S088, S092 and S100 are known to be "
            "damaged in this way"
        )
    recording = recording_from_raw(
        raw,
        dataset="physionet_mi",
        subject=subject,
        task=task,
        run=run,
        modality="eeg",
        source_file=name,
        source_sha256=sha256_file(path),
    )
    words = {"T0": "rest", "T1": meaning[0], "T2": meaning[1]}
    kind = task.split("_")[0]
    events = [
        Event(onset_s=onset, duration_s=length, kind="rest" if code == "T0" else kind, label=words[code])
        for onset, length, code in notes_of(raw)
        if words.get(code)
    ]
    return replace(recording, events=inside(events, raw.n_times / rate_hz, path))
