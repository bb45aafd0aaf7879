"""Reading the windows of one batch: what a worker runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset as TorchDataset

from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.loading.collate import About, Sample, collate, describe
from neurofm.data.loading.parcel import empty
from neurofm.data.stimuli import Stimuli
from neurofm.data.storage.events import EDGE
from neurofm.data.storage.segments import CorruptError
from neurofm.data.transforms.base import Transform
from neurofm.data.windows import Window
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

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
    facts : Facts, optional
        Of the model: which channels, subjects and sessions `channel_ids`, `subject` and `session` count; without, all are 0.
    training : bool
        Whether anything is random.
    streams : sequence of str
        Further regular streams (behaviour, stimulus) that come with each window, on their own clocks.
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
        facts: Facts | None,
        training: bool,
        streams: Sequence[str] = (),
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
        self._draws = transform is not None and transform.draws
        self._datasets = list(datasets)
        holder = {r: d for d in datasets for r in d.recordings}
        if len(holder) != sum(len(d.recordings) for d in datasets):
            raise ConfigError("two datasets hold a recording of the same id; give each dataset once")
        self.about: dict[str, About] = {}
        # of each recording: where it is, and whether its signal is a list of events
        self._source: dict[str, tuple[Dataset, bool]] = {}
        for r in dict.fromkeys(w.recording_id for w in windows):
            if r not in holder:
                raise DataError(
                    f"no dataset given holds the recording '{r}'; check that windows and datasets belong together"
                )
            self.about[r] = describe(holder[r], r, facts)
            self._source[r] = holder[r], holder[r].is_events(r)

    def place(self, i: int) -> tuple[str, int]:
        """Return the tar that window `i` begins in, and a number that grows along it."""
        w = self.windows[i]
        return self._source[w.recording_id][0].place(w.recording_id, w.start_s, w.n_samples)

    def __len__(self) -> int:
        return len(self.windows)

    def sample(self, epoch: int, i: int, into: np.ndarray | None = None) -> Sample:
        """Read and transform window `i`; a pure function of (seed, epoch, i).

        Its values are written to `into`, shape (C, T), where that is given, and are then a view of it.
        """
        window = self.windows[i]
        recording_id, start_s, n_samples = window.recording_id, window.start_s, window.n_samples
        about, (dataset, is_events) = self.about[recording_id], self._source[recording_id]
        # without a use for it, no generator: making one takes longer than reading a small window
        rng = keyed_generator(self.seed, epoch, i) if self.training and (self._draws or window.slack_samples) else None
        if rng is not None and window.slack_samples:
            start_s += int(rng.integers(window.slack_samples + 1)) / about.rate_hz
        counted = self.counts or not is_events
        place = None if into is None else into.T
        if counted:
            read_to_place = place is None or self.transform is None
            out = place if read_to_place else self._memory(n_samples, len(about.channel_ids))
            values = dataset.read(recording_id, start_s, n_samples, out=out)
            if self.transform is not None:
                values, target = self.transform.apply_labelled(values, recording_id, window.target, rng=rng)
                if target is not window.target:
                    window = window._replace(target=target)
            if place is not None and values is not place:
                place[...] = values
                values = place
        else:
            values = np.broadcast_to(np.float32(0), (n_samples, len(about.channel_ids)))
        sample = Sample(window, i, start_s, values, about, counted=counted)
        if is_events:
            # the same events that are counted in the bins: one that lies on a border but for rounding is behind it
            slack, stop_s = EDGE / about.rate_hz, start_s + n_samples / about.rate_hz
            time_s, unit = dataset.read_events(recording_id, start_s - slack, stop_s - slack)
            sample.events = (np.maximum(time_s - start_s, 0), unit)
        for name in self.streams:
            stop_s = start_s + n_samples / about.rate_hz
            further, time_s = dataset.read_stream(recording_id, start_s, stop_s, stream=name)
            sample.streams[name] = (further, time_s - start_s)
        if self.stimuli is not None:
            sample.shown = self.stimuli.shown(dataset, window, start_s)
        return sample

    def __getitem__(self, job: Job) -> tuple[NeuralBatch | None, list[str]]:
        """Return the batch, None when none of it could be read, and what was skipped."""
        epoch, numbers = job
        if epoch != self._epoch:
            self._epoch = epoch
            for dataset in self._datasets:
                dataset.rewind()
        samples: list[Sample] = []
        skipped: list[str] = []
        windows = [self.windows[i] for i in numbers]
        sizes = [(len(self.about[w.recording_id].channel_ids), w.n_samples) for w in windows]
        c_max, t_max = (max(size[k] for size in sizes) for k in (0, 1))
        whole = empty(len(numbers), *((t_max, c_max) if self.time_first else (c_max, t_max)))
        whole = whole.transpose(1, 2) if self.time_first else whole
        signal = whole.numpy()
        for i, w, (c, t) in zip(numbers, windows, sizes, strict=True):
            place = signal[len(samples)]
            if c < c_max or t < t_max:
                place[c:] = 0
                place[:c, t:] = 0
                place = place[:c, :t]
            try:
                samples.append(self.sample(epoch, i, place))
            except CorruptError as error:
                if self._source[w.recording_id][0].on_corrupt != "skip":
                    raise
                skipped.append(f"window {i} left out: {error}")
        return (collate(samples, whole[: len(samples)]) if samples else None), skipped

    def _memory(self, n_samples: int, n_channels: int) -> np.ndarray:
        """Memory for a window before its transforms, used again for the next."""
        size = n_samples * n_channels
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.float32)
        return self._scratch[:size].reshape(n_samples, n_channels)
