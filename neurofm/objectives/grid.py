"""Tokens as a grid of segments and channels, and what objectives ask of a model that gives one.

Shape legend: B batch, T segment, C channel, D width, S time samples.
"""

from __future__ import annotations

from torch import Tensor

from neurofm.models.base import Backbone, Encoded
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


def patch_samples_of(model: Backbone) -> int:
    """Return the number of samples of the patch that a token of the model stands for.

    Raises
    ------
    ConfigError
        When the model cuts no patches.
    """
    if not model.patch_samples:
        raise ConfigError(f"a token of {type(model).__name__} stands for no patch; choose a model with patch_samples")
    return model.patch_samples


def require_hiding(objective: str, model: Backbone) -> None:
    """Check that tokens of a model can be hidden.

    Raises
    ------
    ConfigError
        When they cannot.
    """
    if not model.hides_tokens:
        raise ConfigError(
            f"objective '{objective}' hides tokens, which {type(model).__name__} cannot as it is built; choose a model that "
            "can, such as cbramod or labram_base, or mvpformer with mask_token=true"
        )


def require_features(objective: str, model: Backbone, otherwise: str) -> None:
    """Check that a model computes features of patches; `otherwise` says what to choose instead.

    Raises
    ------
    ConfigError
        When it does not.
    """
    if not model.n_features:
        raise ConfigError(
            f"objective '{objective}': {type(model).__name__} computes no features of patches; {otherwise}"
        )


def sample_mask(batch: NeuralBatch) -> Tensor:
    """Return where a channel exists and has a sample, shape (B, C, S), bool."""
    return batch.channel_mask[..., None] & batch.time_mask[:, None, :]
