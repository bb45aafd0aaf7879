"""Public M/EEG of people listening to stories, as used by Défossez et al. 2023 for decoding speech.

Words, phonemes and sounds are events; `stimulus_id` is the audio file and `value` the time in it, so that what was
heard can be looked up in the sound whoever heard it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.sources import speech_brennan, speech_broderick, speech_gwilliams
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, DataError, nearest


@dataclass(frozen=True, kw_only=True)
class Study:
    """Terms of one study, and how its recordings are found: root, chosen subjects (None = all) → items."""

    items: Callable[[Path, tuple[str, ...] | None], list[Item]] = field(repr=False)
    licence: str
    citation: str
    stimuli: Callable[[Path], list[dict[str, Any]]] = field(default=lambda root: [], repr=False)


STUDIES = {
    "gwilliams2022": Study(
        items=speech_gwilliams.items,
        stimuli=speech_gwilliams.stimuli,
        licence="CC0 1.0",
        citation=(
            "Gwilliams et al. 2023, Introducing MEG-MASC, a high-quality magneto-encephalography dataset for evaluating "
            "natural speech processing, Scientific Data 10:862"
        ),
    ),
    "brennan2019": Study(
        items=speech_brennan.items,
        licence="CC BY 4.0",
        citation=(
            "Brennan & Hale 2019, Hierarchical structure guides rapid linguistic predictions during naturalistic "
            "listening, PLoS ONE 14(1):e0207741"
        ),
    ),
    "broderick2019": Study(
        items=speech_broderick.items,
        licence="CC0 1.0",
        citation=(
            "Broderick et al. 2018, Electrophysiological correlates of semantic dissimilarity reflect the comprehension "
            "of natural, narrative speech, Current Biology 28(5)"
        ),
    ),
}


class SpeechMeeg(Source):
    """One recording per run of a listener.

    Parameters
    ----------
    root : path
        Folder of the study as downloaded and unzipped.
    study : str
        "gwilliams2022" (MEG), "brennan2019" or "broderick2019" (EEG).
    subjects : list of str, optional
        Ids as in the study's file names ("01", "S01", "Subject1"); default all.
    """

    name = "speech_meeg"
    modalities = ("eeg", "meg")

    def __init__(self, *, root: str | Path, study: str = "gwilliams2022", subjects: list[str] | None = None) -> None:
        if study not in STUDIES:
            raise ConfigError(f"source 'speech_meeg': study '{study}' is unknown: {nearest(str(study), STUDIES)}")
        self.root, self.study = Path(root).expanduser(), study
        self.id, self.licence, self.citation = study, STUDIES[study].licence, STUDIES[study].citation
        self.subjects = None if subjects is None else tuple(str(s) for s in subjects)

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        subjects = None if self.subjects is None else list(self.subjects)
        return {**super().describe(), "study": self.study, "subjects": subjects}

    def stimuli(self, folder: Path) -> list[dict[str, Any]]:
        """Return the sounds where the study has them; their files stay where they are."""
        return STUDIES[self.study].stimuli(self.root)

    def list(self) -> list[Item]:
        """Return one item per run."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root to the study {self.study}")
        items = STUDIES[self.study].items(self.root, self.subjects)
        known = {i.subject for i in items}
        for s in self.subjects or ():
            if s not in known:
                raise ConfigError(f"{self.study} has no subject '{s}': {nearest(s, known)}")
        return [i for i in items if self.subjects is None or i.subject in self.subjects]
