"""What a miniature tree of a public dataset must come out as, said by its writer and not by its reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One recording; None = not asked.

    Attributes
    ----------
    subject, session, task, run, part, modality : str
        As in `Recording`.
    rate_hz : float
    channels, kinds, units : list of str
        Of the signal stream, in order.
    n_samples : list of int
        Per valid interval.
    values : dict of int to array, shape (time, channel)
        Interval → its signal in physical units.
    atol : float
        Largest difference allowed, in the physical unit (what the file format's integers cannot hold).
    events : list of (onset_s, label)
        All events of the recording in order of onset; or only those of kind `events_of_kind`.
    stimulus_ids : list of str
        Of the same events.
    regions : list of str
        Of the signal's channels.
    """

    subject: str
    session: str = ""
    task: str | None = None
    run: str | None = None
    part: str | None = None
    modality: str | None = None
    rate_hz: float | None = None
    channels: list[str] | None = None
    kinds: list[str] | None = None
    units: list[str] | None = None
    n_samples: list[int] | None = None
    values: dict[int, np.ndarray] = field(default_factory=dict)
    atol: float = 1e-3
    events: list[tuple[float, str]] | None = None
    events_of_kind: str | None = None
    stimulus_ids: list[str] | None = None
    regions: list[str] | None = None


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
    rejected : list of str
        For each item that must be refused, a piece of its reason.
    """

    source: str
    choices: dict[str, Any]
    recordings: list[Expected]
    rejected: list[str] = field(default_factory=list)
