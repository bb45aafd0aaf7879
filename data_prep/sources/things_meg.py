"""THINGS-MEG (Hebart et al. 2023): four people, 22,448 images once and 200 test images twelve times, 271 sensors.

The runs come in BIDS (CTF), and as published epochs. What an image is stands in ``sourcedata/sample_attributes_P1.csv``
of the BIDS folder, which both forms need.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.readers.tables import number_or_nan, stream_rows
from data_prep.sources.base import Item, Source, file_marks
from data_prep.sources.bids import data_files
from data_prep.sources.things_meg_signal import epochs_recording, run_recording
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Recording

VARIANTS = ("raw", "preprocessed")
PARTS = ("train", "test")
# Only the first file of a split set: mne goes on to the parts by itself, and reading them again would double trials.
EPOCHS = re.compile(r"preprocessed_P(\d+)-epo\.fif")
RUN = re.compile(r"sub-(BIGMEG(\d+))_ses-(\w+?)_task-main_run-(\w+?)(?:_split-01)?_meg\.(?:ds|fif)")
COLUMNS = ("trial_type", "image_path", "things_image_nr", "session_nr", "run_nr")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One row of the sample attributes.

    Attributes
    ----------
    kind : str
        "exp", "test" or "catch".
    stem : str
        The image's file name without suffix, e.g. "aardvark_01b".
    number : int
        Its number in the sorted list of all THINGS images, from 1; -1 = none.
    session, run : int
        When it was shown.
    duration_s : float
        How long it was shown: half a second with jitter.
    """

    kind: str
    stem: str
    number: int
    session: int
    run: int
    duration_s: float = 0.5

    @property
    def concept(self) -> str:
        """The object shown: the stem less its last part."""
        return self.stem.rpartition("_")[0]


