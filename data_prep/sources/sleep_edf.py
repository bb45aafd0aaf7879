"""Sleep-EDF Expanded: whole nights with scored stages (Kemp et al. 2000, IEEE TBME 47; PhysioNet).

``SC4ssNE0-PSG.edf`` is night N of person ss in the cassette study, ``ST7ssNJ0-PSG.edf`` in the telemetry study;
the stages stand in a second file that shares the first seven characters and then names its scorer.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.fetch_mne import mne_fetch
from data_prep.layout.tree import folder, found, tree_item
from data_prep.readers.from_mne import recording_from_raw
from data_prep.readers.raw_file import open_raw
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording

# Others are sampled once a second; mne would blow them up to the rate of these.
CHANNELS = {"EEG Fpz-Cz": "eeg", "EEG Pz-Oz": "eeg", "EOG horizontal": "eog"}
FILE = re.compile(r"(?P<subject>S[CT]\d{3})(?P<session>\d)[A-Z]\d-PSG")
SCORED = re.compile(r"Sleep stage ([W1234R?])|Movement time")
AASM = {"W": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "R"}
STAGES = ("scored", "aasm")


class SleepEdf(Source):
    """One recording per night; two nights of a person share the subject (``SC400``), which night is the session.

    Parameters
    ----------
    root : path
        Folder with ``sleep-cassette`` and ``sleep-telemetry``, or one of them; where `download` puts them.
    stages : str
        "scored": events as in the file (``Sleep stage 4``, ``Movement time``); "aasm": W, N1, N2, N3 (which is 3 and
        4) and R, without what was not scored.
    wake_margin_s : float, optional
        Keep at most this much before the first and after the last sleep; None = everything.
    download : bool
        Fetch the cassette study through mne first.
    subjects : list of int, optional
        Which to fetch; default all.
    """

    name = "sleep_edf"
    id = "sleep_edf"
    licence = "Open Data Commons Attribution Licence 1.0 (ODC-By)"
    citation = (
        "Kemp et al. 2000, Analysis of a sleep-dependent neuronal feedback loop: the slow-wave "
        "microcontinuity of the EEG, IEEE Transactions on Biomedical Engineering 47; Goldberger et al. 2000, "
        "PhysioBank, PhysioToolkit, and PhysioNet, Circulation 101"
    )
    modalities = ("eeg",)

    def __init__(
        self,
        *,
        root: str | Path,
        stages: str = "scored",
        wake_margin_s: float | None = None,
        download: bool = False,
        subjects: list[int] | None = None,
    ) -> None:
        if stages not in STAGES:
            raise ConfigError(f"source 'sleep_edf': stages '{stages}' is unknown: {nearest(stages, STAGES)}")
        if wake_margin_s is not None and wake_margin_s < 0:
            raise ConfigError(f"source 'sleep_edf': wake_margin_s is {wake_margin_s}; expected seconds, or null")
        self.root, self.stages, self.wake_margin_s = Path(root), stages, wake_margin_s
        self.download, self.subjects = download, subjects

    def describe(self) -> dict[str, Any]:
        """Return name and choices."""
        return {**super().describe(), "stages": self.stages, "wake_margin_s": self.wake_margin_s}

    def list(self) -> list[Item]:
        """Return one item per night."""
        if self.download:
            mne_fetch("sleep_edf", self.root.expanduser(), self.subjects)
        root = folder(self.root, "Sleep-EDF")
        scores = {p.name[:7]: p for p in found(root, "**/*-Hypnogram.edf")}
        items = []
        for path in found(root, "**/*-PSG.edf"):
            who = FILE.fullmatch(path.stem)
            if who is None:
                continue
            beside = [scores[path.name[:7]]] if path.name[:7] in scores else []
            hypnogram = beside[0].relative_to(root).as_posix() if beside else ""
            items.append(
                tree_item(
                    root,
                    path,
                    load,
                    who.groupdict(),
                    hypnogram,
                    self.stages,
                    self.wake_margin_s,
                    **who.groupdict(),
                    beside=beside,
                )
            )
        return items


def load(
    root: Path, name: str, who: dict[str, str], hypnogram: str, stages: str, wake_margin_s: float | None
) -> Recording:
    """Read one night with its stages.

    Raises
    ------
    DataError
        When it has no hypnogram, or no sleep where that decides what is kept.
    """
    import mne

    path = root / name
    if not hypnogram:
        raise DataError(f"{path.name}: has no hypnogram that begins with {path.name[:7]}, so it has no stages")
    raw = open_raw(path, channel=lambda c: (c, CHANNELS[c]) if c in CHANNELS else None)
    length_s = raw.n_times / raw.info["sfreq"]
    try:
        scored = mne.read_annotations(root / hypnogram)
    except (ValueError, OSError, RuntimeError) as error:
        raise DataError(f"{Path(hypnogram).name}: is not a readable hypnogram ({error})") from error
    raw.set_annotations(None)
    spans = [
        (float(a), min(float(d), length_s - float(a)), str(t))
        for a, d, t in zip(scored.onset, scored.duration, scored.description, strict=True)
        if SCORED.fullmatch(str(t)) and float(a) < length_s
    ]
    if wake_margin_s is not None:
        asleep = [(a, a + d) for a, d, t in spans if t[-2:] in (" 1", " 2", " 3", " 4", " R")]
        if not asleep:
            raise DataError(f"{path.name}: its hypnogram scores no sleep")
        begin, end = min(asleep)[0] - wake_margin_s, max(b for _, b in asleep) + wake_margin_s
        outside = [(a, b - a) for a, b in ((0.0, begin), (end, length_s)) if b > a]
        raw.annotations.append([a for a, _ in outside], [d for _, d in outside], ["BAD_awake"] * len(outside))
        spans = [(a, d, t) for a, d, t in spans if a + d > begin and a < end]
    recording = recording_from_raw(
        raw,
        dataset="sleep_edf",
        subject=who["subject"],
        session=who["session"],
        modality="eeg",
        source_file=name,
        source_sha256=sha256_file(path),
    )
    if stages == "aasm":
        spans = [(a, d, AASM[t[-1]]) for a, d, t in spans if t[-1] in AASM and t.startswith("Sleep")]
    events = tuple(
        Event(onset_s=a, duration_s=d, kind="stage", label=t, trial=i) for i, (a, d, t) in enumerate(sorted(spans))
    )
    return replace(recording, events=events)
