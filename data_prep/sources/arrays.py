"""Numeric arrays: a folder of .npy, .npz, HDF5, MAT, .csv or .tsv files with one small YAML, or arrays in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.naming import compile_pattern, entities, require_fit
from data_prep.layout.tree import nothing_fits
from data_prep.readers.array_files import SUFFIXES, Values
from data_prep.readers.array_recording import KINDS, LAYOUTS, load_array_file, recording_from_values
from data_prep.sources.base import Item, Source, file_fingerprint, size_of
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Recording

FACTS_FILE = "arrays.yaml"


class Arrays(Source):
    """Arrays with a sampling rate and channel names.

    A two-dimensional array is one continuous recording, a three-dimensional one is one valid interval per trial.
    Facts may stand in ``root/arrays.yaml`` under the names of the arguments below; arguments given here win. HDF5
    and MAT 7.3 are read part by part, so their length does not matter; keys inside structs and groups are paths
    (``eeg/signal``).

    Parameters
    ----------
    root : path, optional
        Folder with .npy, .npz, .h5, .hdf5, .mat, .csv and .tsv files, looked through with `glob`. A table has one row per
        sample; its first line may name the channels and its column `time` may give the rate.
    arrays : dict of str to array, optional
        Recordings in memory instead: subject → array.
    rate_hz : float, optional
        Samples per second; default what the file states under `rate_key`.
    channels : list of str, optional
        Names; default what the file states under `channels_key`, else ch00, ch01 …
    layout : str
        "time_channel" or "channel_time" (trials in front), or all three axes in order: "trial_channel_time",
        "channel_time_trial" and so on.
    key : str
        Where the signal is.
    rate_key, channels_key, labels_key : str, optional
        Where the file states its rate, channel names and one label per trial; default "rate_hz", "channels" and
        "labels", where they are there.
    events : dict of str to str, optional
        Event column → key, of a continuous recording; see `array_recording.event_columns`. For example
        ``{onset_samples: mrk/pos, first_sample: 1, label: mrk/name}``.
    modality, kind, unit : str
        As in the channel table; `kind` defaults to the modality's. A unit of V, mV, nV, T or pT is converted.
    glob, pattern : str
        See `files`; without `glob` every file of a known format but tables.
    """

    name = "arrays"
    id = "arrays"
    modalities = tuple(KINDS)

    def __init__(
        self,
        *,
        root: str | Path | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
        rate_hz: float | None = None,
        channels: list[str] | None = None,
        layout: str | None = None,
        key: str | None = None,
        rate_key: str | None = None,
        channels_key: str | None = None,
        labels_key: str | None = None,
        events: Mapping[str, Any] | None = None,
        modality: str | None = None,
        kind: str | None = None,
        unit: str | None = None,
        glob: str | None = None,
        pattern: str | None = None,
    ) -> None:
        if (root is None) == (arrays is None):
            raise ConfigError("source 'arrays' needs either root (a folder) or arrays (in memory)")
        self.root = None if root is None else Path(root).expanduser()
        self.arrays = None if arrays is None else dict(arrays)
        given = {
            "rate_hz": rate_hz, "channels": channels, "layout": layout, "key": key, "rate_key": rate_key,
            "channels_key": channels_key, "labels_key": labels_key, "events": events, "modality": modality,
            "kind": kind, "unit": unit, "glob": glob, "pattern": pattern,
        }  # fmt: skip
        facts: dict[str, Any] = {
            "rate_hz": None, "channels": None, "layout": "time_channel", "key": "data", "rate_key": None,
            "channels_key": None, "labels_key": None, "events": None, "modality": "eeg", "kind": "", "unit": "au",
            "glob": None, "pattern": None,
        }  # fmt: skip
        self.facts = facts | self._from_yaml(set(facts)) | {k: v for k, v in given.items() if v is not None}
        if self.facts["layout"] not in LAYOUTS:
            layout = self.facts["layout"]
            raise ConfigError(f"source 'arrays': layout '{layout}' is unknown: {nearest(str(layout), LAYOUTS)}")
        if self.facts["modality"] not in KINDS:
            name = self.facts["modality"]
            raise ConfigError(f"source 'arrays': modality '{name}' is unknown: {nearest(str(name), KINDS)}")
        self.facts["kind"] = self.facts["kind"] or KINDS[self.facts["modality"]]

    def _from_yaml(self, known: set[str]) -> dict[str, Any]:
        if self.root is None or not (self.root / FACTS_FILE).exists():
            return {}
        import yaml

        path = self.root / FACTS_FILE
        try:
            facts = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise DataError(f"{path}: is not readable as YAML ({' '.join(str(error).split())})") from error
        if not isinstance(facts, dict):
            raise DataError(f"{path}: expected lines of the form 'rate_hz: 100'")
        for name in facts:
            if name not in known:
                raise DataError(f"{path}: field '{name}' is unknown: {nearest(name, known)}")
        return facts

    def describe(self) -> dict[str, Any]:
        """Return name and facts; the folder's path stays out of the dataset."""
        return {"name": self.name, "version": self.version, **self.facts}

    def list(self) -> list[Item]:
        """Return one item per array."""
        if self.arrays is not None:
            return [self._in_memory(name, np.asarray(a)) for name, a in self.arrays.items()]
        assert self.root is not None
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root")
        compiled = None if self.facts["pattern"] is None else compile_pattern(self.facts["pattern"])
        items = []
        paths = sorted(self._paths())
        shown = self.facts["glob"] or f"**/*{{{','.join(SUFFIXES)}}}"
        if not paths:
            raise nothing_fits(self.root, shown)
        require_fit(self.root, shown, self.facts["pattern"], (p.relative_to(self.root).as_posix() for p in paths))
        for path in paths:
            name = path.relative_to(self.root).as_posix()
            who = entities(name, compiled)
            items.append(
                Item(
                    key=name,
                    fingerprint=file_fingerprint(path, facts=self.facts),
                    open=partial(load_array_file, self.root, name, who, self.facts),
                    subject=(who or {}).get("subject", ""),
                    session=(who or {}).get("session", ""),
                    source_file=name,
                    n_bytes=size_of(path),
                )
            )
        return items

    def _paths(self) -> Iterator[Path]:
        assert self.root is not None
        if self.facts["glob"] is not None:
            return (p for p in self.root.glob(self.facts["glob"]) if p.name != FACTS_FILE)
        return (p for p in self.root.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))

    def _in_memory(self, name: str, array: np.ndarray) -> Item:
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return Item(
            key=name,
            fingerprint=hash_of([digest, list(array.shape), str(array.dtype), self.facts]),
            open=partial(recording_in_memory, array, {"subject": name}, self.facts),
            subject=name,
            n_bytes=array.nbytes,
        )


def recording_in_memory(array: np.ndarray, who: dict[str, str], facts: dict[str, Any]) -> Recording:
    """Return an array in memory with its facts as a recording."""
    return recording_from_values(Values.of(array), who, facts)
