"""What simulators of people who see images share: one recording per person and part, and the images' embedding as "truth"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import FromChoices
from neurofm.schema.embeddings import EMBEDDINGS, write_embeddings
from neurofm.schema.hashing import hash_of, write_json
from neurofm.schema.recording import Recording

PARTS = ("train", "test")


class SimShown(FromChoices):
    """Simulated people and images that do not exist; a subclass says what each image is and simulates the answers to it.

    Beside the embedding stands ``stimuli/oracle.json``: what the best possible decoder reaches for each person.

    Attributes
    ----------
    layer : str
        What the embedding holds, in words.
    """

    layer: str

    def images(self, part: str) -> Iterator[tuple[str, str, np.ndarray]]:
        """Yield (id, concept, embedding) of every image of a part."""
        raise NotImplementedError

    def oracle(self) -> dict[str, Any]:
        """Return what the best possible decoder reaches."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Return name and choices; no more than that, as fingerprints of prepared data are made of it."""
        return {"name": self.name, "version": self.version, **self.choices}

    def stimuli(self, folder: Path) -> list[dict[str, Any]]:
        """Write the embedding and the oracle."""
        rows, values = [], []
        for part in PARTS:
            for stimulus_id, concept, value in self.images(part):
                rows.append({"stimulus_id": stimulus_id, "concept": concept, "kind": "image", "part": part})
                values.append(value)
        write_embeddings(
            folder / EMBEDDINGS / "truth.safetensors", [r["stimulus_id"] for r in rows], values, encoder="truth",
            layer=self.layer, hash=hash_of(self.describe()),
        )  # fmt: skip
        write_json(folder / "oracle.json", self.oracle())
        return rows

    def items(self, simulate: Callable[..., Recording]) -> list[Item]:
        """Return one item per person and part, made by ``simulate(choices, subject, part)``."""
        return [
            Item(
                key=f"sub-{s:02d}_{part}", fingerprint=hash_of([self.describe(), s, part]),
                open=partial(simulate, self.choices, s, part), subject=f"{s:02d}",
            )
            for s in range(1, self.choices["n_subjects"] + 1)
            for part in PARTS
        ]  # fmt: skip
