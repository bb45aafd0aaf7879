"""A stream of the lab streaming layer, as blocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep.live import Block
from data_prep.readers.array_recording import KINDS, UNITS
from data_prep.stages.base import SignalInfo
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel

PREFIX = "lsl:"
# a stream that sends nothing for so long has ended
SILENCE_S = 5.0
BUFFER_S = 10.0


def lsl_blocks(name: str, *, block_s: float, modality: str, wait_s: float = 10.0) -> tuple[SignalInfo, Iterator[Block]]:
    """Connect to a stream by name; return what it sends, and its blocks until it falls silent.

    Parameters
    ----------
    name : str
        Of the stream; "" takes the only one there is.
    block_s : float
        Least signal per block.
    modality : str
        Decides kind and unit of channels that the stream says nothing of.
    wait_s : float
        How long to look for it.

    Raises
    ------
    ConfigError
        When mne-lsl is not installed.
    DataError
        When there is no such stream.
    """
    try:
        from mne_lsl.stream import StreamLSL
    except ImportError as error:
        raise ConfigError(
            "decode from a live stream needs mne-lsl; install it with: pip install 'neurofm[live]'"
        ) from error
    if modality not in KINDS:
        raise ConfigError(f"modality '{modality}' is unknown; expected one of {', '.join(KINDS)}")
    stream = StreamLSL(bufsize=BUFFER_S, name=name or None)
    try:
        stream.connect(acquisition_delay=min(block_s, 0.05), timeout=wait_s)
    except (RuntimeError, ValueError, TimeoutError) as error:
        raise DataError(
            f"lsl: no stream named '{name}' within {wait_s:g} s ({error}); start the device first"
        ) from error
    rate = float(stream.info["sfreq"])
    # as mne takes it: volts or tesla, whatever the device calls them
    stored, factor = UNITS[{"meg": "T", "eeg": "V", "ieeg": "V"}.get(modality, "au")]
    channels = tuple(Channel(name=str(n), kind=KINDS[modality], unit=stored) for n in stream.ch_names)
    return SignalInfo(rate_hz=rate, channels=channels), _blocks(stream, max(1, round(block_s * rate)), rate, factor)


def _blocks(stream: Any, size: int, rate_hz: float, factor: float) -> Iterator[Block]:
    begins, heard = True, time.monotonic()
    try:
        while time.monotonic() - heard < SILENCE_S:
            n_new = int(stream.n_new_samples)
            if n_new < size:
                time.sleep(0.001)
                continue
            values, _ = stream.get_data(winsize=n_new / rate_hz)
            yield Block(np.asarray(values, np.float64).T * factor, 0, 0.0, begins)
            # what the decoder took for its answer is no silence of the device
            begins, heard = False, time.monotonic()
    finally:
        stream.disconnect()
