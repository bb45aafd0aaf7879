"""Z-scores with statistics that were allowed to be known, and the noise that few calibration data put on them."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import whole
from neurofm.data.splits.spans import Span
from neurofm.data.storage.catalogue import channel_name
from neurofm.data.transforms.base import Transform
from neurofm.data.transforms.fitting import fitted_on, known_of
from neurofm.data.windows import stretches
from neurofm.schema.errors import ConfigError, DataError

# samples read at once when fitting, and blocks kept per recording to draw chunks from
READ_SAMPLES = 1 << 16
MAX_BLOCKS = 4096
# relative to the offset, below what float32 can tell from a constant
FLAT = 1e-7
# for messages
WHERE = "a part that may be looked at (per=subject shares what other recordings of the subject give)"


class Statistics(NamedTuple):
    """Mean and standard deviation (population) of each channel, float64 [C]."""

    mean: np.ndarray
    sd: np.ndarray


class Sums(NamedTuple):
    """Cumulative counts `n` [N + 1], sums and sums of squares [N + 1, C] over blocks of samples, about `origin` [C]."""

    n: np.ndarray
    first: np.ndarray
    second: np.ndarray
    origin: np.ndarray
    rate_hz: float

    def over(self, begin: int, end: int) -> Statistics:
        """Statistics of blocks ``begin:end``."""
        count = self.n[end] - self.n[begin]
        mean = (self.first[end] - self.first[begin]) / count
        variance = (self.second[end] - self.second[begin]) / count - mean**2
        return Statistics(self.origin + mean, _positive(np.sqrt(np.maximum(variance, 0)), self.origin))


@dataclass(kw_only=True)
class Standardize(Transform):
    """Subtract the mean and divide by the standard deviation of each channel.

    A recording that was never fitted cannot be standardized: its own statistics have to be calibrated first.

    Parameters
    ----------
    per : str
        "recording", or "subject": fitted spans of all recordings of a person are pooled by channel name, and hold for
        every recording of that person (so for an official test recording, from the training recordings).
    noise_range_s : pair of float, optional
        Calibration augmentation: in training the statistics come from a random chunk of the fitted spans of the same
        recording (subject), its length drawn log-uniformly from this range, so that a model learns the errors which a
        new subject's statistics will have.
    noise_probability : float
        Share of training windows that get such statistics; the others get those of all fitted spans.
    prior_s : float, optional
        Shrink the deviations of a recording fitted later towards the pattern of the recordings fitted first (two or
        more: the training part). With m the mean over those of each channel's log deviation about its recording's own
        level, d = log sd − m, g the mean of d over channels and n the fitted seconds,
        log sd ← m + g + n / (n + prior_s) · (d − g). A short calibration knows its level well, each channel badly.
    transductive : bool
        Fit on the whole recordings, test parts included; every score made with it is then transductive.
    """

    name: ClassVar[str] = "standardize"
    learns: ClassVar[bool] = True
    per: str = "recording"
    noise_range_s: Sequence[float] | None = None
    noise_probability: float = 1.0
    prior_s: float | None = None
    transductive: bool = False
    _pattern: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _statistics: dict[str, Statistics] = field(default_factory=dict, init=False, repr=False)
    _sums: dict[str, Sums] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.per not in ("recording", "subject"):
            raise ConfigError(f"standardize: per is '{self.per}'; expected 'recording' or 'subject'")
        if self.prior_s is not None and not self.prior_s > 0:
            raise ConfigError(f"standardize: prior_s is {self.prior_s}; expected seconds above 0, or null")
        if self.noise_range_s is not None:
            self.noise_range_s = tuple(float(x) for x in self.noise_range_s)
            if len(self.noise_range_s) != 2 or not 0 < self.noise_range_s[0] <= self.noise_range_s[1]:
                raise ConfigError(
                    f"standardize: noise_range_s is {self.noise_range_s}; expected 0 < shortest <= longest"
                )

    @property
    def draws(self) -> bool:
        """Whether statistics are made noisy in training."""
        return self.noise_range_s is not None

    @property
    def is_transductive(self) -> bool:
        """Whether it was told to look at whole recordings."""
        return self.transductive

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Read the spans once and keep their statistics."""
        if self.transductive:
            spans = allowed = whole(dataset, sorted({s.recording_id for s in spans}))
        super().fit(dataset, spans, allowed=allowed)
        groups: dict[str, list[Span]] = defaultdict(list)
        for span in sorted(set(spans)):
            person = self.per == "subject"
            groups[dataset.subject(span.recording_id) if person else span.recording_id].append(span)
        before = set(self._statistics)
        for group, members in groups.items():
            if self.per == "recording":
                self._keep(group, self._sum(dataset, members))
            else:
                self._fit_subject(dataset, group, members)
        if self.prior_s is not None:
            self._apply_prior(dataset, groups, before)

    def _apply_prior(self, dataset: Dataset, groups: Mapping[str, list[Span]], before: set[str]) -> None:
        """Learn the pattern from the first fit of two recordings or more; shrink those of later fits towards it."""
        fitted = [r for g in groups for r in ([g] if self.per == "recording" else dataset.select(subject=g))]
        fitted = [r for r in fitted if r in self._statistics]
        names = {r: [channel_name(c) for c in dataset.channels(r)] for r in fitted}
        if not self._pattern:
            if len(fitted) < 2 or before:
                return
            levels: dict[str, list[float]] = defaultdict(list)
            for r in fitted:
                log_sd = np.log(self._statistics[r].sd)
                for name, value in zip(names[r], log_sd - log_sd.mean(), strict=True):
                    levels[name].append(float(value))
            self._pattern = {name: float(np.mean(values)) for name, values in levels.items()}
            return
        assert self.prior_s is not None
        for r in fitted:
            group = r if self.per == "recording" else dataset.subject(r)
            seconds = sum(s.stop_s - s.start_s for s in groups[group])
            mean, sd = self._statistics[r]
            known = np.array([name in self._pattern for name in names[r]])
            pattern = np.array([self._pattern.get(name, 0.0) for name in names[r]])
            own = np.log(sd) - pattern
            level = own[known].mean() if known.any() else 0.0
            shrunk = np.exp(pattern + level + seconds / (seconds + self.prior_s) * (own - level))
            self._statistics[r] = Statistics(mean, np.where(known, shrunk, sd))

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return (values − mean) / sd."""
        mean, sd = self._for(recording_id, values.shape[1], rng)
        out = values - mean.astype(np.float32)
        out /= sd.astype(np.float32)
        return out

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Return values · sd + mean."""
        mean, sd = self._for(recording_id, values.shape[1], None)
        return (values * sd + mean).astype(np.float32)

    def statistics(self, recording_id: str) -> Statistics:
        """Mean and sd of a fitted recording, in the order of its good channels.

        Raises
        ------
        DataError
            When the recording was never fitted.
        """
        return known_of(self._statistics, recording_id, transform="standardize", where=WHERE)

    def state(self) -> dict[str, Any]:
        """Mean and sd of every fitted recording, and the pattern that later ones lean on."""
        known = {r: {"mean": s.mean.tolist(), "sd": s.sd.tolist()} for r, s in sorted(self._statistics.items())}
        return {"recordings": known, "pattern": dict(sorted(self._pattern.items()))}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take fitted means and deviations; chunks to draw from exist only after `fit`."""
        self._sums = {}
        self._statistics = {
            r: Statistics(np.array(s["mean"], np.float64), np.array(s["sd"], np.float64))
            for r, s in state["recordings"].items()
        }
        self._pattern = dict(state.get("pattern", {}))

    def _keep(self, recording_id: str, sums: Sums) -> None:
        self._statistics[recording_id] = sums.over(0, len(sums.n) - 1)
        if self.noise_range_s is not None:
            self._sums[recording_id] = sums

    def _fit_subject(self, dataset: Dataset, subject: str, spans: list[Span]) -> None:
        # spans with equal channel tables are summed together; the table with most data serves a recording
        tables: dict[tuple[str, ...], list[Span]] = defaultdict(list)
        for span in spans:
            tables[tuple(c["name"] for c in dataset.channels(span.recording_id))].append(span)
        fitted = sorted(
            ((names, self._sum(dataset, members)) for names, members in tables.items()), key=lambda x: -x[1].n[-1]
        )
        for r in dataset.select(subject=subject):
            wanted = [c["name"] for c in dataset.channels(r)]
            for names, sums in fitted:
                if set(wanted) <= set(names):
                    order = [names.index(w) for w in wanted]
                    self._keep(
                        r,
                        sums._replace(
                            first=sums.first[:, order], second=sums.second[:, order], origin=sums.origin[order]
                        ),
                    )
                    break

    def _sum(self, dataset: Dataset, spans: Sequence[Span]) -> Sums:
        rate = dataset.rate_hz(spans[0].recording_id)
        runs = [(s.recording_id, *x) for s in spans for x in stretches(dataset, s)]

        def blocks() -> Iterator[np.ndarray]:
            for recording_id, origin, first, last in runs:
                for at in range(first, last, READ_SAMPLES):
                    n = min(READ_SAMPLES, last - at)
                    yield dataset.read(recording_id, origin + at / rate, n)

        total = sum(last - first for _, _, first, last in runs)
        if total == 0:
            raise DataError(f"transform 'standardize': the spans of '{spans[0].recording_id}' hold no sample")
        return _sums_of(blocks(), total, rate)

    def _for(self, recording_id: str, n_channels: int, rng: np.random.Generator | None) -> Statistics:
        known = fitted_on(self._statistics, recording_id, n_channels, mean="mean", transform="standardize", where=WHERE)
        if rng is None or self.noise_range_s is None or rng.random() >= self.noise_probability:
            return known
        if recording_id not in self._sums:
            raise DataError(
                f"transform 'standardize': fit it again on '{recording_id}' before training with noise_range_s"
            )
        sums = self._sums[recording_id]
        shortest, longest = self.noise_range_s
        wanted = sums.rate_hz * shortest * (longest / shortest) ** rng.random()
        total = int(sums.n[-1])
        begin = bisect.bisect_right(sums.n, rng.random() * max(total - wanted, 0)) - 1
        end = bisect.bisect_left(sums.n, min(sums.n[begin] + round(wanted), total))
        # one sample has no deviation
        end = min(max(end, begin + 1), len(sums.n) - 1)
        return sums.over(min(begin, end - 1), end)


def _sums_of(arrays: Iterator[np.ndarray], n_samples: int, rate_hz: float) -> Sums:
    """Add up (T, C) arrays of `n_samples` in all; blocks are single samples up to `MAX_BLOCKS` of them."""
    size = -(-n_samples // MAX_BLOCKS)
    edges = np.append(np.arange(0, n_samples, size), n_samples)
    first = second = origin = None
    at = 0
    for array in arrays:
        x = array.astype(np.float64)
        if first is None or second is None or origin is None:
            # about a mean near the true one the sums of squares keep their digits, whatever the offset
            origin = x.mean(axis=0)
            first, second = (np.zeros((len(edges), x.shape[1])) for _ in range(2))
        x -= origin
        block = (at + np.arange(len(x))) // size
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        first[block[starts] + 1] += np.add.reduceat(x, starts, axis=0)
        second[block[starts] + 1] += np.add.reduceat(x * x, starts, axis=0)
        at += len(x)
    if first is None or second is None or origin is None:
        raise DataError("transform 'standardize': there is nothing to fit on")
    return Sums(edges, first.cumsum(axis=0), second.cumsum(axis=0), origin, rate_hz)


def _positive(sd: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Replace the deviation of a flat channel by 1, so that it becomes zeros and not noise of rounding."""
    return np.where(sd > np.maximum(FLAT * np.abs(origin), np.finfo(np.float32).tiny), sd, 1.0)
