"""Several datasets read as one: so splits, windows, transforms and loader need no second way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.manifest import Manifest


class Mixture(Dataset):
    """Datasets whose recordings are looked up by id, each in its own.

    A subject is ``dataset/subject`` here: the first person of one dataset is not the first of another.

    Parameters
    ----------
    members : sequence of Dataset
        Two or more, of different ids and recordings.

    Raises
    ------
    ConfigError
        When two have the same id, or hold a recording of the same id.
    """

    def __init__(self, members: Sequence[Dataset]) -> None:
        ids = [d.id for d in members]
        for d in members:
            if ids.count(d.id) > 1:
                raise ConfigError(f"{d.path}: two of the mixed datasets have the id '{d.id}'; give each dataset once")
        self.members = list(members)
        self._of = {r: d for d in members for r in d.recordings}
        if len(self._of) != sum(len(d.recordings) for d in members):
            twice = next(r for d in members for r in d.recordings if self._of[r] is not d)
            raise ConfigError(f"two of the mixed datasets hold a recording '{twice}'; give each dataset once")
        self.path = " + ".join(d.path for d in members)
        self.verify, self.on_corrupt, self.bin_s = members[0].verify, members[0].on_corrupt, members[0].bin_s
        self.skipped = [s for d in members for s in d.skipped]
        self.rejected = [r for d in members for r in d.rejected]
        self.manifest = _joined([d.manifest for d in members])
        self.recordings = {
            r: {**d.recordings[r], "subject": f"{d.id}/{d.recordings[r]['subject']}"}
            for r, d in sorted(self._of.items())
        }

    def member(self, recording_id: str) -> Dataset:
        """Return the dataset that holds a recording."""
        self._row(recording_id)
        return self._of[recording_id]

    def channels(self, recording_id: str, include_bad: bool = False, stream: str | None = None) -> list[dict[str, Any]]:
        """Rows of channels.parquet in the order of the columns that `read` returns."""
        return self.member(recording_id).channels(recording_id, include_bad, stream)

    def events(self, recording_id: str) -> list[dict[str, Any]]:
        """Rows of events.parquet, by onset."""
        return self.member(recording_id).events(recording_id)

    def rate_hz(self, recording_id: str, stream: str | None = None) -> float:
        """Return the sampling rate of the signal, or of another stream."""
        return self.member(recording_id).rate_hz(recording_id, stream)

    def is_events(self, recording_id: str, stream: str | None = None) -> bool:
        """Whether the signal, or another stream, is a list of events."""
        return self.member(recording_id).is_events(recording_id, stream)

    def read(
        self,
        recording_id: str,
        start_s: float,
        n_samples: int,
        *,
        stream: str | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read a window, as `Dataset.read` does."""
        return self.member(recording_id).read(recording_id, start_s, n_samples, stream=stream, out=out)

    def read_events(
        self, recording_id: str, start_s: float, stop_s: float, *, stream: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the events of a span, as `Dataset.read_events` does."""
        return self.member(recording_id).read_events(recording_id, start_s, stop_s, stream=stream)

    def read_binned(
        self, recording_id: str, start_s: float, n_bins: int, bin_s: float, *, stream: str | None = None
    ) -> np.ndarray:
        """Count events in bins, as `Dataset.read_binned` does."""
        return self.member(recording_id).read_binned(recording_id, start_s, n_bins, bin_s, stream=stream)

    def read_stream(
        self, recording_id: str, start_s: float, stop_s: float, *, stream: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read another stream of a span, as `Dataset.read_stream` does."""
        return self.member(recording_id).read_stream(recording_id, start_s, stop_s, stream=stream)

    def place(self, recording_id: str, start_s: float, n_samples: int) -> tuple[str, int]:
        """Return the tar that a window begins in, and a number that grows along it."""
        return self.member(recording_id).place(recording_id, start_s, n_samples)

    def rewind(self) -> None:
        """Say that an epoch begins."""
        for d in self.members:
            d.rewind()

    def preload(self, recording_ids: Iterable[str] | None = None) -> None:
        """Keep decoded signals in memory."""
        for r in self.recordings if recording_ids is None else recording_ids:
            self.member(r).preload([r])


def members_of(dataset: Dataset) -> list[Dataset]:
    """The datasets of a mixture, or the one dataset."""
    return dataset.members if isinstance(dataset, Mixture) else [dataset]


def open_datasets(path: str | Sequence[Any], *, select: Mapping[str, Any] | None = None, **choices: Any) -> Dataset:
    """Open one dataset, or several as one.

    Parameters
    ----------
    path : str or sequence
        One path, or several: each a path or ``{"path": …, "select": {…}}``.
    select : mapping, optional
        Arguments of `Dataset.select`, for those that name none of their own.
    **choices
        Of `Dataset`.
    """
    entries = [path] if isinstance(path, str) else list(path)
    if not entries:
        raise ConfigError("data.path is an empty list; name at least one prepared dataset")
    opened = []
    for entry in entries:
        one: dict[str, Any] = dict(entry) if isinstance(entry, Mapping) else {"path": str(entry)}
        for key in one:
            if key not in ("path", "select"):
                raise ConfigError(f"data.path: an entry has no key '{key}': {nearest(key, ('path', 'select'))}")
        if "path" not in one:
            raise ConfigError(f"data.path: the entry {one} has no field 'path'")
        opened.append(Dataset(one["path"], only=one.get("select") or select, **choices))
    return opened[0] if len(opened) == 1 else Mixture(opened)


def _joined(manifests: Sequence[Manifest]) -> Manifest:
    """What the datasets say of themselves, as one; `prep` only where all were prepared by the same stages."""
    stages = [m.prep.get("stages") for m in manifests]
    kinds = [(m.prep.get("source") or {}).get("modality") for m in manifests]
    prep: dict[str, Any] = {"members": {m.id: m.prep for m in manifests}}
    if all(s == stages[0] for s in stages) and stages[0] is not None:
        prep["stages"] = stages[0]
    if all(k == kinds[0] for k in kinds) and kinds[0] is not None:
        prep["source"] = {"modality": kinds[0]}
    return Manifest(
        id="+".join(m.id for m in manifests),
        licence="; ".join(dict.fromkeys(m.licence for m in manifests if m.licence)),
        citation="; ".join(dict.fromkeys(m.citation for m in manifests if m.citation)),
        modalities=sorted({k for m in manifests for k in m.modalities}),
        prep=prep,
        versions={},
        totals={},
        round_trip_error=max(m.round_trip_error for m in manifests),
        shards=[s for m in manifests for s in m.shards],
    )
