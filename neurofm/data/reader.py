"""Reading the windows of one batch: what a worker runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset as TorchDataset

from neurofm.data.collate import About, Sample, collate, describe
from neurofm.data.events import EDGE
from neurofm.data.index import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.segments import CorruptError
from neurofm.data.stimuli import Stimuli
from neurofm.data.transforms import Transform
from neurofm.data.windows import Window
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError

Job = tuple[int, tuple[int, ...]]


class WindowReader(TorchDataset):
    """(epoch, window numbers) → batch.

    Parameters
    ----------
    datasets : sequence of Dataset
        Together they hold the recordings of all windows.
    windows : sequence of Window
        By number.
    seed : int
        With the epoch and the window's number it keys jitter and augmentation.
    transform : Transform, optional
        Applied to each window.
    vocabulary, subjects : sequence of str
        Names that `channel_ids` and `subject` count from 1.
    training : bool
        Whether anything is random.
    streams : sequence of str
        Further regular streams (behaviour, stimulus) that come with each window, on their own clocks.
    stimuli : Stimuli, optional
        Fills what was shown or heard, and its embedding.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        windows: Sequence[Window],
        *,
        seed: int,
        transform: Transform | None,
        vocabulary: Sequence[str],
        subjects: Sequence[str],
        training: bool,
        streams: Sequence[str] = (),
        stimuli: Stimuli | None = None,
    ) -> None:
        self.windows = windows
        self.stimuli = stimuli
        self.streams = tuple(streams)
        self.seed = seed
        self.transform = transform
        self.training = training
        self._dataset = {r: d for d in datasets for r in d.recordings}
        if len(self._dataset) != sum(len(d.recordings) for d in datasets):
            raise ConfigError("two datasets hold a recording of the same id; give each dataset once")
        names = {name: i for i, name in enumerate(vocabulary, 1)}
        people = {name: i for i, name in enumerate(subjects, 1)}
        self.about: dict[str, About] = {}
        for r in dict.fromkeys(w.recording_id for w in windows):
            if r not in self._dataset:
                raise DataError(
                    f"no dataset given holds the recording '{r}'; check that windows and datasets belong together"
                )
            self.about[r] = describe(self._dataset[r], r, vocabulary=names, subjects=people)

    def __len__(self) -> int:
        return len(self.windows)

    def sample(self, epoch: int, i: int) -> Sample:
        """Read and transform window `i`; a pure function of (seed, epoch, i)."""
        window = self.windows[i]
        about = self.about[window.recording_id]
        rng = keyed_generator(self.seed, epoch, i) if self.training else None
        start_s = window.start_s
        if rng is not None and window.slack_samples:
            start_s += int(rng.integers(window.slack_samples + 1)) / about.rate_hz
        dataset = self._dataset[window.recording_id]
        values = dataset.read(window.recording_id, start_s, window.n_samples)
        if self.transform is not None:
            values = self.transform.apply(values, window.recording_id, rng=rng)
        stop_s = start_s + window.n_samples / about.rate_hz
        events = None
        if dataset.is_events(window.recording_id):
            # the same events that are counted in the bins: one that lies on a border but for rounding is behind it
            slack = EDGE / about.rate_hz
            time_s, unit = dataset.read_events(window.recording_id, start_s - slack, stop_s - slack)
            events = (np.maximum(time_s - start_s, 0), unit)
        streams = {}
        for name in self.streams:
            further, time_s = dataset.read_stream(window.recording_id, start_s, stop_s, stream=name)
            streams[name] = (further, time_s - start_s)
        shown = self.stimuli.shown(dataset, window, start_s) if self.stimuli is not None else None
        return Sample(window, i, start_s, values, about, events, streams, shown)

    def __getitem__(self, job: Job) -> tuple[NeuralBatch | None, list[str]]:
        """Return the batch, None when none of it could be read, and what was skipped."""
        epoch, numbers = job
        samples, skipped = [], []
        for i in numbers:
            try:
                samples.append(self.sample(epoch, i))
            except CorruptError as error:
                if self._dataset[self.windows[i].recording_id].on_corrupt != "skip":
                    raise
                skipped.append(f"window {i} left out: {error}")
        return (collate(samples) if samples else None), skipped
