"""Ten passages of a real audiobook with ten SIMULATED electrodes that answer to them.

From the naplib 2.6.0 wheel (MIT): 644 s of speech at 11,025 Hz with transcript, a 128-band auditory spectrogram, and
responses at 100 Hz that the package made from spectro-temporal receptive fields and noise. No brain was recorded.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.fetch import fetch_wheel, verified_sha256
from data_prep.sources.base import Item, Source
from neurofm.schema.embeddings import EMBEDDINGS, write_embeddings
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

PIN = ("naplib", "2.6.0", "c61deebe618e94052714352786fd5bbc58d13becbfcc7a19eb40aaf00c7a308b")
FILE = "naplib/io/sample_data/demo_data.mat"
N_TRIALS, RATE_HZ = 10, 100.0


class NaplibSpeech(Source):
    """One recording per passage; the sound is stored beside the shards, its spectrogram as embedding "auditory128"."""

    name = "naplib_speech"
    id = "naplib_speech"
    licence = "package MIT; terms of the audiobook are not stated"
    citation = "naplib 2.6.0 (Mischler, Raghavan, Keshishian & Mesgarani 2023, naplib-python); responses are simulated"
    modalities = ("ieeg",)

    def stimuli(self, folder: Path) -> list[dict[str, Any]]:
        """Write the passages as WAV files and their spectrograms as embeddings."""
        from scipy.io import wavfile

        sounds = [(read(i, "sound").ravel(), float(read(i, "soundf").item())) for i in range(N_TRIALS)]
        peak = max(np.abs(x).max() for x, _ in sounds)
        rows = []
        (folder / "files").mkdir(parents=True)
        for i, (x, rate) in enumerate(sounds):
            name = f"files/passage-{i + 1:02d}.wav"
            wavfile.write(folder / name, round(rate), np.round(x / peak * 32767).astype(np.int16))
            text = "".join(chr(c) for c in read(i, "script").ravel())
            rows.append(
                {
                    "stimulus_id": stimulus_id(i), "concept": "", "kind": "audio", "file": name,
                    "sha256": sha256_file(folder / name), "caption": " ".join(text.split()),
                }
            )  # fmt: skip
        write_embeddings(
            folder / EMBEDDINGS / "auditory128.safetensors", [stimulus_id(i) for i in range(N_TRIALS)],
            (time_first(read(i, "aud"), 128) for i in range(N_TRIALS)), encoder="auditory128",
            layer="auditory spectrogram of the package", pooling="frames", hash=hash_of(list(PIN)), rate_hz=RATE_HZ,
        )  # fmt: skip
        return rows

    def list(self) -> list[Item]:
        """Return one item per passage."""
        key = verified_sha256(_folder(), FILE)
        return [
            Item(
                key=f"sub-sim_run-{i + 1:02d}", fingerprint=hash_of([self.describe(), key, i]), open=partial(load, i),
                subject="sim", source_file=FILE,
            )
            for i in range(N_TRIALS)
        ]  # fmt: skip


def stimulus_id(i: int) -> str:
    """Name of a passage."""
    return f"passage-{i + 1:02d}"


def load(i: int) -> Recording:
    """Read the responses to one passage."""
    values = time_first(read(i, "resp"), 10)
    n = min(len(values), len(time_first(read(i, "aud"), 128)))
    channels = tuple(
        Channel(name=f"sim{c:02d}", canonical=f"naplib:{c:02d}", kind="ecog", unit="au") for c in range(values.shape[1])
    )
    heard = Event(onset_s=0.0, duration_s=n / RATE_HZ, kind="speech", stimulus_id=stimulus_id(i), trial=i)
    return Recording(
        dataset="naplib_speech", subject="sim", run=f"{i + 1:02d}", modality="ieeg",
        streams=(Stream.from_arrays([values[:n]], rate_hz=RATE_HZ, channels=channels),), events=(heard,),
        source_file=FILE, source_sha256=verified_sha256(_folder(), FILE),
    )  # fmt: skip


def read(i: int, field: str) -> np.ndarray:
    """Return one field of one passage as stored.

    Raises
    ------
    DataError
        When the file lacks it.
    """
    import h5py

    with h5py.File(_folder() / FILE) as f:
        try:
            return np.asarray(f[f["out"][field][i, 0]][()])
        except (KeyError, ValueError, IndexError) as error:
            raise DataError(f"{FILE}: has no field '{field}' of passage {i + 1} ({error})") from error


def time_first(x: np.ndarray, width: int) -> np.ndarray:
    """Return an array as (time, width), however it is stored."""
    if width not in x.shape or x.ndim != 2:
        raise DataError(f"{FILE}: an array has shape {x.shape}, expected {width} columns")
    return np.ascontiguousarray(x if x.shape[1] == width else x.T, dtype=np.float64)


def _folder() -> Path:
    return fetch_wheel(*PIN, members=(FILE,))
