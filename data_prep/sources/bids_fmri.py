"""fMRI in BIDS as fMRIPrep leaves it: preprocessed runs, confounds, events, through nilearn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.readers import fmriprep
from data_prep.readers.fmri_run import Cleaning, fmri_recording
from data_prep.readers.masking import Masking
from data_prep.readers.volumes import import_nibabel
from data_prep.sources.base import Item, Source, file_marks, size_of
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Recording

FILTERS = {"subjects": "sub", "sessions": "ses", "tasks": "task", "runs": "run"}
# Entities that may tell two runs of one task apart; they then stand before the run's number.
TELLING = ("acq", "ce", "rec", "dir", "echo")


class BidsFmri(Source):
    """Every ``desc-preproc_bold.nii.gz`` of a BIDS folder that fits the filters, as regions or voxels.

    The repetition time is that of the sidecar, checked against the header. Events come from the events.tsv of the
    raw dataset. The confounds asked for are regressed out of each run, and kept beside it as the covariate stream
    "confounds"; the weights see the whole run (see `regression.regress_out`). No volume is dropped unless
    `scrub` says so: the covariate stream "kept" marks those that a scrubbing strategy, or nilearn's check for the
    steady state, would drop.

    Parameters
    ----------
    root : path
        BIDS dataset with ``derivatives/fmriprep`` in it, or fMRIPrep's output folder itself.
    derivatives : str, optional
        Folder of the preprocessed runs under `root`; default the only one found.
    subjects, sessions, tasks, runs : list of str, optional
        Entities to take, without their prefix; default all.
    space, res : str, optional
        Which of the output spaces and resolutions; needed where there are several.
    atlas, mask, labels, resample
        Which voxels become which channels: see `masking.Masking`.
    confounds : str, list of str or mapping, optional
        A strategy of nilearn ("simple", "scrubbing", "compcor", "ica_aroma"), a list of columns (``trans_*``) or
        components (``[motion, high_pass, wm_csf]``), or arguments of ``load_confounds``.
    detrend : int
        Degree of the polynomial taken out together with the confounds: 0 = none, 1 = linear, 2 = quadratic.
    scrub : str
        "keep" or "cut": whether the volumes marked by the confounds' strategy stay, or end a valid interval.
    tr_s : float, optional
        Repetition time in seconds, against sidecar and header.
    """

    name = "bids_fmri"
    id = "bids_fmri"
    modalities = ("fmri",)

    def __init__(
        self,
        *,
        root: str | Path,
        derivatives: str | None = None,
        subjects: list[str] | None = None,
        sessions: list[str] | None = None,
        tasks: list[str] | None = None,
        runs: list[str] | None = None,
        space: str | None = None,
        res: str | None = None,
        atlas: str | None = None,
        mask: str | None = None,
        labels: str | None = None,
        resample: bool = False,
        confounds: fmriprep.Confounds | None = None,
        detrend: int = 0,
        scrub: str = "keep",
        tr_s: float | None = None,
    ) -> None:
        self.root, self.derivatives = Path(root).expanduser(), derivatives
        filters = {"subjects": subjects, "sessions": sessions, "tasks": tasks, "runs": runs}
        self.filters = {
            k: [str(x).removeprefix(f"{FILTERS[k]}-") for x in v] for k, v in filters.items() if v is not None
        }
        self.space, self.res = space, None if res is None else str(res)
        self.masking = Masking(root=self.root, atlas=atlas, mask=mask, labels=labels, resample=resample)
        self.cleaning = Cleaning(confounds=confounds, detrend=detrend, scrub=scrub, tr_s=tr_s)
        self.cleaning.check(self.name)

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {
            "name": self.name,
            "version": self.version,
            "space": self.space,
            "res": self.res,
            **self.filters,
            **self.masking.describe(),
            **self.cleaning.describe(),
        }

    def list(self) -> list[Item]:
        """Return one item per preprocessed run."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root to a BIDS dataset")
        import_nibabel("source 'bids_fmri'")
        self.masking.check(self.name)
        folder = derivatives_of(self.root, self.derivatives)
        images = runs_in(folder, self.filters, space=self.space, res=self.res)
        items = []
        for image, run in zip(images, run_names(images), strict=True):
            of = fmriprep.entities_of(image)
            who = {"subject": of["sub"], "session": of.get("ses", ""), "task": of.get("task", ""), "run": run}
            beside = sidecars(self.root, folder, of) + events_files(self.root, folder, of) + self.masking.files(who)
            beside += sorted(image.parent.glob("*_desc-confounds_*"))
            marks = file_marks([image, *beside])
            name = image.relative_to(self.root).as_posix()
            items.append(
                Item(
                    key=name,
                    fingerprint=hash_of([name, marks]),
                    open=partial(load_bids_run, self.root, folder, name, who, self.masking, self.cleaning),
                    subject=who["subject"],
                    session=who["session"],
                    source_file=name,
                    n_bytes=size_of(image),
                )
            )
        return items


