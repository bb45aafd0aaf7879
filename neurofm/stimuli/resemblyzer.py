"""Speaker and prosody of speech: the three-layer LSTM of the resemblyzer package (Wan et al. 2018, GE2E)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from neurofm.schema.errors import DataError
from neurofm.stimuli.base import Encoder, choose, folder_of, resample, weights_hash
from neurofm.stimuli.spectrogram import mel_filters, stft_power

WEIGHTS = "resemblyzer/pretrained.pt"
RATE_HZ, LENGTH, HOP, BANDS, PARTIAL = 16_000, 400, 160, 40, 160


class Resemblyzer(Encoder):
    """256 values per window of 1.6 s: length one for "window", states of the last LSTM layer for "frames".

    Parameters
    ----------
    path : path
        Folder of the unzipped package.
    pooling : str
        "frames" (a state every 10 ms, the LSTM started anew every 1.6 s) or "mean" (the mean of the windows' vectors).
    """

    kind: ClassVar[str] = "audio"
    pin: ClassVar[tuple[str, str, str, tuple[str, ...]]] = (
        "Resemblyzer", "0.1.4", "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f", (WEIGHTS,)
    )  # fmt: skip
    layer = "lstm 3"

    def __init__(self, *, path: str | Path, pooling: str = "frames") -> None:
        folder = folder_of(path, "resemblyzer")
        self.pooling = choose(pooling, ("frames", "mean"), "encoder 'resemblyzer': pooling")
        self.rate_hz = RATE_HZ / HOP if pooling == "frames" else None
        self.lstm, self.linear = nn.LSTM(BANDS, 256, 3, batch_first=True), nn.Linear(256, 256)
        if not (folder / WEIGHTS).exists():
            raise DataError(f"{folder / WEIGHTS}: is missing; delete the folder and run again to fetch it anew")
        state = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)["model_state"]
        for name, module in (("lstm", self.lstm), ("linear", self.linear)):
            own = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
            module.load_state_dict(own)
            module.eval().requires_grad_(False)
        self._identity = {"encoder": "resemblyzer", "weights": weights_hash(folder, WEIGHTS), "pooling": pooling}

    def identity(self) -> dict[str, Any]:
        """Weights and pooling."""
        return self._identity

    @torch.inference_mode()
    def encode(self, items: Sequence[tuple[np.ndarray, float]]) -> list[np.ndarray]:
        """Embed sounds (samples, rate)."""
        made = []
        for item in items:
            # power, not its logarithm, and not in decibels: as the weights were trained
            mel = stft_power(resample(item, RATE_HZ), length=LENGTH, hop=HOP) @ mel_filters(BANDS, LENGTH, RATE_HZ).T
            n = len(mel)
            mel = np.pad(mel, ((0, -n % PARTIAL), (0, 0))).astype(np.float32)
            states, (last, _) = self.lstm(torch.from_numpy(mel.reshape(-1, PARTIAL, BANDS)))
            if self.pooling == "frames":
                made.append(states.reshape(-1, 256)[:n].numpy())
            else:
                vectors = torch.relu(self.linear(last[-1]))
                vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-5)
                made.append(vectors.mean(dim=0).numpy())
        return made
