"""Splits by what recordings or trials have in common: session, run, task, stimulus or concept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.mixture import members_of
from neurofm.data.splits.parts import whole
from neurofm.data.splits.spans import Span, Split, overlap
from neurofm.data.stimuli import SOUND
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.tables import parquet_groups

COLUMNS = ("session", "run", "task")


def by_column(
    dataset: Dataset, *, column: str, test: int | Sequence[str], validation: int | Sequence[str] = 0, seed: int = 0
) -> Split:
    """Give every value of a column of recordings.parquet to one part, for all people alike.

    Parameters
    ----------
    dataset : Dataset
        Whose recordings.
    column : str
        "session", "run" or "task".
    test, validation : int or sequence of str
        How many values, drawn by the seed, or which. The others are trained on.
    seed : int
        Of the draw.

    Returns
    -------
    Split
        Parts "pretrain" and "train" (the same spans), "validation" and "test".
    """
    if column not in COLUMNS:
        raise ConfigError(f"column is '{column}': {nearest(column, COLUMNS)}")
    values = {str(row[column]) for row in dataset.recordings.values()}
    if "" in values:
        raise ConfigError(f"{dataset.path}: not every recording has a {column}; split by another column")
    part_of = deal(sorted(values), column, test=test, validation=validation, seed=seed)
    parts: dict[str, list[Span]] = {"train": [], "validation": [], "test": []}
    for r in sorted(dataset.recordings):
        parts[part_of[str(dataset.recordings[r][column])]] += whole(dataset, [r])
    return _finished(parts, f"by_{column} of {dataset.id}", seed)


def by_session(
    dataset: Dataset, *, test: int | Sequence[str], validation: int | Sequence[str] = 0, seed: int = 0
) -> Split:
    """Give every session to one part; see `by_column`."""
    return by_column(dataset, column="session", test=test, validation=validation, seed=seed)


def by_run(dataset: Dataset, *, test: int | Sequence[str], validation: int | Sequence[str] = 0, seed: int = 0) -> Split:
    """Give every run to one part; see `by_column`."""
    return by_column(dataset, column="run", test=test, validation=validation, seed=seed)


def by_stimulus(
    dataset: Dataset,
    *,
    test: int | Sequence[str],
    validation: int | Sequence[str] = 0,
    seed: int = 0,
    around_s: Sequence[float] | None = None,
) -> Split:
    """Give every stimulus to one part, all of its repetitions with it.

    Parameters
    ----------
    dataset : Dataset
        Whose events name stimuli.
    test, validation : int or sequence of str
        How many stimuli, drawn by the seed, or which. The others are trained on.
    seed : int
        Of the draw.
    around_s : (float, float), optional
        What belongs to an event, from its onset, such as [-0.2, 1.0]; default: the whole trial (valid interval), or of
        continuous recordings with sounds each sound as long as it lasts.

    Raises
    ------
    ConfigError
        When trials have no stimulus of their own and `around_s` is missing, or spans of two parts overlap.
    """
    return _by_shown(dataset, "stimulus", lambda s: s, test, validation, seed, around_s)


def by_concept(
    dataset: Dataset,
    *,
    test: int | Sequence[str],
    validation: int | Sequence[str] = 0,
    seed: int = 0,
    around_s: Sequence[float] | None = None,
    concept_of: Mapping[str, str] | None = None,
) -> Split:
    """Give every concept to one part, so that no test concept was seen in training by any of its pictures.

    As `by_stimulus`; `concept_of` maps stimuli to concepts, default: the table ``stimuli/stimuli.parquet``.
    """
    concepts = dict(concept_of) if concept_of is not None else _concepts(dataset)

    def concept(stimulus: str) -> str:
        if not concepts.get(stimulus):
            raise DataError(
                f"{dataset.path}: the stimulus '{stimulus}' has no concept; complete stimuli/stimuli.parquet"
            )
        return concepts[stimulus]

    return _by_shown(dataset, "concept", concept, test, validation, seed, around_s)


def deal(
    values: Sequence[str], what: str, *, test: int | Sequence[str], validation: int | Sequence[str], seed: int
) -> dict[str, str]:
    """Value → "train", "validation" or "test"; drawn from the sorted values by the seed."""
    values = sorted(values)
    order = [values[i] for i in keyed_generator(seed, f"by_{what}").permutation(len(values))]
    part_of: dict[str, str] = {}
    for part, wanted in (("test", test), ("validation", validation)):
        left = [v for v in order if v not in part_of]
        if isinstance(wanted, int):
            if not 0 <= wanted <= len(left):
                raise ConfigError(f"{part} is {wanted}; there are {len(left)} of {what} to choose from")
            chosen = left[:wanted]
        else:
            chosen = [str(w) for w in wanted]
            for name in chosen:
                if name not in left:
                    why = "is in the test part too" if name in part_of else f"is unknown: {nearest(name, values)}"
                    raise ConfigError(f"{part}: {what} '{name}' {why}")
        part_of |= dict.fromkeys(chosen, part)
    if len(part_of) == len(values) or "test" not in part_of.values():
        raise ConfigError(
            f"{len(part_of)} of {len(values)} of {what} are held out; both test and train need at least one"
        )
    return {v: part_of.get(v, "train") for v in values}


def _by_shown(
    dataset: Dataset,
    what: str,
    group_of: Callable[[str], str],
    test: int | Sequence[str],
    validation: int | Sequence[str],
    seed: int,
    around_s: Sequence[float] | None,
) -> Split:
    spans = _shown(dataset, around_s)
    part_of = deal(sorted({group_of(s.stimulus_id) for s in spans}), what, test=test, validation=validation, seed=seed)
    parts: dict[str, list[Span]] = {"train": [], "validation": [], "test": []}
    for s in spans:
        parts[part_of[group_of(s.stimulus_id)]].append(s)
    for a, b in (("train", "test"), ("train", "validation"), ("validation", "test")):
        met = overlap(parts[a], parts[b]).spans
        if met:
            raise ConfigError(
                f"{dataset.path}: parts '{a}' and '{b}' overlap in '{met[0][0].recording_id}' at {met[0][1].start_s:g} s; "
                "shorten around_s to less than the time between stimuli"
            )
    return _finished(parts, f"by_{what} of {dataset.id}", seed)


def _shown(dataset: Dataset, around_s: Sequence[float] | None) -> list[Span]:
    """Spans that show a stimulus, in order of recording and time; what sticks out of a valid interval is left out."""
    ids = sorted(dataset.recordings)
    if around_s is None:
        if lasting := sounds_of(dataset, ids):
            return lasting
        spans = whole(dataset, ids)
        if not spans or any(not s.stimulus_id for s in spans):
            raise ConfigError(
                f"{dataset.path}: not every trial has one stimulus of its own; give around_s, what belongs to an event"
            )
        return spans
    before, after = around_s
    if not before < after:
        raise ConfigError(f"around_s is {list(around_s)}; expected a start before its stop, in seconds from the onset")
    spans = []
    for r in ids:
        valid = dataset.valid(r)
        for e in dataset.events(r):
            start, stop = e["onset_s"] + before, e["onset_s"] + after
            if e["stimulus_id"] and any(a - 1e-9 <= start and stop <= b + 1e-9 for a, b in valid):
                spans.append(Span(r, start, stop, e["stimulus_id"]))
    if not spans:
        raise ConfigError(f"{dataset.path}: no event names a stimulus whose span lies in a valid interval")
    return sorted(spans)


def sounds_of(dataset: Dataset, ids: Sequence[str]) -> list[Span]:
    """Spans of the sounds in continuous recordings: of events of kind "sound", where they last and others lie beside them."""
    spans = []
    for r in ids:
        sounds = [e for e in dataset.events(r) if e["kind"] == SOUND and e["stimulus_id"] and e["duration_s"] > 0]
        for e in sounds:
            for a, b in dataset.valid(r):
                start, stop = max(a, e["onset_s"]), min(b, e["onset_s"] + e["duration_s"])
                if stop > start:
                    spans.append(Span(r, start, stop, e["stimulus_id"]))
    return sorted(spans)


def _concepts(dataset: Dataset) -> dict[str, str]:
    found: dict[str, str] = {}
    for d in members_of(dataset):
        path = Path(d.path) / "stimuli" / "stimuli.parquet"
        if not path.exists():
            raise DataError(f"{path}: no such table; prepare the dataset with its stimuli, or give concept_of")
        for group in parquet_groups(path, ["stimulus_id", "concept"]):
            found |= dict(zip(group["stimulus_id"], group["concept"], strict=True))
    return found


def _finished(parts: dict[str, list[Span]], rule: str, seed: int) -> Split:
    held = {name: spans for name, spans in parts.items() if spans or name != "validation"}
    return Split(parts={"pretrain": parts["train"], **held}, rule=rule, seed=seed)
