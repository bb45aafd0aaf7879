"""The homogenised C. elegans collection: whole-brain calcium of 919 worms, each with the same 300 neurons in order."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.irregular import at_rate
from data_prep.sources.base import Item, Source, file_fingerprint
from data_prep.sources.celegans_neurons import NEURONS, canonical_neuron
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Channel, Recording, Stream
from neurofm.schema.tables import parquet_group, parquet_groups

# the collection's common step of 0.333 s
RATE_HZ = 1 / 0.333
TRACES = {
    "original": ("original_calcium_data", "original_time_in_seconds"),
    "prepared": ("calcium_data", "time_in_seconds"),
}
KEYS = ["source_dataset", "worm", "neuron"]
ABSENT = "not recorded in this animal"


class Celegans(Source):
    """One recording per worm; a worm's number repeats across studies, so the study is part of its name.

    Every recording has all 300 neurons in alphabetical order. A neuron that was not recorded, or not told by name, in
    this animal is a bad channel of zeros with the reason; cells without a name follow on request, in no canonical place.

    Parameters
    ----------
    root : path
        Folder with the collection's parquet files.
    studies : list of str, optional
        Source datasets to take, such as Kato2015; default all.
    trace : str
        "original": the traces as the studies published them, brought to the common rate here. "prepared": the
        collection's own, which are z-scored over the whole recording, test parts included.
    rate_hz : float
        Common rate of original traces.
    unlabelled : bool
        Whether cells without a name follow as further channels.
    """

    name = "celegans"
    id = "celegans"
    licence = "MIT (collection; the studies' own terms apply to their recordings)"
    citation = (
        "Simeon et al. 2024, Homogenized C. elegans Neural Activity and Connectivity Data, arXiv 2411.12091; cite the "
        "source studies too"
    )
    modalities = ("calcium",)

    def __init__(
        self,
        *,
        root: str | Path,
        studies: list[str] | None = None,
        trace: str = "original",
        rate_hz: float = RATE_HZ,
        unlabelled: bool = False,
    ) -> None:
        if trace not in TRACES:
            raise ConfigError(f"source 'celegans': trace '{trace}' is unknown: {nearest(str(trace), TRACES)}")
        if not rate_hz > 0:
            raise ConfigError(f"source 'celegans': rate_hz is {rate_hz}; expected samples per second above 0")
        self.root = Path(root).expanduser()
        self.studies = None if studies is None else [str(s) for s in studies]
        self.choices = {"trace": trace, "rate_hz": float(rate_hz), "unlabelled": bool(unlabelled)}

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {"name": self.name, "version": self.version, "studies": self.studies, **self.choices}

    def list(self) -> list[Item]:
        """Return one item per worm; only the columns that name worms are read."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root")
        where: dict[tuple[str, str, str], set[int]] = defaultdict(set)
        paths = {p.relative_to(self.root).as_posix(): p for p in sorted(self.root.glob("**/*.parquet"))}
        for name, path in paths.items():
            for group, rows in enumerate(parquet_groups(path, KEYS[:2])):
                for study, worm in zip(rows["source_dataset"], rows["worm"], strict=True):
                    where[name, str(study), str(worm)].add(group)
        known = {study for _, study, _ in where}
        for s in self.studies or ():
            if s not in known:
                raise ConfigError(f"source 'celegans' has no study '{s}': {nearest(s, known)}")
        return [
            Item(
                key=f"{name}/{study}/{worm}",
                fingerprint=file_fingerprint(paths[name], study=study, worm=worm),
                open=partial(load_worm, self.root, name, study, worm, sorted(groups), self.choices),
                subject=f"{study}-{worm}",
                source_file=name,
            )
            for (name, study, worm), groups in sorted(where.items())
            if self.studies is None or study in self.studies
        ]


@lru_cache(maxsize=1)
def _group(path: Path, changed: int, group: int, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    """Keep the row group read last: the worms in it come one after the other."""
    return parquet_group(path, group, list(columns))


@lru_cache(maxsize=4)
def _sha256(path: Path, changed: int) -> str:
    return sha256_file(path)


def load_worm(root: Path, name: str, study: str, worm: str, groups: list[int], choices: dict[str, Any]) -> Recording:
    """Read the traces of one worm.

    Raises
    ------
    DataError
        When it has no named neuron, or its traces do not fit together.
    """
    path = root / name
    changed = path.stat().st_mtime_ns
    values, clock = TRACES[choices["trace"]]
    found: dict[str, np.ndarray] = {}
    others: dict[str, np.ndarray] = {}
    time_s: np.ndarray | None = None
    for group in groups:
        rows = _group(path, changed, group, (*KEYS, values, clock))
        for i in range(len(rows["worm"])):
            if str(rows["source_dataset"][i]) != study or str(rows["worm"][i]) != worm:
                continue
            trace, t = (np.asarray(rows[c][i], np.float64) for c in (values, clock))
            time_s = t if time_s is None else time_s
            if len(trace) != len(time_s) or not np.array_equal(t, time_s):
                raise DataError(f"neuron '{rows['neuron'][i]}' of {study} {worm} has another clock than the others")
            own = canonical_neuron(str(rows["neuron"][i]))
            kept = found if own and own not in found else others
            kept[own if kept is found else str(rows["neuron"][i])] = trace
    if not found or time_s is None:
        raise DataError(f"{study} {worm} has no neuron with a canonical name")
    names = [*NEURONS, *(sorted(others, key=_number) if choices["unlabelled"] else ())]
    traces = {**others, **found}
    zeros = np.zeros(len(time_s))
    x = at_rate(time_s, np.stack([traces.get(n, zeros) for n in names], axis=1), rate_hz=choices["rate_hz"])
    return Recording(
        dataset="celegans",
        subject=f"{study}-{worm}",
        modality="calcium",
        streams=(
            Stream.from_arrays([x], rate_hz=choices["rate_hz"], channels=tuple(_channel(n, traces) for n in names)),
        ),
        source_file=name,
        source_sha256=_sha256(path, changed),
    )


def _channel(name: str, traces: dict[str, np.ndarray]) -> Channel:
    there = name in traces
    return Channel(
        name=name,
        canonical=f"celegans:{name.lower()}" if name in NEURONS else "",
        kind="calcium",
        bad=not there,
        reason="" if there else ABSENT,
    )


def _number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdigit() else 1 << 30, name)
