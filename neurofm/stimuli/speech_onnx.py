"""Google's speech embedding as two ONNX graphs: 96 values every 80 ms (Lin et al. 2020), from a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurofm.schema.errors import ConfigError
from neurofm.stimuli.base import Encoder, folder_of, resample, weights_hash

FILES = ("melspectrogram.onnx", "embedding_model.onnx")
RATE_HZ, WINDOW, HOP = 16_000, 76, 8
# one mel frame is 10 ms, so an embedding sees 0.76 s and its centre lies at half of that
FRAME_S = 0.01


class SpeechOnnx(Encoder):
    """The two graphs, run by onnxruntime on the CPU.

    Parameters
    ----------
    path : path
        Folder with melspectrogram.onnx and embedding_model.onnx.
    """

    kind: ClassVar[str] = "audio"
    layer, pooling = "last", "frames"
    rate_hz = 1 / (HOP * FRAME_S)
    start_s = WINDOW / 2 * FRAME_S

    def __init__(self, *, path: str | Path) -> None:
        folder = folder_of(path, "speech_onnx")
        for name in FILES:
            if not (folder / name).exists():
                raise ConfigError(f"{folder}: has no {name}; give the folder of both graphs with encoder.path=…")
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError("encoder 'speech_onnx' needs onnxruntime: pip install neurofm[stimuli]") from error
        cpu = ["CPUExecutionProvider"]
        self.mel, self.net = (onnxruntime.InferenceSession(str(folder / n), providers=cpu) for n in FILES)
        self._identity = {"encoder": "speech_onnx", "weights": weights_hash(folder, *FILES)}

    def identity(self) -> dict[str, Any]:
        """Weights."""
        return self._identity

    def encode(self, items: Sequence[tuple[np.ndarray, float]]) -> list[np.ndarray]:
        """Embed sounds (samples, rate): [frame, 96]; one shorter than 0.76 s is padded with silence."""
        made = []
        for item in items:
            x = resample(item, RATE_HZ)
            # the graph takes values in the range of 16-bit integers, as floats
            x = np.pad(x, (0, max(0, round((WINDOW + 4) * FRAME_S * RATE_HZ) - len(x)))) * np.float32(32767)
            mel = self.mel.run(None, {self.mel.get_inputs()[0].name: x[None]})[0]
            frames = mel.reshape(-1, mel.shape[-1]) / 10 + 2
            pieces = np.lib.stride_tricks.sliding_window_view(frames, WINDOW, axis=0)[::HOP].transpose(0, 2, 1)
            out = self.net.run(None, {self.net.get_inputs()[0].name: np.ascontiguousarray(pieces[..., None])})[0]
            made.append(out.reshape(len(pieces), -1))
        return made
