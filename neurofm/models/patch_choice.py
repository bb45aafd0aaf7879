"""The length of a patch, given in seconds or in samples."""

from __future__ import annotations

from neurofm.schema.errors import ConfigError


def patch_length(model: str, rate_hz: float, *, patch_s: float | None, patch_samples: int | None) -> int:
    """Return samples per patch; exactly one of the two must be given, and it must hold a sample."""
    if (patch_s is None) == (patch_samples is None):
        raise ConfigError(f"{model} needs the length of a patch: give either patch_s (seconds) or patch_samples")
    samples = patch_samples if patch_samples is not None else round((patch_s or 0) * rate_hz)
    if samples < 1:
        raise ConfigError(f"{model}: a patch of {samples} samples at {rate_hz:g} Hz is empty; give a longer one")
    return samples
