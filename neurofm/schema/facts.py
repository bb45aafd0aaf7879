"""What the data dictate to a model, kept apart from what the user chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts of the training data that a model or objective needs to be built.

    Attributes
    ----------
    rate_hz : float
        Sampling rate of every batch.
    window_s : float
        Window length; ``round(window_s * rate_hz)`` samples.
    max_channels : int
        Largest number of channels of any recording.
    channels : tuple of str
        Vocabulary of canonical channel names; `channel_ids` counts from 1 in it, 0 is unknown.
    subjects : tuple of str
        Subjects seen in training, likewise from 1.
    sessions : tuple of str
        Sessions seen in training, likewise from 1; see `data.storage.catalogue.session_name`.
    classes : tuple of str
        Labels of a classification task, in the order of the logits; empty otherwise.
    class_counts : tuple of int
        Training windows of each class, where windows are labelled by events that last; for weights of unequal classes.
    embedding_shape : tuple of int
        Shape of the stimulus embedding of one window: (dim,) or (time, dim); empty where there is none.
    embedding_s : float, optional
        What an embedding that unfolds in time covers, from the window's start; None for the whole window.
    """

    rate_hz: float
    window_s: float
    max_channels: int
    channels: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    embedding_shape: tuple[int, ...] = ()
    sessions: tuple[str, ...] = ()
    embedding_s: float | None = None

    @property
    def window_samples(self) -> int:
        """Window length in samples."""
        return round(self.window_s * self.rate_hz)

    @cached_property
    def channel_numbers(self) -> dict[str, int]:
        """Canonical channel name → its number in batches, from 1."""
        return _numbered(self.channels)

    @cached_property
    def subject_numbers(self) -> dict[str, int]:
        """Subject → its number in batches, from 1."""
        return _numbered(self.subjects)

    @cached_property
    def session_numbers(self) -> dict[str, int]:
        """Session → its number in batches, from 1."""
        return _numbered(self.sessions)

    def to_json(self) -> dict[str, Any]:
        """Plain dict for the model card."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Facts:
        """Inverse of `to_json`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        return cls(**plain)


def _numbered(names: Sequence[str]) -> dict[str, int]:
    """Count names from 1; 0 is what is unknown."""
    return {name: i for i, name in enumerate(names, 1)}
