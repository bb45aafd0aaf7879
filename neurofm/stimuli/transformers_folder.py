"""A frozen model from a local folder of the transformers library; nothing is fetched, no pickle is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurofm.schema.errors import ConfigError
from neurofm.stimuli.base import folder_of


def open_folder(path: str | Path, encoder: str) -> tuple[Path, Any]:
    """Load a folder's model with its own class, in evaluation mode, from safetensors alone.

    Raises
    ------
    ConfigError
        When the library is missing or the folder is not of a model.
    """
    folder = folder_of(path, encoder)
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(f"encoder '{encoder}' needs the transformers library: pip install neurofm[text]") from error
    try:
        model = transformers.AutoModel.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: is not a model folder that can be read ({' '.join(str(error).split())})"
        ) from error
    return folder, model.eval().requires_grad_(False)


def library_version() -> str:
    """Version of transformers: its kernels may change the last digits."""
    from importlib.metadata import version

    return version("transformers")
