"""What a miniature tree of a public dataset must come out as, said by its writer and not by its reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurofm.schema.recording import Recording


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of signal that must stand at the end of some valid interval, and what happens during it.

    For layouts that do not say how their trials or runs lie on one clock: where the piece is found, its first sample
    is time zero of its events.

    Attributes
    ----------
    values : array, shape (time, channel)
        In physical units; NaN = not asked.
    atol : float
        Largest difference allowed.
    electrodes : list of str
        Of the columns of `values`, as `pieces.electrode` gives them; None = all channels of the signal in order.
    any_scale : bool
        Whether one common factor is allowed, for sets whose unit nobody knows.
    at_s : float
        Where on the recording's clock it must stand; None = at the end of any interval.
    events : list of (onset_s, label) or (onset_s, label, duration_s)
        Events during the piece in order; a label may be a compiled pattern that must be found in it.
    events_of : str
        Pattern; only events whose label it is found in are compared.
    stimuli : list of str
        Of the same events: names of stimuli. Over the whole tree, equal names must have equal `stimulus_id`s and
        different names different ones.
    shown : (onset_s, name)
        A stimulus: the events at this time carry one `stimulus_id`, equal for equal names as in `stimuli`.
    ratings : dict of str to float
        Word → number that some event during the piece must give (as value of an event of that kind or label, or as a
        number after the word in its label).
    """

    values: np.ndarray
    atol: float = 1e-3
    electrodes: list[str] | None = None
    any_scale: bool = False
    at_s: float | None = None
    events: list[tuple[Any, ...]] | None = None
    events_of: str | None = None
    stimuli: list[str] | None = None
    shown: tuple[float, str] | None = None
    ratings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One recording; None = not asked.

    Attributes
    ----------
    subject, session, task, run, part, modality : str
        As in `Recording`; the subject may be a compiled pattern that must be found in it.
    file : str
        Name of the file that `Recording.source_file` ends with.
    rate_hz : float
    channels, kinds, units : list of str
        Of the first stream (the signal or the events), in order.
    only_good : bool
        Whether bad channels are left out of the following, as they are when a prepared dataset is read.
    n_samples : list of int
        Per valid interval.
    duration_s : list of float
        Of each valid interval; also of recordings of events, which have no samples.
    values : dict of int to array, shape (time, channel)
        Interval → its signal in physical units.
    atol : float
        Largest difference allowed, in the physical unit (what the file format's integers cannot hold).
    events : list of (onset_s, label)
        All events of the recording in order of onset; or only those of kind `events_of_kind`, or whose label the
        pattern `events_of` is found in. A label may be a compiled pattern that must be found in it.
    stimulus_ids : list of str
        Of the same events.
    regions : list of str
        Of the signal's channels.
    electrodes : list of str
        Of the signal's channels in order, as `pieces.electrode` gives them, whichever way they are spelt; a channel
        that stands twice in a file may come out once or twice.
    pieces : list of Piece
        All to be found.
    """

    subject: str | re.Pattern[str] | None
    session: str | None = ""
    task: str | None = None
    run: str | None = None
    part: str | None = None
    modality: str | None = None
    rate_hz: float | None = None
    channels: list[str] | None = None
    kinds: list[str] | None = None
    units: list[str] | None = None
    only_good: bool = False
    n_samples: list[int] | None = None
    duration_s: list[float] | None = None
    values: dict[int, np.ndarray] = field(default_factory=dict)
    atol: float = 1e-3
    events: list[tuple[float, str | re.Pattern[str]]] | None = None
    events_of_kind: str | None = None
    events_of: str | None = None
    stimulus_ids: list[str] | None = None
    regions: list[str] | None = None
    file: str | None = None
    electrodes: list[str] | None = None
    pieces: list[Piece] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What was written: which source reads it, with which choices, what it must yield and what it must refuse.

    Attributes
    ----------
    source : str
        Registered name of the source.
    choices : dict
        Its keyword arguments.
    recordings : list of Expected
        All that are yielded, in any order.
    rejected : list of str or (str, str)
        For each item that must be refused, a piece of its reason; or the end of its file's name and that piece.
    also : callable (recordings)
        Asserts what holds between the recordings.
    """

    source: str
    choices: dict[str, Any]
    recordings: list[Expected]
    rejected: list[str | tuple[str, str]] = field(default_factory=list)
    also: Callable[[list[Recording]], None] | None = None
