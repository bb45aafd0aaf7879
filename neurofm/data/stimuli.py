"""What was shown or heard in a window: stimulus, concept and precomputed embedding, from events and stimuli tables."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.windows import Window
from neurofm.schema.embeddings import FOLDER, EmbeddingFile, embedding_path
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.tables import read_table

# kind of the events that say when a sound began and how long it lasted
SOUND = "sound"


class Shown(NamedTuple):
    """What a window shows: row of the stimulus, row of its concept (−1 unknown), and encoder → embedding."""

    stimulus: int
    concept: int
    embeddings: dict[str, np.ndarray]


class Stimuli:
    """Stimuli of a dataset and their embeddings by one or several encoders.

    Parameters
    ----------
    dataset : Dataset
        Prepared; its events name stimuli, and `stimuli/` holds their table and embeddings.
    encoders : sequence of str
        Names of the files in ``stimuli/embeddings``.
    window_s : float
        How much of the stimulus belongs to a window, for embeddings that unfold in time.
    lag_s : float
        How much later the brain answers than the stimulus: the window from t is paired with the stimulus from
        t − lag_s (150 ms in brainmagick). Only for embeddings that unfold in time.

    Attributes
    ----------
    ids, concepts : tuple of str
        What `NeuralBatch.stimulus` and `NeuralBatch.concept` count in, from 0.
    concept_of : dict of str to str
        Stimulus → concept.

    Raises
    ------
    DataError
        When there is no table or no file of embeddings.
    """

    def __init__(self, dataset: Dataset, encoders: Sequence[str], *, window_s: float, lag_s: float = 0.0) -> None:
        if "://" in dataset.path:
            raise ConfigError(
                f"{dataset.path}: embeddings are read from local folders only; copy stimuli/ and the shards"
            )
        rows = stimuli_table(dataset.path)
        self.files = {name: EmbeddingFile(embedding_path(dataset.path, name)) for name in encoders}
        self.rows: dict[str, dict[str, Any]] = {r["stimulus_id"]: r for r in rows}
        self.ids = tuple(self.rows)
        self.concept_of = {s: str(r["concept"]) for s, r in self.rows.items()}
        self.concepts = tuple(sorted({c for c in self.concept_of.values() if c}))
        self.window_s, self.lag_s = window_s, lag_s
        if lag_s and any(f.rate_hz is None for f in self.files.values()):
            raise ConfigError(
                "embedding_lag_s is for embeddings that unfold in time; leave it 0 for one vector per stimulus"
            )
        self._number = {s: i for i, s in enumerate(self.ids)}
        self._concept = {c: i for i, c in enumerate(self.concepts)}
        self._events: dict[str, list[tuple[float, float, str, int]]] = {}

    def shape(self, encoder: str) -> tuple[int, ...]:
        """Shape of the embedding of one window."""
        f = self.files[encoder]
        return f.row_shape if f.rate_hz is None else (round(self.window_s * f.rate_hz), *f.row_shape)

    def event_of(self, dataset: Dataset, window: Window, start_s: float) -> tuple[float, str]:
        """Onset and id of the stimulus of a window.

        That of the event with the window's trial number; else of the one event that begins inside it; else of the one
        that lasts over its start.

        Raises
        ------
        DataError
            When there is none, or there are several and nothing says which.
        """
        r = window.recording_id
        if r not in self._events:
            named = [e for e in dataset.events(r) if e["stimulus_id"]]
            # words and phonemes name the sound that they lie in; only the sound itself says when it began
            sounds = [e for e in named if e["kind"] == SOUND]
            self._events[r] = [
                (e["onset_s"], e["onset_s"] + e["duration_s"], e["stimulus_id"], e["trial"]) for e in sounds or named
            ]
        events = self._events[r]
        stop_s = start_s + window.n_samples / dataset.rate_hz(r)
        a, b = (bisect.bisect_left(events, t - 1e-6, key=lambda e: e[0]) for t in (start_s, stop_s))
        inside = events[a:b]
        # a stimulus that lasts (speech) began before the window and covers its start
        lasting = [e for e in events[max(0, a - 64) : a] if e[1] > start_s + 1e-6]
        own = [e for e in [*inside, *lasting] if window.trial >= 0 and e[3] == window.trial]
        found = own or inside or lasting
        if len({e[2] for e in found}) != 1:
            several = f"shows {len({e[2] for e in found})} stimuli" if found else "shows no stimulus"
            raise DataError(
                f"{dataset.path}: the window of '{r}' at {start_s:g} s {several}; cut trials around the events "
                "(stage 'epoch') or choose windows inside one stimulus"
            )
        return found[0][0], found[0][2]

    def shown(self, dataset: Dataset, window: Window, start_s: float) -> Shown:
        """Stimulus, concept and embeddings of a window that starts at `start_s` (jitter included)."""
        onset_s, name = self.event_of(dataset, window, start_s)
        if name not in self._number:
            raise DataError(
                f"{dataset.path}/{FOLDER}/stimuli.parquet: has no row of the stimulus '{name}'; prepare again"
            )
        values = {}
        for encoder, f in self.files.items():
            if f.rate_hz is None:
                values[encoder] = f.read(name)
            else:
                values[encoder] = f.cut(name, start_s - onset_s - self.lag_s, self.shape(encoder)[0])
        return Shown(self._number[name], self._concept.get(self.concept_of[name], -1), values)


def stimuli_table(path: str | Path) -> list[dict[str, Any]]:
    """Rows of ``stimuli/stimuli.parquet`` of a prepared dataset, sorted by id.

    Raises
    ------
    DataError
        When the dataset has none.
    """
    folder = Path(path) / FOLDER
    if not (folder / "stimuli.parquet").exists():
        raise DataError(
            f"{folder}/stimuli.parquet: no such table: the dataset lists no stimuli; prepare it again with a source that "
            "knows what was shown"
        )
    return sorted(read_table(folder, "stimuli"), key=lambda r: r["stimulus_id"])
