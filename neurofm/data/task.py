"""What is asked of a dataset: how windows are cut from spans, and which class each belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurofm.data.dataset import Dataset
from neurofm.data.labels import classes_in, labelled_windows
from neurofm.data.splits.spans import Span
from neurofm.data.windows import Window, event_windows, labels_in, random_windows, sliding, trial_windows
from neurofm.schema.errors import ConfigError, nearest

# how windows are cut
WINDOWS = ("sliding", "trial", "labelled", "event", "random")


@dataclass(frozen=True, kw_only=True)
class Task:
    """How windows are cut, and what is asked of each (`conf/task`).

    Parameters
    ----------
    window_s, stride_s : float
        Length of a window, and step between windows (default: the length). Trials longer than `window_s` are cut
        to `window_s` seconds from `offset_s` on.
    windows : str
        "sliding", "trial": one window per trial with its label, "labelled": sliding, each with the class of the
        events that cover it, "event": one per event of `label_kind`, or "random": `n_windows` drawn uniformly.
    label_kind : str, optional
        The kind of event whose label is the class; None reads trials without labels.
    classes : sequence of str, optional
        The classes in order, so that a part in which one never occurs has it all the same; default: those found.
    background, label_s, label_fraction
        For "labelled": see `data.labels.labelled_windows`.
    offset_s : float
        For "event" and "trial": start of the window from the onset, or from the trial's start (0.2 where trials have a
        baseline of 0.2 s).
    jitter_s : float
        For "event" and "random": in training a window may start up to this much later, anew in every epoch.
    incomplete : str
        For "event": "error", or "drop" what sticks out of its span or of a valid interval.
    labels : bool
        For "event": whether the event's label is the target.
    n_windows, window_seed : int
        For "random": how many windows, and of which draw.
    embedding_s : float, optional
        For embeddings that unfold in time: how much of the stimulus belongs to a window, from its start; less than the
        window where the brain's answer to the last of it should be seen too. Default all of it.

    Raises
    ------
    ConfigError
        When a choice is unknown, or goes not with another.
    """

    window_s: float
    stride_s: float | None = None
    windows: str = "sliding"
    label_kind: str | None = None
    classes: Sequence[str] | None = None
    background: str | None = None
    label_s: float | None = None
    label_fraction: float = 0.5
    offset_s: float = 0.0
    jitter_s: float = 0.0
    incomplete: str = "error"
    labels: bool = True
    n_windows: int = 1000
    window_seed: int = 0
    embedding_s: float | None = None

    def __post_init__(self) -> None:
        if self.windows not in WINDOWS:
            raise ConfigError(f"windows='{self.windows}' is unknown: {nearest(self.windows, WINDOWS)}")
        if self.windows == "labelled" and self.label_kind is None:
            raise ConfigError("windows=labelled needs label_kind, the kind of event that windows are labelled by")
        if self.windows == "event" and self.labels and self.label_kind is None:
            raise ConfigError(
                "windows=event needs label_kind, the kind of event, or labels=false for events of any kind"
            )
        if self.embedding_s is not None and not 0 < self.embedding_s <= self.window_s:
            raise ConfigError(
                f"embedding_s={self.embedding_s:g} must be above 0 and at most the window, {self.window_s:g} s"
            )

    @property
    def labelled(self) -> bool:
        """Whether a window has a class."""
        return self.label_kind is not None and not (self.windows == "event" and not self.labels)

    def classes_of(self, dataset: Dataset, spans: Sequence[Span]) -> tuple[str, ...]:
        """The classes in order: those asked for, or the labels found in these spans."""
        if self.classes is not None or not self.labelled:
            return tuple(str(c) for c in self.classes or ())
        assert self.label_kind is not None
        if self.windows == "labelled":
            return classes_in(dataset, spans, kind=self.label_kind, background=self.background)
        return tuple(labels_in(dataset, spans, kind=self.label_kind))

    def cut(self, dataset: Dataset, spans: Sequence[Span], classes: Sequence[str] = ()) -> list[Window]:
        """Windows of some spans; the target of each is the index of its class."""
        known = classes if self.labelled else None
        match self.windows:
            case "labelled":
                assert self.label_kind is not None
                return labelled_windows(
                    dataset, spans, window_s=self.window_s, stride_s=self.stride_s, kind=self.label_kind, classes=classes,
                    background=self.background, label_s=self.label_s, fraction=self.label_fraction,
                )  # fmt: skip
            case "trial":
                return trial_windows(
                    dataset, spans, window_s=self.window_s, classes=known or None, kind=self.label_kind,
                    offset_s=self.offset_s,
                )  # fmt: skip
            case "event":
                return event_windows(
                    dataset, spans, window_s=self.window_s, offset_s=self.offset_s, kind=self.label_kind, classes=known,
                    incomplete=self.incomplete, jitter_s=self.jitter_s,
                )  # fmt: skip
            case "random":
                return random_windows(
                    dataset, spans, window_s=self.window_s, n_windows=self.n_windows, seed=self.window_seed,
                    jitter_s=self.jitter_s,
                )  # fmt: skip
        return sliding(dataset, spans, window_s=self.window_s, stride_s=self.stride_s, jitter=True)
