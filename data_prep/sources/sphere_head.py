"""Potentials of dipoles in a head of concentric spheres, at electrodes of the 10-05 system, by MNE."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

HEAD_M = 0.09


def lead_field(place: np.ndarray, moment: np.ndarray, electrodes: tuple[str, ...]) -> np.ndarray:
    """Potential of unit dipoles at the electrodes, average reference.

    Parameters
    ----------
    place, moment : array, shape (dipole, 3)
        Metres from the spheres' centre, at most `HEAD_M` away; unit vectors.
    electrodes : tuple of str
        Their names; the spheres are fitted to them.

    Returns
    -------
    array, shape (electrode, dipole)
    """
    return _lead_field(tuple(map(tuple, place.tolist())), tuple(map(tuple, moment.tolist())), electrodes)


def electrode_positions(electrodes: tuple[str, ...]) -> np.ndarray:
    """Metres in the head frame, shape (electrode, 3)."""
    return np.array([c["loc"][:3] for c in head(electrodes)[0]["chs"]])


def directions(electrodes: tuple[str, ...]) -> np.ndarray:
    """Unit vectors from the spheres' centre to the electrodes, shape (electrode, 3)."""
    v = electrode_positions(electrodes) - head(electrodes)[1]["r0"]
    return v / np.linalg.norm(v, axis=1, keepdims=True)


@lru_cache(maxsize=32)
def _lead_field(
    place: tuple[tuple[float, ...], ...], moment: tuple[tuple[float, ...], ...], electrodes: tuple[str, ...]
) -> np.ndarray:
    import mne

    info, sphere = head(electrodes)
    rr, nn = np.array(place) + sphere["r0"], np.array(moment)
    with mne.utils.use_log_level("ERROR"):
        source = mne.setup_volume_source_space(pos={"rr": rr, "nn": nn}, sphere=sphere, sphere_units="m")
        forward = mne.make_forward_solution(info, trans=None, src=source, bem=sphere, meg=False, eeg=True, mindist=0)
    if forward["nsource"] != len(rr):
        raise RuntimeError("a dipole lies outside the head")
    field = np.einsum("cki,ki->ck", forward["sol"]["data"].reshape(len(electrodes), -1, 3), nn)
    return field - field.mean(axis=0)


@lru_cache(maxsize=4)
def head(electrodes: tuple[str, ...]) -> tuple[Any, Any]:
    """Return MNE's info of the electrodes and the spheres fitted to them."""
    import mne

    with mne.utils.use_log_level("ERROR"):
        info = mne.create_info(list(electrodes), 100.0, "eeg").set_montage("standard_1005")
        return info, mne.make_sphere_model("auto", HEAD_M + 0.005, info)
