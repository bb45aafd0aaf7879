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
    sessions : sequence of str
        Sessions that `session` counts from 1.
    counts : bool
        Whether lists of events are counted in bins beside; without, `signal` is zeros that take no memory.
    time_first : bool
        Lay a batch's signal out as [window, time, channel] in memory, as the shards have it, and hand out a view of it
        as [window, channel, time]: about twice as fast where nothing else is done to windows. The same numbers.
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
        sessions: Sequence[str] = (),
        counts: bool = True,
        stimuli: Stimuli | None = None,
        time_first: bool = False,
    ) -> None:
        self.windows = windows
        self.stimuli = stimuli
        self.counts, self.time_first = counts, time_first
        self._scratch = np.empty(0, np.float32)
        self._epoch: int | None = None
        self.streams = tuple(streams)
        self.seed = seed
        self.transform = transform
        self.training = training
        self._dataset = {r: d for d in datasets for r in d.recordings}
        if len(self._dataset) != sum(len(d.recordings) for d in datasets):
            raise ConfigError("two datasets hold a recording of the same id; give each dataset once")
        names = {name: i for i, name in enumerate(vocabulary, 1)}
        people = {name: i for i, name in enumerate(subjects, 1)}
        days = {name: i for i, name in enumerate(sessions, 1)}
        self.about: dict[str, About] = {}
        for r in dict.fromkeys(w.recording_id for w in windows):
            if r not in self._dataset:
                raise DataError(
                    f"no dataset given holds the recording '{r}'; check that windows and datasets belong together"
                )
            self.about[r] = describe(self._dataset[r], r, vocabulary=names, subjects=people, sessions=days)

    def place(self, i: int) -> tuple[str, int]:
        """Return the tar that window `i` begins in, and a number that grows along it."""
        w = self.windows[i]
        return self._dataset[w.recording_id].place(w.recording_id, w.start_s, w.n_samples)

    def __len__(self) -> int:
        return len(self.windows)

    def sample(self, epoch: int, i: int, into: np.ndarray | None = None) -> Sample:
        """Read and transform window `i`; a pure function of (seed, epoch, i).

        Its values are written to `into`, shape (C, T), where that is given, and are then a view of it.
        """
        window = self.windows[i]
        about = self.about[window.recording_id]
        # without a use for it, no generator: making one takes longer than reading a small window
        random = self.training and (self.transform is not None or window.slack_samples > 0)
        rng = keyed_generator(self.seed, epoch, i) if random else None
        start_s = window.start_s
        if rng is not None and window.slack_samples:
            start_s += int(rng.integers(window.slack_samples + 1)) / about.rate_hz
        dataset = self._dataset[window.recording_id]
        counted = self.counts or not dataset.is_events(window.recording_id)
        if counted:
            out = None if into is None else self._memory(into)
            values = dataset.read(window.recording_id, start_s, window.n_samples, out=out)
        else:
            values = np.broadcast_to(np.float32(0), (window.n_samples, len(about.channel_ids)))
        if counted and self.transform is not None:
            values, target = self.transform.apply_labelled(values, window.recording_id, window.target, rng=rng)
            if target is not window.target:
                window = window._replace(target=target)
        if counted and into is not None:
            if values.ctypes.data != into.ctypes.data:
                into[...] = values.T
            values = into.T
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
        return Sample(window, i, start_s, values, about, events, streams, counted, shown)

    def __getitem__(self, job: Job) -> tuple[NeuralBatch | None, list[str]]:
        """Return the batch, None when none of it could be read, and what was skipped."""
        epoch, numbers = job
        if epoch != self._epoch:
            self._epoch = epoch
            for dataset in {id(d): d for d in self._dataset.values()}.values():
                dataset.rewind()
        samples: list[Sample] = []
        skipped: list[str] = []
        windows = [self.windows[i] for i in numbers]
        n_channels = [len(self.about[w.recording_id].channel_ids) for w in windows]
        c_max, t_max = max(n_channels), max(w.n_samples for w in windows)
        if self.time_first:
            signal = np.empty((len(numbers), t_max, c_max), np.float32).transpose(0, 2, 1)
        else:
            signal = np.empty((len(numbers), c_max, t_max), np.float32)
        for i, w, c in zip(numbers, windows, n_channels, strict=True):
            place = signal[len(samples)]
            place[c:] = 0
            place[:c, w.n_samples :] = 0
            try:
                samples.append(self.sample(epoch, i, place[:c, : w.n_samples]))
            except CorruptError as error:
                if self._dataset[w.recording_id].on_corrupt != "skip":
                    raise
                skipped.append(f"window {i} left out: {error}")
        return (collate(samples, signal[: len(samples)]) if samples else None), skipped

    def _memory(self, into: np.ndarray) -> np.ndarray:
        """Where to read a window to: its place in the batch where that will do, else memory that is used again."""
        if self.transform is None and into.T.flags.c_contiguous:
            return into.T
        if self._scratch.size < into.size:
            self._scratch = np.empty(into.size, np.float32)
        return self._scratch[: into.size].reshape(into.T.shape)
