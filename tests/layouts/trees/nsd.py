"""NSD single-trial betas: int16, 300 × % signal change, one volume per trial; trials and images in the behaviour table.

A session is two recordings: the official test part are the trials of the 1,000 shared images.

Volumes are (x, y, z, trial) in NIfTI; in the HDF5 version h5py shows the axes reversed, (trial, z, y, x). A mask is
what is above zero (the region files hold −1 as well). Image numbers: ``73KID`` in the table counts from 1, the rows
of the stimulus file and ``nsdId`` from 0.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import h5py
import nibabel
import numpy as np
from scipy.io import savemat

from ..expected import Expected, Tree

SHAPE, N_TRIALS = (12, 10, 8), 30
PARTS = ("train", "test")
AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
BETAS = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
SPACE = "nsddata/ppdata/{}/func1pt8mm"
RESPONSES = [
    *["SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME", "ISOLD", "ISCORRECT", "RT", "CHANGEMIND"],
    *["MEMORYRECENT", "MEMORYFIRST", "ISOLDCURRENT", "ISCORRECTCURRENT", "TOTAL1", "TOTAL2", "BUTTON", "MISSINGDATA"],
]


def _nifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)


def _masks(root: Path, subject: str) -> np.ndarray:
    """Write the brain and the region; −1 = cortex outside the region. Returned: where the region is."""
    brain = np.zeros(SHAPE, np.int16)
    brain[1:-1, 1:-1, 1:-1] = 1
    region = np.where(brain, -1, 0).astype("f4")
    region[2:6, 3:7, 2:4] = 1
    region[7, 4, 5] = 1  # not a box, and not symmetric: exchanged axes give other voxels
    folder = root / SPACE.format(subject)
    _nifti(folder / "brainmask.nii.gz", brain)
    _nifti(folder / "roi/nsdgeneral.nii.gz", region)
    _nifti(folder / "roi/streams.nii.gz", region)
    return region > 0


def _design(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write the design files and return, for each trial of subject 1, the 0-based image and whether it is shared.

    The first thousand of a subject's 10,000 images are the shared ones.
    """
    rng = np.random.default_rng(73)
    images = np.stack([rng.permutation(73000)[:10000] for _ in range(8)]) + 1
    shared = np.sort(rng.permutation(73000)[:1000]) + 1
    images[:, :1000] = shared
    ordering = rng.integers(1, 10001, 30000)
    ordering[:90] = rng.permutation(np.repeat(np.r_[np.arange(1, 11), np.arange(4001, 4021)], 3))
    folder = root / "nsddata/experiments/nsd"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"masterordering": ordering[None], "subjectim": images, "sharedix": shared[None]}
    savemat(folder / "nsd_expdesign.mat", {k: v.astype(float) for k, v in content.items()}, do_compression=True)
    with (folder / "nsd_stim_info_merged.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["", "cocoId", "nsdId", "shared1000", *(f"subject{s}" for s in range(1, 9))])
        for image in np.unique(images[0, ordering[:90] - 1]) - 1:
            table.writerow([image, 500000 + image, image, bool(image + 1 in shared), *[1] * 8])
    return images[0, ordering - 1] - 1, ordering <= 1000


def _responses(root: Path, subject: str, images: np.ndarray, *, n_sessions: int) -> None:
    path = root / f"nsddata/ppdata/{subject}/behav/responses.tsv"
    path.parent.mkdir(parents=True)
    seen: set[int] = set()
    lines = ["\t".join(RESPONSES)]
    for k, image in enumerate(images[: n_sessions * N_TRIALS]):
        session, trial = divmod(k, N_TRIALS)
        old = int(image in seen)
        seen.add(image)
        where = [int(subject[-1]), session + 1, 1 + trial // 15, 1 + trial % 15]
        answer = [1, 640.5, 0, old, old, old, 1, 1, 0, 1, 0] if trial % 7 else ["NaN", "NaN", "NaN", "NaN"] + [0] * 7
        row = [*where, image + 1, 1 + k % 10000, 0.5 + session, old, *answer]
        lines.append("\t".join(map(str, row)))
    path.write_text("\n".join(lines) + "\n")


def _betas(
    root: Path, subject: str, session: int, kinds: list[str], *, where: np.ndarray, n: int = N_TRIALS
) -> np.ndarray:
    """Write one session and return what the region holds, (trial, voxel), in % signal change."""
    rng = np.random.default_rng(10 * session)
    stored = np.round(rng.normal(scale=600.0, size=(*SHAPE, n))).clip(-32768, 32767).astype(np.int16)
    stored[0], stored[-1] = 0, 0  # outside the brain
    folder = root / BETAS.format(subject)
    name = f"betas_session{session:02d}"
    if "nii.gz" in kinds:
        _nifti(folder / f"{name}.nii.gz", stored)
    if "hdf5" in kinds:
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / f"{name}.hdf5", "w") as file:
            file.create_dataset("betas", data=stored.transpose(3, 2, 1, 0), chunks=(n, 1, 1, 1))
    return stored[where].T / 300.0


def _session(subject: str, session: int, values: np.ndarray, shared: np.ndarray) -> list[Expected]:
    """Expect the trials of each part, in the order in which they were shown."""
    mine = shared[(session - 1) * N_TRIALS : session * N_TRIALS]
    assert {*mine} == {True, False}
    return [
        Expected(
            subject=re.compile(rf"(^|\D){subject[4:]}$"),
            session=f"{session:02d}",
            part=part,
            modality="fmri",
            kinds=["bold"] * values.shape[1],
            n_samples=[1] * len(trials),
            values={i: trials[i : i + 1] for i in range(len(trials))},
            atol=1e-4,
        )
        for part, trials in zip(PARTS, (values[~mine], values[mine]), strict=True)
    ]


def _tree(root: Path, recordings: list[Expected], rejected: list[str] | None = None) -> Tree:
    choices = {"root": root, "space": "func1pt8mm", "mask": "nsdgeneral"}
    return Tree(source="nsd", choices=choices, recordings=recordings, rejected=rejected or [])


def _subject(root: Path, kinds: list[str], *, n_sessions: int = 2) -> list[Expected]:
    """Two sessions of betas; the behaviour table may list more than can be downloaded."""
    where = _masks(root, "subj01")
    images, shared = _design(root)
    _responses(root, "subj01", images, n_sessions=n_sessions)
    read = {s: _betas(root, "subj01", s, kinds, where=where) for s in (1, 2)}
    return [part for s, values in read.items() for part in _session("subj01", s, values, shared)]


def write_nifti(root: Path) -> Tree:
    """Volumes as NIfTI; a third session is in the table only."""
    return _tree(root, _subject(root, ["nii.gz"], n_sessions=3))


def write_hdf5(root: Path) -> Tree:
    """The same volumes as HDF5: axes reversed, same voxels in the same order."""
    return _tree(root, _subject(root, ["hdf5"]))


def write_both_formats(root: Path) -> Tree:
    """A session held in both formats is one session."""
    return _tree(root, _subject(root, ["hdf5", "nii.gz"]))


def write_trials_missing(root: Path) -> Tree:
    """29 volumes for 30 rows of the table: which trial is missing cannot be known."""
    where = _masks(root, "subj01")
    images, shared = _design(root)
    _responses(root, "subj01", images, n_sessions=2)
    first = _session("subj01", 1, _betas(root, "subj01", 1, ["nii.gz"], where=where), shared)
    _betas(root, "subj01", 2, ["nii.gz"], where=where, n=N_TRIALS - 1)
    return _tree(root, first, ["session 2 has 29 betas"])


def write_mask_of_another_shape(root: Path) -> Tree:
    """A mask on another grid than the betas: neither part can be read."""
    where = _masks(root, "subj01")
    _responses(root, "subj01", _design(root)[0], n_sessions=1)
    _betas(root, "subj01", 1, ["nii.gz"], where=where)
    _nifti(root / SPACE.format("subj01") / "roi/nsdgeneral.nii.gz", np.ones((11, 10, 8), "f4"))
    return _tree(root, [], ["nsdgeneral"] * len(PARTS))


def images(root: Path) -> tuple[Tree, dict[tuple[str, str], np.ndarray]]:
    """Two sessions, and the 0-based image (row of the stimulus file) of each trial of their parts."""
    _subject(root, ["nii.gz"])
    shown, shared = _design(root)
    of = {}
    for session in (1, 2):
        trials = slice((session - 1) * N_TRIALS, session * N_TRIALS)
        of[f"{session:02d}", "train"] = shown[trials][~shared[trials]]
        of[f"{session:02d}", "test"] = shown[trials][shared[trials]]
    return _tree(root, []), of


def silent_voxel(root: Path) -> tuple[Tree, np.ndarray]:
    """One session in which voxel 3 of the region is zero in all trials, and the train part's values (trial, voxel)."""
    where = _masks(root, "subj01")
    images, shared = _design(root)
    _responses(root, "subj01", images, n_sessions=1)
    _betas(root, "subj01", 1, ["nii.gz"], where=where)
    path = root / BETAS.format("subj01") / "betas_session01.nii.gz"
    stored = np.asarray(nibabel.load(path).dataobj).copy()
    stored[tuple(np.argwhere(where)[3])] = 0
    _nifti(path, stored)
    return _tree(root, []), stored[where].T[~shared[:N_TRIALS]] / 300.0
