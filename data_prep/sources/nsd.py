"""Natural Scenes Dataset: responses to single pictures (betas) of eight people at 7 tesla."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.masking import voxel_channels
from data_prep.readers.volumes import import_nibabel, open_image, same_grid
from data_prep.sources.base import Item, Source, file_marks
from data_prep.sources.nsd_betas import n_trials_of, read_betas
from data_prep.sources.nsd_trials import Trial, read_design, read_responses, shared_pictures, stimulus_id, trials_of
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

# A picture is shown for 3 s, the next follows after one more.
TRIAL_S = 4.0
# the pictures: 73,000 × 425 × 425 × 3, uint8, below nsddata_stimuli/stimuli/nsd
PICTURES = "nsd_stimuli.hdf5#imgBrick"
FILE = re.compile(r"betas_session(\d+)\.(hdf5|nii\.gz|nii)")
# What the numbers of roi/streams.nii.gz stand for (streams.mgz.ctab).
STREAMS = dict(enumerate(("", "early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal")))


class Nsd(Source):
    """One recording per session and part, one valid interval (of one sample) per trial, one channel per voxel.

    The test part are the trials of the 1,000 pictures that everybody saw; the train part is the rest of a session. A
    beta has no clock: trial k of a session begins at 4·k seconds, its place in the order. The event of a trial holds
    the picture (`stimulus_id`, counted from 0: ``nsd-02950``), the run (`block`) and the how-manieth presentation
    it is (`value`). Voxels without a response in any trial of a session are marked bad there; values are percent
    signal change. Z-scoring belongs to the training part.

    Parameters
    ----------
    root : path
        With ``nsddata`` and ``nsddata_betas`` in it, as on the public bucket.
    subjects, sessions : list of str or int, optional
        Numbers (1 or "01"); default all that are there.
    space : str
        "func1pt8mm" or "func1mm".
    betas : str
        Which estimate.
    mask : str
        File of ``roi/`` whose voxels above 0 are taken, or "brainmask".
    regions : str, optional
        File of ``roi/`` with numbered regions, e.g. "streams".
    """

    name = "nsd"
    id = "nsd"
    licence = "NSD Terms and Conditions (signed data access agreement, no redistribution)"
    citation = (
        "Allen et al. 2022, A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence, "
        "Nature Neuroscience 25"
    )
    modalities = ("fmri",)

    def __init__(
        self,
        *,
        root: str | Path,
        subjects: list[str | int] | None = None,
        sessions: list[str | int] | None = None,
        space: str = "func1pt8mm",
        betas: str = "betas_fithrf_GLMdenoise_RR",
        mask: str = "nsdgeneral",
        regions: str | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        self.subjects, self.sessions = numbers(subjects, "subjects"), numbers(sessions, "sessions")
        if space not in ("func1pt8mm", "func1mm"):
            raise ConfigError(f"source 'nsd': space '{space}' is not read; expected func1pt8mm or func1mm")
        self.space, self.betas, self.mask, self.regions = space, betas, mask, regions

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        names = ("subjects", "sessions", "space", "betas", "mask", "regions")
        return {"name": self.name, "version": self.version, **{n: getattr(self, n) for n in names}}

    def stimuli(self, folder: Path) -> list[dict[str, Any]]:
        """Return the pictures that the chosen people saw; they stay in ``nsd_stimuli.hdf5``, a row each."""
        there = sorted((self.root / "nsddata_betas" / "ppdata").glob("subj[0-9][0-9]"))
        design = read_design(self.root)
        shared, seen = shared_pictures(self.root, design), set()
        for subject in self.subjects or (int(p.name[4:]) for p in there):
            shown = _responses(self.root, subject)
            if isinstance(shown, np.ndarray):
                seen |= set(shown[:, 2].tolist())
            elif shown is None and design:
                own = design["subjectim"][subject - 1]
                seen |= {int(own[i - 1]) - 1 for i in design["masterordering"]}
        return [
            {"stimulus_id": stimulus_id(p), "kind": "image", "part": "test" if p in shared else "train", "concept": "",
             "file": f"{PICTURES}/{p}"}
            for p in sorted(seen)
        ]  # fmt: skip

    def list(self) -> list[Item]:
        """Return one item per session and part; the tables of trials are read, betas are not."""
        folder = self.root / "nsddata_betas" / "ppdata"
        if not folder.is_dir():
            raise DataError(f"{self.root}: has no nsddata_betas/ppdata; set source.root to the folder above nsddata")
        import_nibabel("source 'nsd'")
        items: list[Item] = []
        there = {int(p.name[4:]): p for p in sorted(folder.glob("subj[0-9][0-9]"))}
        for number in self.subjects or ():
            if number not in there:
                raise ConfigError(
                    f"source 'nsd': subject {number} is not there: {nearest(str(number), map(str, there))}"
                )
        design = read_design(self.root)
        shared = shared_pictures(self.root, design)
        for subject in self.subjects or there:
            shown = _responses(self.root, subject)
            for session, path in sessions_in(there[subject] / self.space / self.betas).items():
                if self.sessions is None or session in self.sessions:
                    parts = parts_of(path, shown, design, shared, subject=subject, session=session)
                    items += self._items(subject, session, path, parts)
        return items

    def _items(
        self, subject: int, session: int, path: Path, parts: Mapping[str, Sequence[Trial] | str]
    ) -> Sequence[Item]:
        where = self.root / "nsddata" / "ppdata" / f"subj{subject:02d}" / self.space
        mask = where / "brainmask.nii.gz" if self.mask == "brainmask" else where / "roi" / f"{self.mask}.nii.gz"
        regions = None if self.regions is None else where / "roi" / f"{self.regions}.nii.gz"
        name = path.relative_to(self.root).as_posix()
        files = [p for p in (path, mask, regions) if p is not None and p.is_file()]
        marks = file_marks(files)
        who = {"subject": f"{subject:02d}", "session": f"{session:02d}"}
        return [
            Item(
                key=f"{name}:{part}",
                fingerprint=hash_of([name, marks, what if isinstance(what, str) else [vars(t) for t in what]]),
                open=partial(load_part, self.root, name, who, part, what, mask, regions),
                **who,
                source_file=name,
                n_bytes=path.stat().st_size,
            )
            for part, what in parts.items()
        ]


def numbers(given: Sequence[str | int] | None, what: str, source: str = "nsd") -> list[int] | None:
    """Return subject or session numbers: 1, "01" and "subj01" are the same."""
    if given is None:
        return None
    texts = [re.sub(r"^(subj|sub-|session)", "", str(g)) for g in given]
    for t in texts:
        if not t.isdigit():
            raise ConfigError(f"source '{source}': {what} holds '{t}'; expected numbers")
    return sorted({int(t) for t in texts})


def sessions_in(folder: Path) -> dict[int, Path]:
    """Return session number → file of betas; HDF5 where both forms are there."""
    found: dict[int, Path] = {}
    if folder.is_dir():
        # In this order the last one seen counts: .nii, .nii.gz, .hdf5.
        for path in sorted(folder.iterdir(), key=lambda p: (p.name.endswith(".hdf5"), p.name.endswith(".gz"), p.name)):
            fit = FILE.fullmatch(path.name)
            if fit:
                found[int(fit[1])] = path
    return dict(sorted(found.items()))


def _responses(root: Path, subject: int) -> np.ndarray | str | None:
    """Return a subject's responses, or why they cannot be read."""
    try:
        return read_responses(root, subject)
    except DataError as error:
        return str(error)


