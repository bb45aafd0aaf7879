"""Missing, flat and oddly scaled channels: what cannot be used is marked bad with its reason, holes become gaps."""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict, marked
from data_prep.stages.spread import spread_of, typical
from data_prep.stages.unit_repair import PLAUSIBLE
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.words import ODD_SCALE

Run = tuple[int, int, int]

# Far above what electrodes and sensors of one kind differ by, far below a wrong power of 1000.
ODD_RATIO = 100.0
# Kinds whose channels are alike in size; cells and regions are not.
ALIKE_KINDS = frozenset(kind for kind, _ in PLAUSIBLE)
# The median of fewer is not what is usual.
FEWEST = 3


class Quality(Stage):
    """Mark flat and mostly missing channels as bad; cut the recording where a good channel has a hole.

    Values that are not finite count as missing. Where all channels lack them nothing was recorded: that is a gap, and
    nobody's fault. Bad channels stay in the recording with zeros in their holes and are left out when reading. After
    this stage every value is finite.

    A single channel whose amplitude is a hundred times that of its kind in the recording, or a hundredth, was probably
    stored in another unit: that is said in its `reason` and counted in the figures (``odd_scale``). It is neither
    repaired nor marked bad, because nothing but its size speaks against it.

    Parameters
    ----------
    max_missing : float
        A channel that lacks more than this part of the samples that some channel has is bad; one that lacks less
        causes gaps.
    min_piece_s : float
        A piece between two gaps that is shorter is dropped. Intervals without a hole always stay.
    """

    version = 2
    surveys = True

    def __init__(self, *, max_missing: float = 0.05, min_piece_s: float = 1.0) -> None:
        if not 0 <= max_missing < 1:
            raise ConfigError(f"stage 'quality': max_missing is {max_missing}; expected a part between 0 and 1")
        self.max_missing, self.min_piece_s = max_missing, min_piece_s
        self._low: np.ndarray | None = None
        self._runs: list[list[Run]] = []
        self._lengths: dict[int, int] = {}
        self._pauses = 0
        self._reasons: dict[int, str] = {}
        self._odd: dict[int, str] = {}
        self._spread: list[np.ndarray] = []

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Note range, amplitude and holes of a block."""
        n_channels = block.shape[1]
        if self._low is None:
            self._low, self._high = np.full(n_channels, np.inf), np.full(n_channels, -np.inf)
            self._runs = [[] for _ in range(n_channels)]
        at = self._lengths.get(info.interval, 0)
        self._lengths[info.interval] = at + len(block)
        # a second of every block says enough of the amplitude
        self._spread.append(spread_of(block, info.rate_hz, most=1))
        finite = np.isfinite(block)
        if finite.all():
            self._low, self._high = np.minimum(self._low, block.min(axis=0)), np.maximum(self._high, block.max(axis=0))
            return
        self._low = np.minimum(self._low, np.where(finite, block, np.inf).min(axis=0))
        self._high = np.maximum(self._high, np.where(finite, block, -np.inf).max(axis=0))
        self._pauses += int((~finite.any(axis=1)).sum())
        for c in np.flatnonzero(~finite.all(axis=0)):
            self._runs[c] += [(info.interval, at + a, at + b) for a, b in runs_of(~finite[:, c])]

    def conclude(self, info: SignalInfo) -> Verdict:
        """Decide which channels are bad and where the recording is cut.

        Raises
        ------
        DataError
            When no good channel or no whole piece is left.
        """
        total = sum(self._lengths.values())
        if self._low is None or not total:
            raise DataError("has no samples (length zero)")
        lacking = np.array([sum(b - a for _, a, b in runs) for runs in self._runs])
        missing = (lacking - self._pauses) / max(total - self._pauses, 1)
        for c in range(len(info.channels)):
            if lacking[c] == total:
                self._reasons[c] = "no finite value"
            elif self._low[c] == self._high[c]:
                self._reasons[c] = f"flat at {self._low[c]:.6g}"
            elif missing[c] > self.max_missing:
                self._reasons[c] = f"{100 * missing[c]:.1f} % of the samples are missing"
        good = [c for c, ch in enumerate(info.channels) if c not in self._reasons and not ch.bad]
        if not good:
            first = next(iter(self._reasons.values()), "marked bad at the source")
            raise DataError(f"all {len(info.channels)} channels are bad (the first: {first})")
        keep, dropped = self._pieces(good, info.rate_hz)
        if not keep:
            raise DataError(
                f"no piece of {self.min_piece_s:g} s without missing values is left; "
                "raise max_missing to lose channels instead, or lower min_piece_s"
            )
        figures = {
            "bad_channels": float(len(info.channels) - len(good)),
            "missing": float(missing[good].mean()),
            "dropped": dropped / total,
            "gaps": float(len(keep) - len({i for i, _, _ in keep})),
        }
        figures |= self._scales(good, info)
        whole = [(i, 0, n) for i, n in sorted(self._lengths.items())]
        return Verdict(keep=None if keep == whole else keep, figures=figures)

    def _scales(self, good: list[int], info: SignalInfo) -> dict[str, float]:
        """Note the channels that are far from the median of their kind; return how many, where any were compared."""
        amplitude = typical(self._spread)
        self._spread = []
        groups: dict[tuple[str, str], list[int]] = {}
        for c in good:
            if info.channels[c].kind in ALIKE_KINDS and amplitude[c] > 0:
                groups.setdefault((info.channels[c].kind, info.channels[c].unit), []).append(c)
        compared = [members for members in groups.values() if len(members) >= FEWEST]
        for members in compared:
            ratio = amplitude[members] / np.median(amplitude[members])
            for c, r in zip(members, ratio, strict=True):
                if not 1 / ODD_RATIO < r < ODD_RATIO:
                    kind = info.channels[c].kind
                    self._odd[c] = (
                        f"amplitude is {f'{r:.0f}' if r > 1 else f'{r:.2g}'} {ODD_SCALE} ({kind}); check its unit"
                    )
        return {"odd_scale": float(len(self._odd))} if compared else {}

    def _pieces(self, good: list[int], rate_hz: float) -> tuple[list[Run], int]:
        """Cut every interval where a good channel has a hole."""
        holes: dict[int, list[tuple[int, int]]] = {}
        for c in good:
            for i, a, b in self._runs[c]:
                holes.setdefault(i, []).append((a, b))
        keep: list[Run] = []
        dropped = 0
        shortest = max(1, round(self.min_piece_s * rate_hz))
        for i, n in sorted(self._lengths.items()):
            if i not in holes:
                keep += [(i, 0, n)] if n else []
                continue
            at = 0
            for a, b in [*sorted(holes[i]), (n, n)]:
                if a - at >= shortest:
                    keep.append((i, at, a))
                elif a > at:
                    dropped += a - at
                dropped += max(0, b - max(a, at))
                at = max(at, b)
        return keep, dropped

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; mark the bad channels, and say which are oddly scaled."""
        return marked(marked(info, self._reasons), self._odd, bad=False)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Put zeros into the holes of bad channels."""
        finite = np.isfinite(block)
        return block if finite.all() else np.where(finite, block, 0.0)


def runs_of(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the (start, stop) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