class ThingsMeg(Source):
    """Images on the recording's clock (raw), or one valid interval per image in a train and a test part.

    An image event's `label` is the concept, its `stimulus_id` the image's name. In raw runs train and test images
    alternate: `value` is 1 for a test image, 0 for a training image. Catch images are left out.

    Parameters
    ----------
    root : path
        Folder of OpenNeuro ds004212.
    variant : str
        "raw" or "preprocessed" (``preprocessed_P1-epo.fif`` …, anywhere under `root`).
    subjects : list of str, optional
        Of BIGMEG1 … BIGMEG4; default all.
    """

    name = "things_meg"
    id = "things_meg"
    licence = "CC0 (OpenNeuro ds004212); the images have their own terms and are not needed here"
    citation = (
        "Hebart et al. 2023, THINGS-data, a multimodal collection of large-scale datasets for investigating object "
        "representations in human brain and behavior, eLife 12:e82580"
    )
    modalities = ("meg",)

    def __init__(self, *, root: str | Path, variant: str = "raw", subjects: list[str] | None = None) -> None:
        if variant not in VARIANTS:
            raise ConfigError(f"source 'things_meg': variant '{variant}' is unknown: {nearest(str(variant), VARIANTS)}")
        self.root, self.variant = Path(root).expanduser(), variant
        self.subjects = None if subjects is None else [str(s) for s in subjects]

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {**super().describe(), "variant": self.variant, "subjects": self.subjects}

    def stimuli(self, folder: Path) -> list[dict[str, Any]]:
        """Return the images that anybody saw; their files stay where the user keeps the THINGS images."""
        rows = {}
        for path in sorted((self.root / "sourcedata").glob("sample_attributes_P*.csv")):
            for shown in read_attributes(self.root, path.stem.rpartition("_P")[2]):
                if shown.kind != "catch":
                    rows[shown.stem] = {
                        "stimulus_id": shown.stem, "concept": shown.concept, "kind": "image",
                        "part": "test" if shown.kind == "test" else "train", "file": f"{shown.concept}/{shown.stem}.jpg",
                        "caption": shown.concept.replace("_", " "),
                    }  # fmt: skip
        return list(rows.values())

    def list(self) -> list[Item]:
        """Return one item per run, or per subject and part of the epochs."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root to OpenNeuro ds004212")
        items = _runs(self.root) if self.variant == "raw" else _epochs(self.root)
        known = {i.subject for i in items}
        for s in self.subjects or ():
            if s not in known:
                raise ConfigError(f"source 'things_meg' has no subject '{s}': {nearest(s, known)}")
        return [i for i in items if self.subjects is None or i.subject in self.subjects]


def _runs(root: Path) -> list[Item]:
    items = []
    for path in sorted(root.glob("sub-*/ses-*/meg/*_task-main_run-*_meg.*")):
        found = RUN.fullmatch(path.name)
        if found is None:
            continue
        subject, number, session, run = found.groups()
        files = data_files(path)
        items.append(
            Item(
                key=f"{subject}_ses-{session}_run-{run}",
                fingerprint=_fingerprint(root, number, [*files, events_file(path)]),
                open=partial(load_run, root, path.relative_to(root).as_posix()),
                subject=subject,
                session=session,
                source_file=path.relative_to(root).as_posix(),
                n_bytes=sum(p.stat().st_size for p in files),
            )
        )
    return items


def _epochs(root: Path) -> list[Item]:
    items = []
    for path in sorted(root.rglob("preprocessed_P*-epo.fif")):
        found = EPOCHS.fullmatch(path.name)
        if found is None:
            continue
        files = sorted(path.parent.glob(f"{path.stem}*.fif"))
        items += [
            Item(
                key=f"BIGMEG{found.group(1)}_part-{part}",
                fingerprint=_fingerprint(root, found.group(1), files),
                open=partial(load_epochs, root, path.relative_to(root).as_posix(), part),
                subject=f"BIGMEG{found.group(1)}",
                source_file=path.relative_to(root).as_posix(),
                n_bytes=sum(p.stat().st_size for p in files) // len(PARTS),
            )
            for part in PARTS
        ]
    return items


def attributes_file(root: Path, number: str) -> Path:
    """Return where the images that a subject saw are listed."""
    return root / "sourcedata" / f"sample_attributes_P{number}.csv"


def events_file(path: Path) -> Path:
    """Return the events.tsv beside a run."""
    return path.with_name(path.name.rpartition("_meg.")[0].removesuffix("_split-01") + "_events.tsv")


def _fingerprint(root: Path, number: str, files: list[Path]) -> str:
    near = [p for p in (attributes_file(root, number), *files) if p.exists()]
    return hash_of(file_marks(near))


def read_attributes(root: Path, number: str) -> list[Shown]:
    """Read what was shown to a subject, in order.

    Raises
    ------
    DataError
        When the table or one of its columns is missing.
    """
    path = attributes_file(root, number)
    if not path.exists():
        raise DataError(f"sourcedata/{path.name} is missing; only it says which image was shown")
    return [_shown(row) for row in stream_rows(path, *COLUMNS)]


def _shown(row: dict[str, str]) -> Shown:
    path = PurePosixPath(row["image_path"].replace("\\", "/"))
    catch = row["trial_type"] == "catch" or path.as_posix().startswith("images_catch_meg")
    duration = number_or_nan(row.get("image_off")) - number_or_nan(row.get("image_on"))
    return Shown(
        kind="catch" if catch else row["trial_type"],
        stem=path.stem,
        number=-1 if catch or math.isnan(image := number_or_nan(row["things_image_nr"])) else int(image),
        session=int(float(row["session_nr"])),
        run=int(float(row["run_nr"])),
        duration_s=duration if 0 < duration < 2 else 0.5,
    )


def load_run(root: Path, name: str) -> Recording:
    """Open one raw run."""
    found = RUN.fullmatch(PurePosixPath(name).name)
    assert found is not None
    subject, number, session, run = found.groups()
    rows = [s for s in read_attributes(root, number) if (s.session, s.run) == (int(session), int(run))]
    return run_recording(root, name, rows, events_file(root / name), subject=subject, session=session, run=run)


def load_epochs(root: Path, name: str, part: str) -> Recording:
    """Open one part of a subject's published epochs."""
    found = EPOCHS.fullmatch(PurePosixPath(name).name)
    assert found is not None
    rows = read_attributes(root, found.group(1))
    return epochs_recording(root, name, rows, subject=f"BIGMEG{found.group(1)}", part=part)
