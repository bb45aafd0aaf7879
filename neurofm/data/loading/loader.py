"""Windows → batches, in the order of the plan; one global cursor says how far training has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from neurofm.data.dataset import Dataset
from neurofm.data.loading.parcel import AHEAD, Item, forget, pack, unpack
from neurofm.data.loading.plan import EMPTY, merge_small, plan_epoch, plan_hash, plan_stream, slice_of
from neurofm.data.loading.reader import Job, WindowReader
from neurofm.data.stimuli import Stimuli
from neurofm.data.transforms.base import Transform
from neurofm.data.windows import Window, windows_hash
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.facts import Facts

READERS = ("indexed", "stream")


class _Jobs:
    """The sampler of the torch loader: what is left of this epoch."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)


class WindowLoader:
    """Batches of windows; the same for any number of ranks and workers at equal global batch size.

    A shuffled loader is a stream: each iteration goes on behind the last batch handed out, to the end of that epoch,
    and the next iteration is the next epoch. So nothing is lost when a trainer leaves an epoch early, and Lightning,
    which after resuming from the end of an epoch takes one batch and begins anew, gets every batch once. Lightning's
    own count of epochs is not looked at, as it also counts those that ``max_steps`` cut short. An unshuffled loader
    starts from its first batch each time, unless a state was loaded.

    Parameters
    ----------
    datasets : Dataset or sequence of Dataset
        Where the windows' recordings are.
    windows : sequence of Window
        What to read; its order is the order without `shuffle`.
    batch_size : int
        Windows per step over *all* ranks; a multiple of `world_size`.
    seed : int
        Of the order, jitter and augmentation.
    transforms : Transform, optional
        Usually a fitted `Compose`.
    facts : Facts, optional
        Of the model: which channels, subjects and sessions it knows, in which order; without, all are unknown.
    streams : sequence of str
        Further regular streams to come with each window (`NeuralBatch.streams`).
    counts : bool
        Whether lists of events (spikes) are counted in bins beside; without, `signal` is zeros that take no memory.
    stimuli : Stimuli, optional
        What was shown or heard comes with each window.
    rank, world_size : int
        This process among those that train together. Given, never guessed: a spawned worker could not know.
    n_workers : int
        Worker processes; 0 reads in this one.
    shuffle, training : bool
        Whether the order is permuted; whether jitter and augmentation happen (default: as `shuffle`).
    last : str, optional
        "drop" (default when shuffling), "keep" (default else) or "repeat"; see `plan_epoch`.
    weights : sequence of float, optional
        How often each window comes per epoch, to mix datasets.
    preload : bool
        Keep the decoded recordings in memory; for datasets that fit.
    start_method : str, optional
        "fork", "spawn" or "forkserver" for the workers; default the system's.
    time_first : bool
        `signal` is a view of memory laid out as [window, time, channel]; see `WindowReader`.
    reader : str
        "indexed": any order, at any offset. "stream" (for datasets opened with it): every worker reads its shards from
        beginning to end and shuffles neighbouring windows; each window comes once and ranks take equally many batches,
        but the order depends on the number of ranks and workers, and so does the place where a checkpoint goes on.
    shuffle_over : int, optional
        For "stream": how many neighbouring windows are shuffled; default eight batches of a rank.

    Attributes
    ----------
    skipped : list of str
        Windows left out because their bytes were damaged (``on_corrupt="skip"``), one sentence each.
    n_skipped : int
        How many there were, and shards left out when the datasets were opened.
    """

    # Lightning asks validation loaders for it
    batch_sampler: None = None

    def __init__(
        self,
        datasets: Dataset | Sequence[Dataset],
        windows: Sequence[Window],
        *,
        batch_size: int,
        seed: int = 0,
        transforms: Transform | None = None,
        facts: Facts | None = None,
        streams: Sequence[str] = (),
        counts: bool = True,
        stimuli: Stimuli | None = None,
        rank: int = 0,
        world_size: int = 1,
        n_workers: int = 0,
        shuffle: bool = True,
        training: bool | None = None,
        last: str | None = None,
        weights: Sequence[float] | np.ndarray | None = None,
        preload: bool = False,
        start_method: str | None = None,
        time_first: bool = False,
        reader: str = "indexed",
        shuffle_over: int | None = None,
    ) -> None:
        if reader not in READERS:
            raise ConfigError(f"reader is '{reader}': {nearest(reader, READERS)}")
        if not windows:
            raise DataError("there are no windows to load; check the split and the task")
        if batch_size % world_size or not 0 <= rank < world_size:
            raise ConfigError(
                f"batch_size is {batch_size}; expected a multiple of the {world_size} ranks (rank {rank})"
            )
        members = [datasets] if isinstance(datasets, Dataset) else list(datasets)
        self.reader = WindowReader(
            members,
            windows,
            seed=seed,
            transform=transforms,
            facts=facts,
            training=shuffle if training is None else training,
            streams=streams,
            time_first=time_first,
            counts=counts,
            stimuli=stimuli,
        )
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self.shuffle = shuffle
        self.last = last or ("drop" if shuffle else "keep")
        self.skipped: list[str] = []
        self._left_out = sum(len(d.skipped) for d in members)
        self._streams, self._lanes = reader == "stream" and shuffle, max(1, n_workers)
        self._shuffle_over = 8 * batch_size // world_size if shuffle_over is None else shuffle_over
        if preload:
            for d in members:
                d.preload(r for r in self.reader.about if r in d.recordings and (counts or not d.is_events(r)))
        self._weights = None if weights is None else np.asarray(weights, np.float64)
        about = [self.reader.about[w.recording_id] for w in windows]
        self._groups = merge_small(
            [a.rate_hz for a in about],
            [len(a.channel_ids) for a in about],
            np.ones(len(windows)) if self._weights is None else self._weights,
            batch_size if self.last == "drop" else 1,
        )
        self._places = _numbered([self.reader.place(i) for i in range(len(windows))]) if self._streams else None
        self._windows_hash = windows_hash(windows)
        self._cursor = (0, 0)
        self._resumed = False
        self._made: tuple[int, np.ndarray] | None = None
        self._jobs = _Jobs()
        self._pids: list[int] = []
        self._torch = self._workers(n_workers, start_method)
        self._length = len(self.plan(0))
        if self._length == 0:
            raise ConfigError(
                f"batch_size is {batch_size}; there are {len(windows)} windows in {len(set(self._groups.tolist()))} groups of equal rate "
                "and channel count, none of them that large; lower it, or pass last=keep"
            )

    def _workers(self, n_workers: int, start_method: str | None) -> DataLoader | None:
        if n_workers == 0:
            return None
        return DataLoader(
            self.reader,
            batch_size=None,
            sampler=self._jobs,
            num_workers=n_workers,
            prefetch_factor=AHEAD,
            persistent_workers=True,
            multiprocessing_context=start_method,
            collate_fn=pack,
        )

    def __del__(self) -> None:
        forget(self.__dict__.get("_pids", ()))

    def plan(self, epoch: int) -> np.ndarray:
        """Return the global batches of an epoch, shape (batch, batch_size)."""
        if self._made is not None and self._made[0] == epoch:
            return self._made[1]
        if self._places is not None:
            made = plan_stream(
                self._places,
                seed=self.seed,
                epoch=epoch,
                batch_size=self.batch_size,
                world_size=self.world_size,
                n_workers=self._lanes,
                groups=self._groups,
                shuffle_over=self._shuffle_over,
                weights=self._weights,
            )
        else:
            made = plan_epoch(
                len(self.reader),
                seed=self.seed,
                epoch=epoch,
                batch_size=self.batch_size,
                shuffle=self.shuffle,
                last=self.last,
                groups=self._groups,
                weights=self._weights,
            )
        self._made = (epoch, made)
        return made

    @property
    def n_skipped(self) -> int:
        """Windows left out so far for damage, and shards left out at opening; for the metrics."""
        return self._left_out + len(self.skipped)

    def __len__(self) -> int:
        """Batches per epoch; the same in every epoch and on every rank."""
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; no effect when the cursor is already in it."""
        if self._here()[0] != epoch:
            self._cursor = (epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Cursor behind the last batch handed out; the same on every rank."""
        epoch, next_batch = self._cursor
        return {"epoch": epoch, "next_batch": next_batch, "plan_hash": plan_hash(self.plan(epoch), self._windows_hash)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a cursor, on any number of ranks and workers.

        Raises
        ------
        ConfigError
            When windows, order or global batch size are not those the cursor was made with.
        """
        epoch, next_batch = int(state["epoch"]), int(state["next_batch"])
        here = plan_hash(self.plan(epoch), self._windows_hash)
        if here != state["plan_hash"]:
            raise ConfigError(
                f"plan_hash is {state['plan_hash']} in the checkpoint and {here} here; resume with the same dataset, "
                f"split, window, seed and global batch size{', ranks and workers' if self._streams else ''}, or start a new run"
            )
        self._cursor, self._resumed = (epoch, next_batch), True

    def _here(self) -> tuple[int, int]:
        """Return the cursor, with the end of an epoch read as the start of the next."""
        epoch, next_batch = self._cursor
        return (epoch + 1, 0) if next_batch >= self._length else (epoch, next_batch)

    def _from_workers(self, loader: DataLoader) -> Iterator[Item]:
        batches = iter(loader)
        self._pids = [w.pid for w in batches._workers]  # type: ignore[attr-defined]
        return map(unpack, batches)

    def __iter__(self) -> Iterator[NeuralBatch]:
        epoch, begin = self._here()
        if not self.shuffle and not self._resumed:
            begin = 0
        self._cursor, self._resumed = (epoch, begin), False
        jobs: list[Job] = [
            (epoch, tuple(slice_of(batch, rank=self.rank, world_size=self.world_size).tolist()))
            for batch in self.plan(epoch)[begin:]
        ]
        self._jobs.jobs = jobs
        source = map(self.reader.__getitem__, jobs) if self._torch is None else self._from_workers(self._torch)
        for number, (batch, skipped) in enumerate(source, begin + 1):
            self.skipped += skipped
            # before the batch is handed out: whoever holds it may save the state that follows it
            self._cursor = (epoch, number)
            if batch is None:
                raise DataError(f"no window of a batch could be read: {skipped[0]}")
            mine = self.plan(epoch)[number - 1, self.rank :: self.world_size]
            batch.repeated = bool((mine == EMPTY).all())
            yield batch


def _numbered(places: Sequence[tuple[str, int]]) -> np.ndarray:
    """Tars by number, in the order of their names."""
    number = {tar: i for i, tar in enumerate(sorted({tar for tar, _ in places}))}
    return np.array([(number[tar], at) for tar, at in places], np.int64)
