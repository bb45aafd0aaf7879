"""Tokens as a grid of segments and channels, and signals as patches on that grid.

Shape legend: B batch, T segment, C channel, P samples per patch, D width, S time samples.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Encoded
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError


def grid(encoded: Encoded, n_channels: int) -> tuple[Tensor, Tensor]:
    """Unfold tokens (B, N, D) and their mask (B, N) to (B, T, C, D) and (B, T, C).

    Raises
    ------
    ConfigError
        When the tokens are no grid over the batch's channels.
    """
    n = encoded.tokens.shape[1]
    # a number of tokens that happens to divide by the channels is no grid yet
    if n == 0 or n % n_channels or int(encoded.channel[0, 0]) < 0:
        raise ConfigError(
            f"the model gives {n} tokens for {n_channels} channels, but this objective needs one per segment and "
            "channel; choose a model with channel-wise tokens"
        )
    shape = (n // n_channels, n_channels)
    return encoded.tokens.unflatten(1, shape), encoded.mask.unflatten(1, shape)


def to_patches(signal: Tensor, patch_samples: int) -> Tensor:
    """Cut (B, C, S) into (B, T, C, P); samples after the last whole patch are left out."""
    n = signal.shape[-1] // patch_samples
    return signal[..., : n * patch_samples].unflatten(-1, (n, patch_samples)).transpose(1, 2)


def from_patches(patches: Tensor, n_samples: int) -> Tensor:
    """Inverse of `to_patches`: (B, T, C, P) → (B, C, S), zeros after the last whole patch."""
    signal = patches.transpose(1, 2).flatten(-2)
    return F.pad(signal, (0, n_samples - signal.shape[-1]))


def patch_samples_of(model: object) -> int:
    """Return the number of samples per patch of the model's tokenizer.

    Raises
    ------
    ConfigError
        When the model cuts no patches.
    """
    patch = getattr(getattr(model, "tokenizer", None), "patch_samples", None)
    if patch is None:
        raise ConfigError(
            f"{type(model).__name__} has no tokenizer with patch_samples; choose a model that reads patches"
        )
    return int(patch)


def require_methods(objective: str, model: object, *names: str) -> None:
    """Check that a model offers what an objective calls beside `Model`.

    Raises
    ------
    ConfigError
        When it does not.
    """
    missing = [name for name in names if not hasattr(model, name)]
    if missing:
        raise ConfigError(
            f"objective '{objective}' calls {missing[0]}() of a model, which {type(model).__name__} does not have; choose "
            "one that does, e.g. mvpformer_tiny"
        )


def sample_mask(batch: NeuralBatch) -> Tensor:
    """Return where a channel exists and has a sample, shape (B, C, S), bool."""
    return batch.channel_mask[..., None] & batch.time_mask[:, None, :]
