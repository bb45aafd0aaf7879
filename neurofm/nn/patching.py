"""Cutting a signal into patches."""

from __future__ import annotations

from torch import Tensor

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


def cut_patches(signal: Tensor, patch_samples: int) -> Tensor:
    """Cut a signal into patches without overlap.

    Parameters
    ----------
    signal : Tensor, shape (B, C, samples)
        Samples, the last axis a multiple of `patch_samples`.
    patch_samples : int
        Samples in a patch.

    Returns
    -------
    Tensor, shape (B, T, C, patch_samples)
        A view where possible; T = samples / patch_samples.
    """
    n_patches = count_patches(signal.shape[-1], patch_samples)
    return signal.unflatten(-1, (n_patches, patch_samples)).transpose(1, 2)
