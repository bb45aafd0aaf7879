"""fMRIPrep derivatives: runs in template space with masks and confounds; onsets in the raw tree; an atlas beside them.

Values are the mean of each label's voxels, labels ascending. Grids are small but in millimetres; the atlas is not
symmetric in any axis.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

from ..expected import Expected, Tree

SHAPE, TR_S = (8, 7, 6), 1.5
AFFINE = np.array([[4.0, 0, 0, -14], [0, 4.0, 0, -20], [0, 0, 4.0, -6], [0, 0, 0, 1]])
SPACE = "space-MNI152NLin2009cAsym_res-2"
CONFOUNDS = ["trans_x", "rot_z", "trans_x_derivative1"]


def _atlas(root: Path) -> tuple[Path, np.ndarray]:
    """Write three regions; labels need not be consecutive."""
    labels = np.zeros(SHAPE, np.int16)
    labels[1:3, 1:3, 1:5] = 1
    labels[5:7, 2:6, 1:3] = 2
    labels[3:5, 4:6, 4:6] = 7
    path = root / "atlas-miniature_dseg.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), path)
    return path, labels


def _means(volumes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([volumes[labels == k].mean(axis=0) for k in (1, 2, 7)], axis=1)


def _volumes(n: int, *, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (1000.0 + rng.normal(scale=20.0, size=(*SHAPE, n))).astype("f4")


def _save(
    path: Path, values: np.ndarray, *, affine: np.ndarray = AFFINE, tr_s: float = TR_S, unit: str = "sec"
) -> None:
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", unit)
    if values.ndim == 4:
        image.header["pixdim"][4] = tr_s
    nibabel.save(image, path)


def _description(folder: Path, kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, object] = {"Name": "miniature", "BIDSVersion": "1.8.0", "DatasetType": kind}
    if kind == "derivative":
        content["GeneratedBy"] = [{"Name": "fMRIPrep", "Version": "23.2.0"}]
    (folder / "dataset_description.json").write_text(json.dumps(content))


def _run(
    root: Path,
    stem: str,
    volumes: np.ndarray,
    *,
    affine: np.ndarray = AFFINE,
    header_tr_s: float = TR_S,
    unit: str = "sec",
    json_tr_s: float | None = TR_S,
    events: list[tuple[float, float, str]] | None = None,
    old_names: bool = False,
    confounds: np.ndarray | None = None,
) -> None:
    """Write one run as fMRIPrep does: series, sidecar, brain mask, reference volume, confounds; onsets in the raw tree."""
    _description(root, "raw")
    _description(root / "derivatives/fmriprep", "derivative")
    folder = Path(*[p for p in stem.split("_") if p.startswith(("sub-", "ses-"))]) / "func"
    derived, raw = root / "derivatives/fmriprep" / folder, root / folder
    derived.mkdir(parents=True, exist_ok=True)
    raw.mkdir(parents=True, exist_ok=True)
    base = derived / f"{stem}_{SPACE}"
    _save(Path(f"{base}_desc-preproc_bold.nii.gz"), volumes, affine=affine, tr_s=header_tr_s, unit=unit)
    sidecar = {"SkullStripped": False} | ({} if json_tr_s is None else {"RepetitionTime": json_tr_s})
    Path(f"{base}_desc-preproc_bold.json").write_text(json.dumps(sidecar))
    _save(Path(f"{base}_desc-brain_mask.nii.gz"), np.ones(SHAPE, np.uint8), affine=affine)
    _save(Path(f"{base}_boldref.nii.gz"), volumes[..., 0], affine=affine)
    if confounds is None:
        confounds = np.random.default_rng(99).normal(size=(volumes.shape[-1], 2))
    name = "regressors" if old_names else "timeseries"
    outlier = (np.arange(len(confounds)) == 0).astype(float)  # a volume before the steady state
    derivative = ["n/a", *np.diff(confounds[:, 0])]
    lines = ["\t".join(["trans_x", "rot_z", "trans_x_derivative1", "non_steady_state_outlier00"])]
    lines += ["\t".join(map(str, [*c, d, o])) for c, d, o in zip(confounds, derivative, outlier, strict=True)]
    (derived / f"{stem}_desc-confounds_{name}.tsv").write_text("\n".join(lines) + "\n")
    (derived / f"{stem}_desc-confounds_{name}.json").write_text("{}")
    if events is not None:
        lines = ["onset\tduration\ttrial_type", *(f"{on}\t{d}\t{label}" for on, d, label in events)]
        (raw / f"{stem}_events.tsv").write_text("\n".join(lines) + "\n")


def _tree(
    root: Path, atlas: Path, recordings: list[Expected], rejected: list[str] | None = None, **more: object
) -> Tree:
    choices = {"root": root, "atlas": str(atlas), **more}
    return Tree(source="bids_fmri", choices=choices, recordings=recordings, rejected=rejected or [])


def write(root: Path) -> Tree:
    """Two subjects, with and without session and run; a resting run without events; no confounds taken out."""
    atlas, labels = _atlas(root)
    events = [(3.0, 4.5, "left"), (10.5, 4.5, "right"), (16.25, 0.5, "left")]
    recordings = []
    for stem, n, seed, shown in [
        ("sub-01_ses-02_task-motor_run-1", 20, 1, events),
        ("sub-01_ses-02_task-rest", 12, 2, None),
        ("sub-ab12_task-motor", 16, 3, events[:2]),
    ]:
        volumes = _volumes(n, seed=seed)
        _run(root, stem, volumes, events=shown)
        entities = dict(p.split("-") for p in stem.split("_"))
        recordings.append(
            Expected(
                subject=entities["sub"],
                session=entities.get("ses", ""),
                task=entities["task"],
                modality="fmri",
                rate_hz=1 / TR_S,
                kinds=["bold"] * 3,
                n_samples=[n],
                values={0: _means(volumes, labels)},
                atol=1e-2,
                events=[(on, label) for on, _, label in shown or []],
            )
        )
    return _tree(root, atlas, recordings, confounds=[])


def write_flipped(root: Path) -> Tree:
    """The same brain stored with x running the other way: places are told by the affine, not by the index."""
    atlas, labels = _atlas(root)
    volumes = _volumes(10, seed=4)
    affine = AFFINE.copy()
    affine[0] = [-4.0, 0, 0, AFFINE[0, 3] + 4.0 * (SHAPE[0] - 1)]
    _run(root, "sub-01_task-rest", volumes[::-1], affine=affine)
    expected = Expected(subject="01", values={0: _means(volumes, labels)}, atol=1e-2)
    return _tree(root, atlas, [expected], confounds=[])


def write_tr_in_sidecar_only(root: Path) -> Tree:
    """A header that gives no repetition time."""
    atlas, _ = _atlas(root)
    _run(root, "sub-01_task-rest", _volumes(10, seed=5), header_tr_s=0.0, unit="unknown", json_tr_s=0.8)
    return _tree(root, atlas, [Expected(subject="01", rate_hz=1.25, n_samples=[10])], confounds=[])


def write_tr_in_header_only(root: Path) -> Tree:
    """A sidecar that gives no repetition time, and a header that gives it in milliseconds."""
    atlas, _ = _atlas(root)
    _run(root, "sub-01_task-rest", _volumes(10, seed=6), header_tr_s=2500.0, unit="msec", json_tr_s=None)
    return _tree(root, atlas, [Expected(subject="01", rate_hz=0.4, n_samples=[10])], confounds=[])


def write_confounds(root: Path) -> Tree:
    """A derivative has no first value; the frame before the steady state stays, so that onsets keep their place."""
    atlas, _ = _atlas(root)
    events = [(6.0, 1.5, "go")]
    _run(root, "sub-01_task-go", _volumes(24, seed=7), events=events)
    expected = Expected(subject="01", rate_hz=1 / TR_S, kinds=["bold"] * 3, n_samples=[24], events=[(6.0, "go")])
    return _tree(root, atlas, [expected], confounds=CONFOUNDS)


def write_old_confound_names(root: Path) -> Tree:
    """Before fMRIPrep 20.2 the table was called ``desc-confounds_regressors``."""
    atlas, _ = _atlas(root)
    _run(root, "sub-01_task-go", _volumes(24, seed=8), old_names=True)
    return _tree(root, atlas, [Expected(subject="01", n_samples=[24])], confounds=["trans_x", "rot_z"])


def write_bad(root: Path) -> Tree:
    """One good run among three that must not come out.

    An onset after the last volume (the sentence names the repetition time that was taken); a header and a sidecar
    that disagree about it; a brain somewhere else than the atlas.
    """
    atlas, labels = _atlas(root)
    good = _volumes(10, seed=9)
    _run(root, "sub-good_task-a", good, events=[(2.0, 1.0, "in")])
    _run(root, "sub-late_task-a", good, header_tr_s=1.37, json_tr_s=1.37, events=[(2.0, 1.0, "in"), (14.0, 1.0, "out")])
    _run(root, "sub-clash_task-a", good, header_tr_s=2.0, json_tr_s=0.93)
    away = AFFINE.copy()
    away[:3, 3] += 500.0
    _run(root, "sub-away_task-a", good, affine=away)
    expected = Expected(subject="good", values={0: _means(good, labels)}, atol=1e-2, events=[(2.0, "in")])
    return _tree(root, atlas, [expected], ["1.37", "0.93", "atlas"], confounds=[])


def drift(root: Path) -> tuple[Tree, np.ndarray, np.ndarray]:
    """A run that is a slow signal plus head motion: (signal (time, region), motion (time, confound)); motion is to go."""
    atlas, labels = _atlas(root)
    n = 60
    rng = np.random.default_rng(11)
    motion = rng.normal(size=(n, 2))
    signal = np.sin(np.arange(n)[:, None] / np.array([3.0, 5.0, 8.0]))
    volumes = np.full((*SHAPE, n), 500.0)
    for i, k in enumerate((1, 2, 7)):
        volumes[labels == k] += 5.0 * signal[:, i] + motion @ np.array([20.0, -11.0])
    _run(root, "sub-01_task-rest", volumes.astype("f4"), confounds=motion)
    return _tree(root, atlas, [], confounds=["trans_x", "rot_z"]), signal, motion
