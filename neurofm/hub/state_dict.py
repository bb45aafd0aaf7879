"""Tensors by name from a file of somebody else's, of which no code is run."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from neurofm.schema.errors import DataError

# what torch raises on a file that is damaged, or holds more than tensors
_UNREADABLE = (RuntimeError, EOFError, ValueError, KeyError, torch.serialization.pickle.UnpicklingError)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read tensors from a ``.safetensors`` file, or from a torch file, of which nothing but tensors is unpickled.

    Raises
    ------
    DataError
        When there is no such file, or it holds anything but named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a checkpoint that is on this machine")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise DataError(f"{path}: is not a readable safetensors file ({error}); copy it again") from error
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: does not hold tensors only, or is damaged, and was not read ({reason})") from error
    if isinstance(raw, dict) and isinstance(raw.get("state_dict"), dict):
        raw = raw["state_dict"]
    if not isinstance(raw, dict) or not all(isinstance(x, Tensor) for x in raw.values()):
        raise DataError(f"{path}: expected tensors by name (a state dict), found {type(raw).__name__} of other things")
    return raw
