"""How far preparation may have carried one part of a recording into the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurofm.data.dataset import Dataset
from neurofm.data.mixture import members_of
from neurofm.schema.errors import ConfigError

# a Hamming-windowed FIR lasts 3.3 / transition width (Oppenheim & Schafer, Discrete-Time Signal Processing; MNE's rule)
HAMMING_WIDTH = 3.3
# stages that reach over time in a way that their settings alone do not tell
UNBOUNDED = ("iir", "run_filter", "smooth")


def filter_length_s(dataset: Dataset) -> float:
    """Longest kernel that the preparation's stages convolved with, in seconds, from dataset.json.

    Raises
    ------
    ConfigError
        When a stage has no length that its settings tell.
    """
    return max((_length_s(stage, d) for d in members_of(dataset) for stage in _stages(d)), default=0.0)


def _stages(dataset: Dataset) -> list[Mapping[str, Any]]:
    manifest = getattr(dataset, "manifest", None)
    return list(manifest.prep.get("stages") or []) if manifest is not None else []


def _length_s(stage: Mapping[str, Any], dataset: Dataset) -> float:
    name = stage.get("name")
    if name in UNBOUNDED:
        raise ConfigError(
            f"{dataset.path}: was prepared with stage '{name}', whose reach is not known; give the split's gap_s"
        )
    if name == "notch":
        return HAMMING_WIDTH / float(stage.get("transition_hz", 1.5))
    if name != "filter":
        return 0.0
    found = [0.0]
    for side in ("low", "high"):
        edge = stage.get(f"{side}_hz")
        if edge is not None:
            width = stage.get(f"{side}_transition_hz") or max(edge / 4, 2.0)
            found.append(HAMMING_WIDTH / (min(width, edge) if side == "low" else width))
    return max(found)
