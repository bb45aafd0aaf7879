"""Sound through a local wav2vec 2.0-class model: one vector every 20 ms (Baevski et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from neurofm.schema.errors import ConfigError
from neurofm.stimuli.base import Encoder, choose, resample, weights_hash
from neurofm.stimuli.pooling import average_layers, check_layers
from neurofm.stimuli.transformers_folder import library_version, open_folder

RATE_HZ = 16_000


class AudioFolder(Encoder):
    """A speech model in a folder; each sound is z-scored as a whole, as these models were trained.

    A sound longer than `chunk_s` is embedded in pieces with `context_s` on either side, so memory stays bounded; no
    frame sees beyond its own file, whose borders should therefore be those of the split.

    Parameters
    ----------
    path : path
        Folder with config.json and model.safetensors.
    layers : sequence of float, optional
        Relative depths whose hidden states are averaged (brainmagick: the last four of wav2vec2-large); default 1.
    pooling : str
        "frames", or "mean" over time.
    chunk_s, context_s : float
        Length of a piece and of what is read around it.
    """

    kind: ClassVar[str] = "audio"

    def __init__(
        self, *, path: str | Path, layers: Sequence[float] | None = None, pooling: str = "frames", chunk_s: float = 20.0,
        context_s: float = 5.0,
    ) -> None:  # fmt: skip
        self.pooling = choose(pooling, ("frames", "mean"), "encoder 'audio_folder': pooling")
        self.depths = check_layers(layers)
        self.layer = "+".join(f"{d:g}" for d in self.depths)
        folder, self.model = open_folder(path, "audio_folder")
        kernels, strides = (getattr(self.model.config, k, None) for k in ("conv_kernel", "conv_stride"))
        if not kernels or not strides:
            raise ConfigError(f"{folder}: is no wav2vec2-class model (config.json has no conv_kernel and conv_stride)")
        self.hop = math.prod(strides)
        # samples that one frame sees
        self.field = 1 + sum((k - 1) * math.prod(strides[:i]) for i, k in enumerate(kernels))
        self.rate_hz = RATE_HZ / self.hop if pooling == "frames" else None
        self.start_s = self.field / 2 / RATE_HZ
        self.chunk = max(1, round(chunk_s * RATE_HZ / self.hop))
        self.context = round(context_s * RATE_HZ / self.hop)
        self._identity = {
            "encoder": "audio_folder", "weights": weights_hash(folder, "*.safetensors", "config.json"),
            "layer": self.layer, "pooling": self.pooling, "chunk_s": chunk_s, "context_s": context_s,
            "transformers": library_version(),
        }  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """Weights, layers, pooling, pieces."""
        return self._identity

    @torch.inference_mode()
    def encode(self, items: Sequence[tuple[np.ndarray, float]]) -> list[np.ndarray]:
        """Embed sounds (samples, rate) one by one; frames [frame, dim], or their mean."""
        made = []
        for item in items:
            frames = self._frames(resample(item, RATE_HZ).astype(np.float64))
            made.append(frames.mean(axis=0) if self.pooling == "mean" else frames)
        return made

    def _frames(self, x: np.ndarray) -> np.ndarray:
        x = (x - x.mean()) / math.sqrt(x.var() + 1e-7)
        n = (len(x) - self.field) // self.hop + 1
        if n < 1:
            x, n = np.pad(x, (0, self.field - len(x))), 1
        out = []
        for first in range(0, n, self.chunk):
            stop = min(n, first + self.chunk)
            a, b = max(0, first - self.context), min(n, stop + self.context)
            piece = torch.from_numpy(x[a * self.hop : (b - 1) * self.hop + self.field].astype(np.float32))
            said = self.model(piece[None], output_hidden_states=True)
            # models with "stable" layer norm list their last state before its norm
            hidden = (*said.hidden_states[:-1], said.last_hidden_state)
            out.append(average_layers(hidden, self.depths)[0, first - a : stop - a].numpy())
        return np.concatenate(out)
