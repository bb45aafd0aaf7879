"""Du-IN word reading (Zheng et al. 2024): twelve people read 61 Chinese words aloud, depth electrodes, bipolar.

The release is pickles, read by a machine that runs nothing (`safe_pickle`). It states neither unit nor where a trial
lies about the spoken word. Values are handed on as they are; the stage `unit_repair` finds that they are volts.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.trials import trial_starts
from data_prep.readers.safe_pickle import load_pickle
from data_prep.sources.base import Item, Source, file_marks
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

ALIGNMENTS = ("aligned", "unaligned")
RATE_HZ = 1000.0
# The authors' dictionary whose keys can be written as attributes.
DICTS = (("utils.DotDict", "DotDict"), ("utils", "DotDict"))


class DuIn(Source):
    """One recording per run; one valid interval and one event per trial, in stored order.

    Parameters
    ----------
    root : path
        Folder that holds ``…/<subject>/word-recitation/<run>/dataset.bipolar.default.<alignment>/{data,info}``.
    alignment : str, optional
        "aligned" or "unaligned"; default aligned where there is any.
    subjects : list of str, optional
        E.g. ["001"]; default all.
    """

    name = "du_in"
    id = "du_in"
    licence = "CC BY 4.0"
    citation = (
        "Zheng et al. 2024, Du-IN: discrete units-guided mask modeling for decoding speech from intracranial neural "
        "signals, NeurIPS, arXiv:2405.11459"
    )
    modalities = ("ieeg",)

    def __init__(self, *, root: str | Path, alignment: str | None = None, subjects: list[str] | None = None) -> None:
        if alignment is not None and alignment not in ALIGNMENTS:
            raise ConfigError(
                f"source 'du_in': alignment '{alignment}' is unknown: {nearest(str(alignment), ALIGNMENTS)}"
            )
        self.root, self.alignment = Path(root).expanduser(), alignment
        self.subjects = None if subjects is None else [str(s) for s in subjects]

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {**super().describe(), "alignment": self.alignment, "subjects": self.subjects}

    def list(self) -> list[Item]:
        """Return one item per run."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root to the Du-IN dataset")
        found: list[Path] = []
        for alignment in ALIGNMENTS if self.alignment is None else (self.alignment,):
            found = found or sorted(self.root.glob(f"**/word-recitation/*/dataset.bipolar.default.{alignment}"))
        subjects = {p.parents[2].name for p in found}
        for s in self.subjects or ():
            if s not in subjects:
                raise ConfigError(f"source 'du_in' has no subject '{s}': {nearest(s, subjects)}")
        items = []
        for folder in found:
            subject, run = folder.parents[2].name, folder.parent.name
            if self.subjects is not None and subject not in self.subjects:
                continue
            files = [p for p in (folder / "data", folder / "info") if p.exists()]
            name = folder.relative_to(self.root).as_posix()
            items.append(
                Item(
                    key=f"{subject}_{run}",
                    fingerprint=hash_of([name, file_marks(files)]),
                    open=partial(load_run, self.root, name),
                    subject=subject,
                    source_file=f"{name}/data",
                    n_bytes=sum(p.stat().st_size for p in files),
                )
            )
        return items


def load_run(root: Path, name: str) -> Recording:
    """Open one run.

    Raises
    ------
    DataError
        When a file is missing or the trials are not what the channel names say.
    """
    folder = root / name
    for file in ("data", "info"):
        if not (folder / file).exists():
            raise DataError(f"{name}/{file}: no such file")
    info, data = (load_pickle(folder / file, dicts=DICTS) for file in ("info", "data"))
    names = [str(n) for n in info["ch_names"]] if isinstance(info, dict) and "ch_names" in info else []
    if not names:
        raise DataError(f"{name}/info: holds no 'ch_names'")
    trials: list[np.ndarray] = []
    words: list[str] = []
    for i, trial in enumerate(data if isinstance(data, list) else ()):
        values = trial.get("data_s") if isinstance(trial, dict) else None
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.shape[:-1] != (len(names),):
            raise DataError(f"{name}/data: trial {i} has no array 'data_s' of shape ({len(names)}, time)")
        trials.append(values.T)
        words.append(str(trial.get("name", "")).strip())
    if not trials:
        raise DataError(f"{name}/data: holds no trial")
    starts = trial_starts([len(t) for t in trials], RATE_HZ)
    return Recording(
        dataset="du_in",
        subject=folder.parents[2].name,
        task="word-recitation",
        run=re.sub(r"^run", "", folder.parent.name),
        modality="ieeg",
        streams=(
            Stream.from_arrays(
                trials,
                rate_hz=RATE_HZ,
                channels=tuple(Channel(name=n, kind="seeg", unit="uV", reference="bipolar") for n in names),
                unit="uV",
            ),
        ),
        interval_start_s=starts,
        events=tuple(
            Event(
                onset_s=start,
                duration_s=len(values) / RATE_HZ,
                kind="word",
                label=word,
                stimulus_id=word,
                trial=i,
            )
            for i, (start, values, word) in enumerate(zip(starts, trials, words, strict=True))
        ),
        source_file=f"{name}/data",
        source_sha256=sha256_file(folder / "data"),
    )
