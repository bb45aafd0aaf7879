"""Numeric arrays: a folder of .npy / .npz files with one small YAML, or arrays in memory."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.base import Item, Source, file_fingerprint
from data_prep.sources.naming import compile_pattern, entities
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

LAYOUTS = ("time_channel", "channel_time")
FACTS_FILE = "arrays.yaml"
KINDS = {
    "eeg": "eeg", "ieeg": "seeg", "meg": "mag", "fmri": "bold", "spikes": "unit", "calcium": "calcium",
    "series": "misc",  # time series that are no recording of a nervous system
}  # fmt: skip


class Arrays(Source):
    """Arrays with a sampling rate and channel names.

    A two-dimensional array is one continuous recording, a three-dimensional one (trial first) is one valid
    interval per trial. Facts may stand in ``root/arrays.yaml`` under the names of the arguments below; arguments
    given here win. An .npz may also hold `rate_hz`, `channels` and `labels` (one per trial) itself.

    Parameters
    ----------
    root : path, optional
        Folder with .npy and .npz files, looked through with `glob`.
    arrays : dict of str to array, optional
        Recordings in memory instead: subject → array.
    rate_hz : float, optional
        Samples per second.
    channels : list of str, optional
        Names; default ch00, ch01 …
    layout : str
        "time_channel" or "channel_time" (of each trial).
    key : str
        Which array of an .npz.
    modality, kind, unit : str
        As in the channel table; `kind` defaults to the modality's.
    glob, pattern : str
        See `files`.
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
            "rate_hz": rate_hz, "channels": channels, "layout": layout, "key": key, "modality": modality, "kind": kind,
            "unit": unit, "glob": glob, "pattern": pattern,
        }  # fmt: skip
        facts: dict[str, Any] = {
            "rate_hz": None, "channels": None, "layout": "time_channel", "key": "data", "modality": "eeg", "kind": "",
            "unit": "au", "glob": "**/*.np[yz]", "pattern": None,
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
        for path in sorted(self.root.glob(self.facts["glob"])):
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
                    n_bytes=path.stat().st_size,
                )
            )
        return items

    def _in_memory(self, name: str, array: np.ndarray) -> Item:
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return Item(
            key=name,
            fingerprint=hash_of([digest, list(array.shape), str(array.dtype), self.facts]),
            open=partial(recording_from_array, array, {"subject": name}, self.facts),
            subject=name,
            n_bytes=array.nbytes,
        )


def load_array_file(root: Path, name: str, who: dict[str, str] | None, facts: dict[str, Any]) -> Recording:
    """Read a .npy or .npz file; object arrays (pickles) are refused.

    Raises
    ------
    DataError
        When the file is not what the facts say.
    """
    if who is None:
        raise DataError(f"path '{name}' does not fit pattern '{facts['pattern']}'")
    path = root / name
    labels: list[str] | None = None
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as content:
                if facts["key"] not in content:
                    raise DataError(f"has no array '{facts['key']}': {nearest(facts['key'], content.files)}")
                array = content[facts["key"]]
                facts = dict(facts)
                if facts["rate_hz"] is None and "rate_hz" in content:
                    facts["rate_hz"] = float(content["rate_hz"])
                if facts["channels"] is None and "channels" in content:
                    facts["channels"] = [str(c) for c in content["channels"]]
                if "labels" in content:
                    labels = [str(v) for v in content["labels"]]
        else:
            # A memory map: a long recording is read block by block.
            array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"is not a readable numeric array ({error}); pickled objects are refused") from error
    sha256 = sha256_file(path)
    return recording_from_array(array, who, facts, labels=labels, source_file=name, source_sha256=sha256)


def recording_from_array(
    array: np.ndarray,
    who: dict[str, str],
    facts: dict[str, Any],
    *,
    labels: list[str] | None = None,
    source_file: str = "",
    source_sha256: str = "",
) -> Recording:
    """Return an array with its facts as a recording.

    Raises
    ------
    DataError
        When shape, type, rate, names and labels do not fit together.
    """
    if array.dtype.kind not in "fiu":
        raise DataError(f"holds values of type {array.dtype}, expected real numbers")
    if array.ndim not in (2, 3):
        raise DataError(f"has shape {array.shape}, expected ({facts['layout'].replace('_', ', ')}), trials in front")
    rate = facts["rate_hz"]
    if rate is None or not rate > 0:
        raise DataError(f"rate_hz is {rate}; expected samples per second (argument, {FACTS_FILE}, or in the .npz)")
    trials = [array] if array.ndim == 2 else list(array)
    if facts["layout"] == "channel_time":
        trials = [t.T for t in trials]
    if not trials:
        raise DataError("has no trials (length zero)")
    n_channels = trials[0].shape[1]
    names = facts["channels"] or [f"ch{i:02d}" for i in range(n_channels)]
    if len(names) != n_channels:
        raise DataError(f"{len(names)} channel names for {n_channels} channels; is the layout {facts['layout']}?")
    if labels is not None and (array.ndim != 3 or len(labels) != len(trials)):
        raise DataError(f"{len(labels)} labels for an array of shape {array.shape}; expected one per trial")
    kind, unit = facts["kind"], facts["unit"]
    channels = tuple(
        Channel(name=str(n), canonical=str(n).lower() if facts["channels"] else "", kind=kind, unit=unit) for n in names
    )
    length_s = trials[0].shape[0] / float(rate)
    starts = tuple(i * float(math.ceil(length_s) + 1) for i in range(len(trials)))
    events: tuple[Event, ...] = ()
    if labels is not None:
        events = tuple(
            Event(onset_s=t, duration_s=length_s, kind="trial", label=label, trial=i)
            for i, (t, label) in enumerate(zip(starts, labels, strict=True))
        )
    return Recording(
        dataset="arrays",
        **who,
        modality=facts["modality"],
        streams=(Stream.from_arrays(trials, rate_hz=float(rate), channels=channels, unit=unit),),
        interval_start_s=starts,
        events=events,
        source_file=source_file,
        source_sha256=source_sha256,
    )
