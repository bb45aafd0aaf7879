"""Channels of a recording → names that a model knows."""

from __future__ import annotations

from collections.abc import Sequence

from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel


def match_channels(channels: Sequence[Channel], vocabulary: Sequence[str]) -> list[str | None]:
    """Find each channel in a vocabulary: by canonical name, name, tidied name, or what follows the prefix of one.

    ``"EEG FPZ-REF."`` is "fpz", and ``"Precentral_L"`` is "aal2:precentral_l" where only one entry ends so.

    Raises
    ------
    DataError
        When two channels are the same entry.
    """
    from data_prep.readers.from_mne import canonical_name

    exact = {v.casefold(): v for v in vocabulary}
    tails: dict[str, list[str]] = {}
    for v in vocabulary:
        tails.setdefault(v.casefold().partition(":")[2], []).append(v)
    found: list[str | None] = []
    taken: dict[str, str] = {}
    for c in channels:
        spellings = [s.casefold() for s in (c.canonical, c.name, canonical_name(c.name)) if s]
        hit = next((exact[s] for s in spellings if s in exact), None)
        if hit is None:
            hit = next((tails[s][0] for s in spellings if len(tails.get(s, ())) == 1), None)
        if hit is not None and hit in taken:
            raise DataError(f"channels '{taken[hit]}' and '{c.name}' are both '{hit}' to the model; rename or drop one")
        if hit is not None:
            taken[hit] = c.name
        found.append(hit)
    return found