def runs_in(
    folder: Path, filters: Mapping[str, Sequence[str]], *, space: str | None, res: str | None
) -> Sequence[Path]:
    """Return the preprocessed images of a derivatives folder that fit.

    Raises
    ------
    ConfigError
        When they are there in several spaces or resolutions and none is chosen.
    """
    from nilearn.interfaces.bids import get_bids_files

    endings, desc = ("nii.gz", "nii"), [("desc", "preproc")]
    found = [
        Path(p)
        for ending in endings
        for p in get_bids_files(folder, file_tag="bold", file_type=ending, modality_folder="func", filters=desc)
    ]
    for choice, wanted in filters.items():
        found = [p for p in found if same_label(fmriprep.entities_of(p).get(FILTERS[choice], ""), wanted)]
    for choice, asked in (("space", space), ("res", res)):
        there = {fmriprep.entities_of(p).get(choice, "") for p in found}
        if asked is None and len(there) > 1:
            names = ", ".join(sorted(n or "native" for n in there))
            raise ConfigError(f"source 'bids_fmri': runs are there in several of '{choice}' ({names}); choose one")
        if asked is not None and found:
            if asked not in there:
                raise ConfigError(f"source 'bids_fmri': {choice} '{asked}' is not there: {nearest(asked, there)}")
            found = [p for p in found if fmriprep.entities_of(p).get(choice, "") == asked]
    return sorted(found)


def same_label(label: str, wanted: Sequence[str]) -> bool:
    """Whether a label is among those wanted; runs may be written with and without leading zeros."""
    return label in wanted or (label.isdigit() and any(w.isdigit() and int(w) == int(label) for w in wanted))


def derivatives_of(root: Path, wanted: str | None) -> Path:
    """Return the folder with the preprocessed runs.

    Raises
    ------
    ConfigError
        When there is none, or several of which none is chosen.
    """
    if wanted is not None:
        if not (root / wanted).is_dir():
            raise ConfigError(f"source 'bids_fmri': derivatives '{wanted}' is no folder under source.root")
        return root / wanted
    inner = root / "derivatives"
    candidates = [p for p in (sorted(inner.iterdir()) if inner.is_dir() else []) if p.is_dir()] + [inner, root]
    found = [p for p in candidates if next(p.glob("sub-*/**/*_desc-preproc_bold.nii*"), None) is not None]
    if len(found) > 1:
        names = ", ".join(p.relative_to(root).as_posix() for p in found)
        raise ConfigError(f"source 'bids_fmri': derivatives are there from {names}; set source.derivatives to one")
    if not found:
        raise ConfigError(
            "source 'bids_fmri': no *_desc-preproc_bold.nii.gz under source.root or its derivatives; "
            "run fMRIPrep first, or read plain images with the source 'nifti'"
        )
    return found[0]


def run_names(images: Sequence[Path]) -> list[str]:
    """Return each run's name: its number, led by acquisition, direction … where runs differ by these alone."""
    found = [fmriprep.entities_of(p) for p in images]
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for of in found:
        groups[tuple(of.get(k, "") for k in ("sub", "ses", "task", "run"))].append(of)
    names = []
    for of in found:
        twins = groups[tuple(of.get(k, "") for k in ("sub", "ses", "task", "run"))]
        tell = [k for k in TELLING if len({t.get(k, "") for t in twins}) > 1]
        names.append("-".join([*(of[k] for k in tell if k in of), *([of["run"]] if "run" in of else [])]))
    return names


def raw_roots(root: Path, folder: Path) -> list[Path]:
    """Return where the raw dataset may be: around the derivatives, or above fMRIPrep's output folder."""
    above = [p.parent for p in folder.absolute().parents if p.name == "derivatives"]
    above += [folder.absolute().parent] if folder.name == "derivatives" else []
    return list(dict.fromkeys([root, *above]))


def sidecars(root: Path, folder: Path, of: dict[str, str]) -> list[Path]:
    """Return the JSON files that describe a run, nearest first: the derivative's own, then the raw dataset's."""
    own = fmriprep.related(folder, of, "_bold.json")
    return own + [p for r in raw_roots(root, folder) for p in fmriprep.related(r, of, "_bold.json") if p not in own]


def events_files(root: Path, folder: Path, of: dict[str, str]) -> list[Path]:
    """Return the events.tsv of a run, nearest first."""
    roots = dict.fromkeys([folder, *raw_roots(root, folder)])
    return [p for r in roots for p in fmriprep.related(r, of, "_events.tsv")]


def load_bids_run(
    root: Path, folder: Path, name: str, who: dict[str, str], masking: Masking, cleaning: Cleaning
) -> Recording:
    """Read one preprocessed run with what lies around it.

    Raises
    ------
    DataError
        When run, repetition time, events, confounds and atlas do not fit together.
    """
    image = root / name
    of = fmriprep.entities_of(image)
    beside = sidecars(root, folder, of)
    events = events_files(root, folder, of)
    return fmri_recording(
        image,
        dataset="bids_fmri",
        who=who,
        masking=masking,
        cleaning=cleaning,
        sidecar_tr_s=fmriprep.sidecar_value(beside, "RepetitionTime"),
        # After slice-timing correction a volume is that of StartTime seconds into it.
        start_s=fmriprep.sidecar_value(beside, "StartTime") or 0.0,
        events=events[0] if events else None,
        frame="mni" if of.get("space", "").lower().startswith("mni") else "",
        source_file=name,
    )
