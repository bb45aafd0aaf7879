"""Cutting a signal into patches, and joining them again."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError


def count_patches(window_samples: int, patch_samples: int) -> int:
    """Return how many patches of `patch_samples` fill a window.

    Raises
    ------
    ConfigError
        When the window is not a whole number of patches.
    """
    if patch_samples < 1:
        raise ConfigError(f"a patch of {patch_samples} samples is empty: give a longer patch")
    n_patches, rest = divmod(window_samples, patch_samples)
    if n_patches == 0 or rest:
        shorter, longer = n_patches * patch_samples, (n_patches + 1) * patch_samples
        fits = f"{longer}" if n_patches == 0 else f"{shorter} or {longer}"
        raise ConfigError(
            f"a window of {window_samples} samples is not a multiple of the patch of {patch_samples} samples: "
            f"choose a window of {fits} samples, or another patch"
        )
    return n_patches


def cut_patches(signal: Tensor, patch_samples: int, *, drop_rest: bool = False) -> Tensor:
    """Cut a signal into patches without overlap.

    Parameters
    ----------
    signal : Tensor, shape (B, C, samples)
        Samples, the last axis a multiple of `patch_samples`.
    patch_samples : int
        Samples in a patch.
    drop_rest : bool
        Leave out the samples after the last whole patch, if there are any, instead of refusing them.

    Returns
    -------
    Tensor, shape (B, T, C, patch_samples)
        A view where possible; T = samples / patch_samples.
    """
    if drop_rest:
        signal = signal[..., : signal.shape[-1] // patch_samples * patch_samples]
    n_patches = count_patches(signal.shape[-1], patch_samples)
    return signal.unflatten(-1, (n_patches, patch_samples)).transpose(1, 2)


def join_patches(patches: Tensor, n_samples: int | None = None) -> Tensor:
    """Undo `cut_patches`: (B, T, C, P) → (B, C, samples), to `n_samples` with zeros after the last patch."""
    signal = patches.transpose(1, 2).flatten(-2)
    return signal if n_samples is None else F.pad(signal, (0, n_samples - signal.shape[-1]))
