"""Which contacts are neighbours: by number along a depth electrode, strip or probe, or by distance."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from neurofm.schema.recording import Channel

PREFIX = re.compile(r"^(?:eeg|seeg|ecog|ieeg|pol|lfp|dbs)[\s_-]+", re.IGNORECASE)
SUFFIX = re.compile(r"[\s_-]+(?:ref|avg|g\d?|cz)\d*$", re.IGNORECASE)
CONTACT = re.compile(r"^(?P<shaft>.*?[^\d\s_-])[\s_-]*(?P<number>\d{1,3})$")


def contact_of(name: str) -> tuple[str, int] | None:
    """Return shaft and number of a contact's name; None when it has no such form.

    ``"A1"``, ``"A'01"``, ``"EEG LAH 3-Ref"``, ``"POL B12"`` are contacts; case does not matter, a prime does (left
    and right): ``A1`` and ``A'1`` are on different shafts.
    """
    text = SUFFIX.sub("", PREFIX.sub("", name.strip()))
    found = CONTACT.match(text)
    if found is None:
        return None
    return found["shaft"].strip().lower().replace("’", "'").replace("`", "'"), int(found["number"])


def along_shafts(channels: Sequence[Channel], members: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs (lower, higher) of members whose numbers on one shaft differ by one, in the order of the shaft.

    Where a number is missing there is no pair across it: the two contacts are no neighbours. A grid is one long
    shaft by its names, so its rows are joined at their ends; give pairs by name where that matters.
    """
    shafts: dict[tuple[str, str], dict[int, int]] = {}
    for i in members:
        found = contact_of(channels[i].name)
        if found is not None:
            shafts.setdefault((channels[i].kind, found[0]), {}).setdefault(found[1], i)
    return [(row[n], row[n + 1]) for row in shafts.values() for n in sorted(row) if n + 1 in row]


def within(channels: Sequence[Channel], members: Sequence[int], most: int, reach_m: float) -> dict[int, list[int]]:
    """Return for each member its nearest `most` members of the same kind within `reach_m` metres.

    A member without coordinates, or in another frame, has none and is nobody's neighbour.
    """
    place = np.array([(channels[i].x, channels[i].y, channels[i].z) for i in members]).reshape(-1, 3)
    group = [(channels[i].kind, channels[i].frame) for i in members]
    found: dict[int, list[int]] = {}
    for k, i in enumerate(members):
        away = np.linalg.norm(place - place[k], axis=1)
        order = np.argsort(away, kind="stable")
        near = [int(j) for j in order if j != k and away[j] <= reach_m and group[j] == group[k]]
        found[i] = [members[j] for j in near[:most]]
    return found
