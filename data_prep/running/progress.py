"""The live view of a preparation: recordings done, hours of recording per minute, rejected, time left."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from data_prep.fetch import terms_once


def announce(dataset: str, *, licence: str, citation: str) -> None:
    """Print a dataset's licence and citation on stderr, once per machine."""
    text = terms_once(dataset, licence, citation)
    if text is not None:
        Console(stderr=True).print(text, markup=False, highlight=False)


def remark(text: str) -> None:
    """Print a sentence for the user on stderr."""
    Console(stderr=True).print(f"note: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


class Progress:
    """A bar on stderr; rejected recordings are printed with their reason as they happen.

    Parameters
    ----------
    title : str
        What is being prepared.
    total, done : int
        Number of recordings, and how many of them were finished before.
    show : bool
        False prints nothing.
    """

    def __init__(self, *, title: str, total: int, done: int, show: bool) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("recordings"),
            TextColumn("{task.fields[pace]}"), TextColumn("[red]{task.fields[rejected]}"), TimeElapsedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = Bar(*columns, console=Console(stderr=True), disable=not show)
        self._task = self._bar.add_task(f"prep {title}", total=total, completed=done, rejected="", pace="")
        self._rejected = 0
        self._hours = 0.0
        self._began = time.monotonic()
        self._show = show

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, key: str, reason: str | None, *, hours: float = 0.0) -> None:
        """Count one recording of so many hours; say why when it was rejected."""
        if reason is not None:
            self._rejected += 1
            if self._show:
                self._bar.console.print(f"rejected {key}: {reason}", style="red", markup=False, highlight=False)
        self._hours += hours
        label = f"{self._rejected} rejected" if self._rejected else ""
        self._bar.update(self._task, advance=1, rejected=label, pace=self.pace())

    def pace(self) -> str:
        """Say how many hours of recording a minute prepares; what was finished before this run does not count."""
        minutes = (time.monotonic() - self._began) / 60
        return f"{self._hours / minutes:.3g} h/min" if self._hours and minutes > 0 else ""
