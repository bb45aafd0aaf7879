"""Images through a local vision transformer: CLIP, DINOv2, ViT (Radford et al. 2021; Oquab et al. 2024)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from neurofm.schema.errors import ConfigError
from neurofm.stimuli.base import Encoder, choose, weights_hash
from neurofm.stimuli.images import resize_crop
from neurofm.stimuli.pooling import POOLINGS, average_layers, check_layers, pool
from neurofm.stimuli.transformers_folder import library_version, open_folder

# what a folder without preprocessor_config.json is taken to want: ImageNet's mean and spread
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageFolder(Encoder):
    """A vision model in a folder.

    The image is resized (bicubic) so that its shorter edge fits, cropped in the middle, and scaled by the mean and
    spread of the folder's ``preprocessor_config.json``.

    Parameters
    ----------
    path : path
        Folder with config.json and model.safetensors; of CLIP the vision half is run.
    layers : sequence of float, optional
        Relative depths whose hidden states are averaged; default the last.
    pooling : str
        "projected" (CLIP's image_embeds), "mean", "cls" or "tokens" (the whole sequence, as image decoders take it).
    size : int, optional
        Edge in pixels; default the model's own.
    """

    kind: ClassVar[str] = "image"

    def __init__(
        self, *, path: str | Path, layers: Sequence[float] | None = None, pooling: str = "cls", size: int | None = None
    ) -> None:
        self.pooling = choose(pooling, ("projected", *POOLINGS), "encoder 'image_folder': pooling")
        self.depths = check_layers(layers)
        self.layer = "projection" if pooling == "projected" else "+".join(f"{d:g}" for d in self.depths)
        folder, model = open_folder(path, "image_folder")
        self.projection = None
        if pooling == "projected":
            if not hasattr(model, "visual_projection"):
                raise ConfigError(
                    f"{folder}: has no visual projection (it is no CLIP); choose encoder.pooling=cls or mean"
                )
            self.projection = model.visual_projection
        self.model = getattr(model, "vision_model", model)
        if not hasattr(self.model.config, "image_size"):
            raise ConfigError(f"{folder}: is no vision model (config.json has no image_size)")
        self.size = int(size or self.model.config.image_size)
        self.mean, self.spread = _scaling(folder)
        self._identity = {
            "encoder": "image_folder", "weights": weights_hash(folder, "*.safetensors", "config.json"), "size": self.size,
            "mean": list(self.mean), "spread": list(self.spread), "layer": self.layer, "pooling": self.pooling,
            "transformers": library_version(),
        }  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """Weights, size, scaling, layer, pooling."""
        return self._identity

    @torch.inference_mode()
    def encode(self, items: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Embed images (H, W, 3) uint8."""
        pixels = np.stack([resize_crop(x, self.size) for x in items]).astype(np.float32) / 255
        pixels = (pixels - np.array(self.mean, np.float32)) / np.array(self.spread, np.float32)
        x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        out = self.model(pixel_values=x, output_hidden_states=True)
        if self.projection is not None:
            return list(self.projection(out.pooler_output).numpy())
        return list(pool(average_layers(out.hidden_states, self.depths), None, self.pooling).numpy())


def _scaling(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return MEAN, SPREAD
    said = json.loads(path.read_text(encoding="utf-8"))
    return tuple(said.get("image_mean") or MEAN), tuple(said.get("image_std") or SPREAD)