def parts_of(
    path: Path,
    shown: np.ndarray | str | None,
    design: dict[str, np.ndarray],
    shared: set[int],
    *,
    subject: int,
    session: int,
) -> Mapping[str, Sequence[Trial] | str]:
    """Return part → its trials in a session; one part with the reason where they cannot be told."""
    if isinstance(shown, str):
        return {"train": shown}
    try:
        trials = trials_of(shown, design, shared, subject=subject, session=session, n_trials=n_trials_of(path))
    except DataError as error:
        # One item that says why, so that the other sessions go on.
        return {"train": str(error)}
    parts = {p: [t for t in trials if t.shared == mine] for p, mine in (("train", False), ("test", True))}
    return {p: ts for p, ts in parts.items() if ts}


def load_part(
    root: Path,
    name: str,
    who: dict[str, str],
    part: str,
    trials: Sequence[Trial] | str,
    mask: Path,
    regions: Path | None,
) -> Recording:
    """Read the voxels of one session and the trials of one part.

    Raises
    ------
    DataError
        When betas, masks and trials do not fit together.
    """
    if isinstance(trials, str):
        raise DataError(trials)
    path = root / name
    channels, values, factor = _voxels(path, mask, regions)

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        row = trials[interval].row
        return values[row : row + 1][start:stop] * factor

    stream = Stream(
        rate_hz=1 / TRIAL_S,
        unit="percent",
        channels=channels,
        n_samples=(1,) * len(trials),
        read=read,
    )
    starts = tuple(t.row * TRIAL_S for t in trials)
    return Recording(
        dataset="nsd",
        **who,
        task="nsdcore",
        run=part,
        modality="fmri",
        streams=(stream,),
        interval_start_s=starts,
        events=tuple(
            Event(onset_s=at, duration_s=TRIAL_S, kind="trial", stimulus_id=stimulus_id(t.picture),
                  value=float(t.repeat), trial=i, block=t.run)
            for i, (at, t) in enumerate(zip(starts, trials, strict=True))
        ),
        part=part,
        source_file=name,
        source_sha256=sha256_file(path),
    )  # fmt: skip


def _voxels(path: Path, mask: Path, regions: Path | None) -> tuple[tuple[Channel, ...], np.ndarray, float]:
    for file in (mask, regions):
        if file is not None and not file.is_file():
            raise DataError(f"{path.name}: needs {file.parent.name}/{file.name}, which is not there")
    image = open_image(mask, "the mask")
    inside = np.asanyarray(image.dataobj) > 0
    if not inside.any():
        raise DataError(f"{mask.name}: has no voxel above 0")
    names = [""] * int(inside.sum())
    if regions is not None:
        labels = open_image(regions, "the regions")
        if not same_grid(image, labels):
            raise DataError(f"{regions.name}: its shape or affine is not that of {mask.name}")
        table = STREAMS if regions.name.startswith("streams.") else {}
        numbered = np.asanyarray(labels.dataobj)[inside]
        names = [table.get(int(v), str(int(v))) if v > 0 else "" for v in numbered]
    values, factor = read_betas(path, inside, mask.name)
    channels = voxel_channels(np.argwhere(inside), image.affine, "scanner", names, unit="percent")
    empty = ~np.isfinite(values).all(axis=0) | ~values.any(axis=0)
    return tuple(_silent(c) if e else c for c, e in zip(channels, empty, strict=True)), values, factor


def _silent(channel: Channel) -> Channel:
    return replace(channel, bad=True, reason="no response in any trial of the session")
