"""Re-referencing: average, median, chosen channels, bipolar along a shaft, Laplacian, none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_prep.stages.base import SignalInfo, Stage
from data_prep.stages.shafts import along_shafts, within
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.recording import Channel

KINDS = ("eeg", "ecog", "seeg", "dbs", "lfp")
# Numbers in the names of scalp electrodes are no positions along a shaft.
SHAFT_KINDS = ("ecog", "seeg", "dbs", "lfp")
METHODS = ("average", "median", "none", "channels", "bipolar", "laplacian")


class Rereference(Stage):
    """Subtract a reference from every channel of the chosen kinds; other channels pass.

    ``average`` and ``median`` are taken at each moment over the good channels of a kind. ``channels`` subtracts the
    mean of named channels (linked mastoids). ``bipolar`` replaces the channels by differences of neighbours (A1−A2,
    A2−A3 …), which are new rows of the channel table half-way between the two; a channel without a neighbour is left
    out. ``laplacian`` subtracts the mean of a channel's good neighbours (Hjorth 1975; Li et al. 2018 for depth
    electrodes); a channel without any, or with fewer than `least`, is marked bad. ``none`` leaves the reference of the recording and says so.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    kinds : list of str, optional
        Kinds to re-reference, each by itself. Default: scalp and intracranial kinds, without scalp EEG where
        neighbours are along a shaft.
    channels : list of str, optional
        For ``channels``: their names.
    pairs : list of [name, name], optional
        For ``bipolar``: these pairs instead of neighbours along a shaft (a scalp montage).
    neighbours : str
        For ``laplacian``: "shaft", or "distance" by coordinates.
    n_neighbours : int
        For "distance": how many of the nearest.
    reach_mm : float
        For "distance": none farther away than this.
    least : int
        For ``laplacian``: a channel with fewer good neighbours is marked bad (2 along a shaft: its ends, as BrainBERT).
    """

    def __init__(
        self,
        *,
        method: str = "average",
        kinds: Sequence[str] | None = None,
        channels: Sequence[str] | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        neighbours: str = "shaft",
        n_neighbours: int = 4,
        reach_mm: float = 60.0,
        least: int = 1,
    ) -> None:
        if method not in METHODS:
            raise ConfigError(f"stage 'rereference': method '{method}' is unknown: {nearest(method, METHODS)}")
        if (method == "channels") != bool(channels):
            raise ConfigError("stage 'rereference': channels= names the reference of method 'channels', and only of it")
        if pairs is not None and (method != "bipolar" or any(len(p) != 2 for p in pairs) or not pairs):
            raise ConfigError("stage 'rereference': pairs= is a list of [name, name] for method 'bipolar'")
        if neighbours not in ("shaft", "distance"):
            raise ConfigError(f"stage 'rereference': neighbours is '{neighbours}'; expected shaft or distance")
        if n_neighbours < 1 or not reach_mm > 0:
            raise ConfigError("stage 'rereference': n_neighbours and reach_mm must be above 0")
        if least < 1:
            raise ConfigError(f"stage 'rereference': least is {least}; expected 1 or more good neighbours")
        self.least = least
        by_shaft = pairs is None and (method == "bipolar" or (method == "laplacian" and neighbours == "shaft"))
        self.method, self.kinds = method, tuple(kinds or (SHAFT_KINDS if by_shaft else KINDS))
        self.channels, self.pairs = tuple(channels or ()), None if pairs is None else [tuple(p) for p in pairs]
        self.neighbours, self.n_neighbours, self.reach_mm = neighbours, n_neighbours, reach_mm

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; name the reference in the channel table.

        Raises
        ------
        DataError
            When a named channel is missing or bad, or no pair of neighbours is found.
        """
        rows = info.channels
        members = [i for i, c in enumerate(rows) if c.kind in self.kinds]
        if self.method == "bipolar":
            return self._start_bipolar(info, members)
        self._groups: list[tuple[list[int], list[int]]] = []
        lonely: set[int] = set()
        if self.method in ("average", "median"):
            for kind in self.kinds:
                of_kind = [i for i in members if rows[i].kind == kind]
                good = [i for i in of_kind if not rows[i].bad]
                # The mean of one channel is the channel itself: subtracting it would leave nothing.
                if len(good) > 1:
                    self._groups.append((of_kind, good))
        elif self.method == "channels":
            self._groups = [(members, [self._named(rows, n) for n in self.channels])]
        elif self.method == "laplacian":
            near = self._near(rows, members)
            self._groups = [([i], near[i]) for i in members if near[i]]
            lonely = {i for i in members if len(near[i]) < self.least and not rows[i].bad}
        touched = {i for group, _ in self._groups for i in group}
        name = "+".join(self.channels) if self.method == "channels" else self.method
        if self.method == "none":
            return info
        return replace(
            info,
            channels=tuple(
                replace(c, bad=True, reason=self._reason(i in touched), reference=name if i in touched else c.reference)
                if i in lonely
                else replace(c, reference=name)
                if i in touched
                else c
                for i, c in enumerate(rows)
            ),
        )

    def _reason(self, has_some: bool) -> str:
        return (
            f"has fewer than {self.least} good neighbours for a Laplacian"
            if has_some
            else "has no good neighbour for a Laplacian"
        )

    def _near(self, rows: Sequence[Channel], members: list[int]) -> dict[int, list[int]]:
        """Return the good neighbours of every member."""
        good = [i for i in members if not rows[i].bad]
        if self.neighbours == "distance":
            # A bad channel has good neighbours too; the good ones must not count bad ones among their nearest.
            near = within(rows, good, self.n_neighbours, self.reach_mm / 1000)
            for i in set(members) - set(good):
                near[i] = within(rows, [*good, i], self.n_neighbours, self.reach_mm / 1000)[i]
            return near
        near = {i: [] for i in members}
        for a, b in along_shafts(rows, members):
            near[a] += [] if rows[b].bad else [b]
            near[b] += [] if rows[a].bad else [a]
        return near

    def _named(self, rows: Sequence[Channel], name: str) -> int:
        """Return the row of a channel by its name or canonical name."""
        for i, c in enumerate(rows):
            if name in (c.name, c.canonical) or name.lower() == c.canonical:
                if c.bad and self.method == "channels":
                    raise DataError(f"stage 'rereference': reference channel '{name}' is bad ({c.reason})")
                return i
        raise DataError(f"stage 'rereference': channel '{name}' is missing: {nearest(name, [c.name for c in rows])}")

    def _start_bipolar(self, info: SignalInfo, members: list[int]) -> SignalInfo:
        rows = info.channels
        if self.pairs is None:
            pairs = along_shafts(rows, members)
        else:
            pairs = [(self._named(rows, a), self._named(rows, b)) for a, b in self.pairs]
        if members and not pairs:
            raise DataError(
                "stage 'rereference': no two channels are neighbours by name (A1, A2 …); name pairs= for a bipolar "
                "montage, or choose another method"
            )
        taken = set(members)
        # A pair stands where its first channel stood; what is not re-referenced keeps its place.
        order = [(i, i, None) for i in range(len(rows)) if i not in taken] + [(a, a, b) for a, b in pairs]
        order.sort(key=lambda o: o[0])
        self._first = np.array([a for _, a, _ in order], dtype=np.intp)
        self._paired = np.array([b is not None for _, _, b in order], dtype=bool)
        self._second = np.array([b for _, _, b in order if b is not None], dtype=np.intp)
        return replace(
            info, channels=tuple(rows[a] if b is None else difference(rows[a], rows[b]) for _, a, b in order)
        )

    def push(self, block: np.ndarray) -> np.ndarray:
        """Re-reference a block."""
        if self.method == "none":
            return block
        x = np.asarray(block, dtype=np.float64)
        if self.method == "bipolar":
            out = x[:, self._first]
            out[:, self._paired] -= x[:, self._second]
            return out
        out = x.copy(order="K")
        centre = np.median if self.method == "median" else np.mean
        for members, sources in self._groups:
            out[:, together(members)] -= centre(x[:, together(sources)], axis=1, keepdims=True)
        return out


def together(rows: list[int]) -> slice | list[int]:
    """Return neighbouring numbers as a slice, which is read in place where a list is copied."""
    return slice(rows[0], rows[-1] + 1) if rows == list(range(rows[0], rows[-1] + 1)) else rows


def difference(a: Channel, b: Channel) -> Channel:
    """Return the channel-table row of a − b: half-way between them, bad when one of them is."""
    same_frame = a.frame == b.frame
    x, y, z = ((p + q) / 2 if same_frame else float("nan") for p, q in ((a.x, b.x), (a.y, b.y), (a.z, b.z)))
    reasons = [f"{c.name}: {c.reason or 'bad'}" for c in (a, b) if c.bad]
    return replace(
        a,
        name=f"{a.name}-{b.name}",
        canonical=f"{a.canonical}-{b.canonical}" if a.canonical and b.canonical else "",
        x=x,
        y=y,
        z=z,
        frame=a.frame if same_frame else "",
        depth_um=(a.depth_um + b.depth_um) / 2,
        region=a.region if a.region == b.region else "",
        quality=a.quality if a.quality == b.quality else "",
        reference="bipolar",
        bad=a.bad or b.bad,
        reason="; ".join(reasons),
    )
