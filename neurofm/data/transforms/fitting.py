"""What fitted transforms share: whose spans are learned from together, for which recordings that holds, and their values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.data.windows import stretches
from neurofm.schema.errors import ConfigError, DataError

Fitted = TypeVar("Fitted")

# samples read at once
READ_SAMPLES = 1 << 16
PER = ("subject", "recording")


class Pool(NamedTuple):
    """Spans that are learned from together.

    `names` are the channels in the order in which `values_of` gives them; `holders` the recordings that what is
    learned holds for, each with the places in `names` of its own channels.
    """

    group: str
    rate_hz: float
    names: tuple[str, ...]
    spans: list[Span]
    holders: list[tuple[str, list[int]]]


def check_per(per: str, transform: str) -> None:
    """Refuse a `per` that is neither "subject" nor "recording"."""
    if per not in PER:
        raise ConfigError(f"{transform}: per is '{per}'; expected 'subject' or 'recording'")


def pools(dataset: Dataset, spans: Sequence[Span], *, per: str, transform: str) -> Iterator[Pool]:
    """Yield the spans by recording, or by person and set of channels.

    With ``per="subject"`` what is learned holds for every recording of that person with the same channels and rate,
    whatever their order: so for an official test recording, from the training recordings.

    Raises
    ------
    DataError
        When recordings that would be learned from together differ in rate.
    """
    groups: dict[tuple[str, frozenset[str]], list[Span]] = defaultdict(list)
    for span in sorted(set(spans)):
        r = span.recording_id
        groups[dataset.subject(r) if per == "subject" else r, frozenset(names_of(dataset, r))].append(span)
    for (group, names), members in groups.items():
        first = members[0].recording_id
        fitted, rate = names_of(dataset, first), dataset.rate_hz(first)
        if any(dataset.rate_hz(s.recording_id) != rate for s in members):
            raise DataError(f"transform '{transform}': recordings of '{group}' differ in rate; resample them")
        holders = []
        for r in dataset.select(subject=group) if per == "subject" else [group]:
            wanted = names_of(dataset, r)
            if frozenset(wanted) == names and dataset.rate_hz(r) == rate:
                holders.append((r, [fitted.index(name) for name in wanted]))
        yield Pool(group, rate, fitted, members, holders)


def values_of(dataset: Dataset, pool: Pool) -> Iterator[np.ndarray]:
    """Yield what the spans hold, shape (T, C), float32, channels as in ``pool.names``, none longer than READ_SAMPLES."""
    for span in pool.spans:
        own = names_of(dataset, span.recording_id)
        order = [own.index(name) for name in pool.names]
        for origin, first, last in stretches(dataset, span):
            for at in range(first, last, READ_SAMPLES):
                n = min(READ_SAMPLES, last - at)
                yield dataset.read(span.recording_id, origin + at / pool.rate_hz, n)[:, order]


def n_samples_of(dataset: Dataset, pool: Pool) -> int:
    """Count the samples of the spans."""
    return sum(last - first for span in pool.spans for _, first, last in stretches(dataset, span))


def known_of(fitted: Mapping[str, Fitted], recording_id: str, *, transform: str, where: str) -> Fitted:
    """Return what was fitted on a recording, whatever its channels; arguments and errors as of `fitted_on`."""
    if recording_id not in fitted:
        raise DataError(
            f"transform '{transform}' was never fitted on recording '{recording_id}'; calibrate it: fit on {where}"
        )
    return fitted[recording_id]


def fitted_on(
    fitted: Mapping[str, Fitted], recording_id: str, n_channels: int, *, mean: str = "", transform: str, where: str
) -> Fitted:
    """Return what was fitted on a recording, for a window of `n_channels`.

    Parameters
    ----------
    fitted : mapping
        Recording → what was learned.
    mean : str
        Its field that has one value per channel; none where it is itself a matrix with a row per channel.
    transform, where : str
        Name of the transform, and on what it can be fitted, for messages.

    Raises
    ------
    DataError
        When the recording was never fitted, or has another number of channels.
    """
    known = known_of(fitted, recording_id, transform=transform, where=where)
    n = len(getattr(known, mean) if mean else known)  # type: ignore[arg-type]
    if n != n_channels:
        raise DataError(
            f"transform '{transform}' was fitted on {n} channels of '{recording_id}', the window has {n_channels}; "
            "fit it again on this dataset"
        )
    return known


def names_of(dataset: Dataset, recording_id: str) -> tuple[str, ...]:
    """Names of the good channels, in the order of the columns."""
    return tuple(c["name"] for c in dataset.channels(recording_id))


def moments(arrays: Iterator[np.ndarray], whose: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean [C] and population covariance [C, C] of all rows of (T, C) float64 arrays, without holding them.

    `whose` begins the error when there are none.
    """
    n, origin, first, second = 0, None, 0.0, 0.0
    for x in arrays:
        # about a mean near the true one the sums keep their digits, whatever the offset
        origin = x.mean(axis=0) if origin is None else origin
        centred = x - origin
        n, first, second = n + len(x), first + centred.sum(axis=0), second + centred.T @ centred
    if origin is None:
        raise DataError(f"{whose} hold no sample")
    shift = first / n
    return origin + shift, second / n - np.outer(shift, shift)
