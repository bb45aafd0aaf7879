"""The length of a patch, given in seconds or in samples."""

from __future__ import annotations

from neurofm.schema.errors import ConfigError


def patch_length(model: str, rate_hz: float, *, patch_s: float | None, patch_samples: int | None) -> int:
    """Return samples per patch; exactly one of the two must be given, and it must hold a sample."""
    if (patch_s is None) == (patch_samples is None):
        raise ConfigError(f"{model} needs the length of a patch: give either patch_s (seconds) or patch_samples")
    samples = patch_samples if patch_samples is not None else round((patch_s or 0) * rate_hz)
    if samples < 1:
        given = f"patch_samples={patch_samples}" if patch_s is None else f"patch_s={patch_s:g}"
        raise ConfigError(
            f"{model}: {given} is less than one sample at {rate_hz:g} Hz; give at least {1 / rate_hz:g} s"
        )
    return samples
