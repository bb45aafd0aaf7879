"""An mne Epochs object as a Recording: one valid interval per epoch, with its event."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.privacy import is_code
from data_prep.readers.from_mne import COVARIATE, SIGNAL, recording_from_raw
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Event, Recording, Stream

FACTORS = {kind: factor for kind, (_, factor) in {**SIGNAL, **COVARIATE}.items()}

if TYPE_CHECKING:
    from mne import BaseEpochs


def recording_from_epochs(epochs: BaseEpochs, *, dataset: str, subject: str, modality: str, **rest: Any) -> Recording:
    """Return Epochs as a recording.

    Epochs may overlap on the recorder's clock; here they follow each other with at least a second between. The
    event of an epoch lies at its time zero (at its start, if zero is not in it), with the name of its event code.

    Parameters
    ----------
    epochs : mne.BaseEpochs
        Read epoch by epoch where it was not loaded.
    dataset, subject, modality, **rest
        See `from_mne.recording_from_raw`.

    Raises
    ------
    DataError
        When there is no epoch or no signal channel.
    """
    from mne.io import RawArray

    epochs.drop_bad(verbose="error")
    if not len(epochs):
        raise DataError("holds no epoch; all were dropped")
    n = len(epochs.times)
    # channel kinds, units and positions are told by the same code as for continuous files
    template = RawArray(np.zeros((len(epochs.ch_names), n)), epochs.info.copy(), verbose="error")
    joined = recording_from_raw(template, dataset=dataset, subject=subject, modality=modality, **rest)
    columns = {name: i for i, name in enumerate(epochs.ch_names)}
    streams = []
    for stream in joined.streams:
        assert isinstance(stream, Stream)  # mne knows no other kind
        picks = [columns[c.name] for c in stream.channels]
        kinds = epochs.get_channel_types()
        scale = np.array([FACTORS[kinds[i]] for i in picks])

        def read(
            interval: int, start: int, stop: int, picks: list[int] = picks, scale: np.ndarray = scale
        ) -> np.ndarray:
            # item= reads this epoch alone from the file
            (one,) = epochs.get_data(picks=picks, item=slice(interval, interval + 1), copy=True, verbose="error")
            return one[:, start:stop].T * scale

        streams.append(replace(stream, n_samples=(n,) * len(epochs), read=read))
    rate = joined.signal.rate_hz
    step = float(np.ceil(n / rate) + 1)
    starts = tuple(i * step for i in range(len(epochs)))
    return replace(joined, streams=tuple(streams), interval_start_s=starts, events=_events(epochs, starts, n / rate))


def _events(epochs: BaseEpochs, starts: tuple[float, ...], length_s: float) -> tuple[Event, ...]:
    names = {code: name for name, code in epochs.event_id.items()}
    zero = -float(epochs.tmin) if epochs.tmin <= 0 <= epochs.tmax else 0.0
    events = []
    for i, (start, code) in enumerate(zip(starts, epochs.events[:, 2], strict=True)):
        name = names.get(code, str(code))
        # a name that is a sentence may tell of a person
        label = name if is_code(name) else str(code)
        events.append(Event(onset_s=start + zero, duration_s=length_s - zero, kind="trial", label=label, trial=i))
    return tuple(events)
