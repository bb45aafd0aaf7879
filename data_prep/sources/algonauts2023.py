"""Algonauts 2023 challenge: responses of the cortical surface to NSD pictures, averaged over repetitions."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.base import Item, Source, file_marks
from data_prep.sources.nsd import STREAMS, TRIAL_S, numbers
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

PICTURE = re.compile(r"train-(\d+)_(nsd-\d{5})\.(png|jpg)")
HEMISPHERES = ("lh", "rh")


class Algonauts2023(Source):
    """One recording per subject: a valid interval (of one sample) per training picture, a channel per vertex.

    Responses are z-scored per session and averaged over repetitions by the organisers, the whole of the training
    part: statistics of a split's training part come on top. The test part has pictures but no responses, so no
    recording. Trials follow the pictures' numbers, 4 s apart; `stimulus_id` is the picture's name, as in `nsd`.

    Parameters
    ----------
    root : path
        With ``subj01`` … in it.
    subjects : list of str or int, optional
        Numbers; default all that are there.
    regions : str, optional
        Class of region masks (``roi_masks/lh.<class>_challenge_space.npy``), e.g. "streams" or "prf-visualrois".
        The streams are named; the others keep their numbers, for their names are stored as pickles.
    """

    name = "algonauts2023"
    id = "algonauts2023"
    licence = "NSD Terms and Conditions (signed data access agreement, no redistribution)"
    citation = (
        "Gifford et al. 2023, The Algonauts Project 2023 challenge: how the human brain makes sense of natural scenes, "
        "arXiv 2301.03198; Allen et al. 2022, A massive 7T fMRI dataset, Nature Neuroscience 25"
    )
    modalities = ("fmri",)

    def __init__(
        self, *, root: str | Path, subjects: list[str | int] | None = None, regions: str | None = None
    ) -> None:
        self.root = Path(root).expanduser()
        self.subjects, self.regions = numbers(subjects, "subjects", self.name), regions

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {"name": self.name, "version": self.version, "subjects": self.subjects, "regions": self.regions}

    def list(self) -> list[Item]:
        """Return one item per subject."""
        there = {int(p.name[4:]): p for p in sorted(self.root.glob("subj[0-9][0-9]")) if p.is_dir()}
        if not there:
            raise DataError(f"{self.root}: has no folder subj01 …; set source.root to the unpacked challenge")
        for n in self.subjects or ():
            if n not in there:
                raise ConfigError(
                    f"source 'algonauts2023': subject {n} is not there: {nearest(str(n), map(str, there))}"
                )
        items = []
        for n in self.subjects or there:
            folder = there[n]
            files = [*(series_file(folder, h) for h in HEMISPHERES), *_region_files(folder, self.regions)]
            marks = file_marks(p for p in files if p.is_file())
            pictures = sorted(p.name for p in (folder / "training_split" / "training_images").glob("*.*"))
            items.append(
                Item(
                    key=f"sub-{n:02d}",
                    fingerprint=hash_of([marks, pictures]),
                    open=partial(load_subject, folder, pictures, self.regions),
                    subject=f"{n:02d}",
                    source_file=folder.name,
                    n_bytes=sum(m[1] for m in marks),
                )
            )
        return items


def series_file(folder: Path, hemisphere: str) -> Path:
    """Return the file of responses of one hemisphere."""
    return folder / "training_split" / "training_fmri" / f"{hemisphere}_training_fmri.npy"


def _region_files(folder: Path, regions: str | None) -> list[Path]:
    return [] if regions is None else [folder / "roi_masks" / f"{h}.{regions}_challenge_space.npy" for h in HEMISPHERES]


def load_subject(folder: Path, pictures: list[str], regions: str | None) -> Recording:
    """Open the responses of a subject; rows are read when they are asked for.

    Raises
    ------
    DataError
        When responses, pictures and region masks do not fit together.
    """
    arrays = [_matrix(series_file(folder, h), 2) for h in HEMISPHERES]
    n = len(arrays[0])
    if len(arrays[1]) != n:
        raise DataError(f"{folder.name}: the left hemisphere has {n} rows, the right {len(arrays[1])}")
    stimuli = stimuli_of(pictures, n, folder.name)
    names = [[""] * a.shape[1] for a in arrays]
    for i, path in enumerate(_region_files(folder, regions)):
        labels = _matrix(path, 1)
        if len(labels) != arrays[i].shape[1]:
            raise DataError(f"{path.name}: has {len(labels)} vertices, the responses {arrays[i].shape[1]}")
        table = STREAMS if regions == "streams" else {}
        names[i] = [table.get(int(v), str(int(v))) if v > 0 else "" for v in labels]
    channels = tuple(
        Channel(name=f"{h}-{k:05d}", kind="bold", unit="au", region=region)
        for h, labels_of in zip(HEMISPHERES, names, strict=True)
        for k, region in enumerate(labels_of)
    )

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        return np.concatenate([a[interval] for a in arrays])[None][start:stop].astype(np.float64)

    starts = tuple(i * TRIAL_S for i in range(n))
    return Recording(
        dataset="algonauts2023",
        subject=folder.name.removeprefix("subj"),
        run="train",
        modality="fmri",
        streams=(Stream(rate_hz=1 / TRIAL_S, unit="au", channels=channels, n_samples=(1,) * n, read=read),),
        interval_start_s=starts,
        events=tuple(
            Event(onset_s=t, duration_s=TRIAL_S, kind="trial", stimulus_id=s, trial=i)
            for i, (t, s) in enumerate(zip(starts, stimuli, strict=True))
        ),
        part="train",
        source_file=series_file(folder, "lh").relative_to(folder.parent).as_posix(),
        source_sha256=sha256_file(series_file(folder, "lh")),
    )


def stimuli_of(pictures: list[str], n: int, subject: str) -> list[str]:
    """Return the picture of each row: ``train-0001_nsd-00013.png`` is that of the first.

    Raises
    ------
    DataError
        When the pictures do not number the rows from 1 without a gap.
    """
    found = {int(fit[1]): fit[2] for p in pictures if (fit := PICTURE.fullmatch(p))}
    if sorted(found) != list(range(1, n + 1)):
        missing = next((k for k in range(1, n + 1) if k not in found), None)
        what = f"has no picture train-{missing:04d}_nsd-….png" if missing else f"has {len(found)} pictures"
        raise DataError(f"{subject}: {what} for its {n} responses")
    return [found[k] for k in range(1, n + 1)]


def _matrix(path: Path, ndim: int) -> np.ndarray:
    """Open a .npy file as a memory map; a pickle is refused."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path.name}: is no readable numeric array ({error})") from error
    if array.ndim != ndim or array.dtype.kind not in "fiu":
        raise DataError(f"{path.name}: has shape {array.shape} and type {array.dtype}; expected {ndim} dimensions")
    return array
