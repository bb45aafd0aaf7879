"""One prepared recording in memory, read like a dataset: so transforms, windows and loader need no second way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.schema.errors import DataError


class InMemory(Dataset):
    """A dataset of one recording whose intervals are arrays.

    Parameters
    ----------
    arrays : sequence of ndarray, shape (time, channel)
        One per valid interval, in physical units.
    rate_hz : float
        Samples per second.
    interval_start_s : sequence of float
        Start of each interval on the recording's clock, ascending, intervals apart from each other.
    channels : sequence of mapping
        Rows as in channels.parquet, one per column.
    recording_id, subject, modality, dataset : str
        Whose it is.
    """

    def __init__(
        self,
        *,
        arrays: Sequence[np.ndarray],
        rate_hz: float,
        interval_start_s: Sequence[float],
        channels: Sequence[Mapping[str, Any]],
        recording_id: str = "given",
        subject: str = "",
        modality: str = "",
        dataset: str = "",
    ) -> None:
        self.path = recording_id
        self.verify, self.on_corrupt = "none", "error"
        self.bin_s = None
        self.skipped, self.rejected = [], []
        self._arrays = [np.asarray(a, np.float32) for a in arrays]
        self._rate_hz = float(rate_hz)
        self._starts = [float(s) for s in interval_start_s]
        self._rows = [dict(c) for c in channels]
        valid = [[s, s + len(a) / self._rate_hz] for s, a in zip(self._starts, self._arrays, strict=True)]
        self.recordings = {
            recording_id: {
                "recording_id": recording_id, "dataset": dataset, "subject": subject, "session": "", "task": "",
                "run": "", "modality": modality, "part": "", "valid": valid,
                "duration_s": sum(b - a for a, b in valid),
            }
        }  # fmt: skip

    @property
    def id(self) -> str:
        """The recording's id."""
        return self.path

    def channels(self, recording_id: str, include_bad: bool = False, stream: str | None = None) -> list[dict[str, Any]]:
        """Rows of the channels, in the order of the columns."""
        return self._rows

    def events(self, recording_id: str) -> list[dict[str, Any]]:
        """Nothing: what is to be found out is not given."""
        return []

    def rate_hz(self, recording_id: str, stream: str | None = None) -> float:
        """Return the sampling rate."""
        return self._rate_hz

    def is_events(self, recording_id: str, stream: str | None = None) -> bool:
        """It never is."""
        return False

    def read(
        self,
        recording_id: str,
        start_s: float,
        n_samples: int,
        *,
        stream: str | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read a window of one interval, shape (n_samples, channel), float32."""
        for start, array in zip(self._starts, self._arrays, strict=True):
            first = round((start_s - start) * self._rate_hz)
            if 0 <= first <= len(array) - n_samples:
                return array[first : first + n_samples]
        raise DataError(f"{self.path}: {n_samples} samples from {start_s:g} s lie in no valid interval")

    def preload(self, recording_ids: object = None) -> None:
        """Nothing to do."""

    def rewind(self) -> None:
        """Nothing to do."""
