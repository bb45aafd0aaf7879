"""DREAMER: 23 people, 18 film clips, a 14-electrode headset (Katsigiannis & Ramzan 2018, IEEE JBHI 22).

Everything stands in one MAT file, a struct of structs; the signals are (time, channel).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.ratings import rated
from data_prep.layout.tree import folder, found, tree_item
from data_prep.layout.trials import covariate, named_channels, trial_starts
from data_prep.readers.mat import is_hdf5, load_once, stamp_of
from data_prep.readers.mat_peek import field_shape
from data_prep.readers.mat_struct import cells, field, numbers
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording, Stream

EEG = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
ECG = ("ECG1", "ECG2")
RATINGS = {"valence": "ScoreValence", "arousal": "ScoreArousal", "dominance": "ScoreDominance"}
EEG_HZ, ECG_HZ = 128.0, 256.0
MIDDLE = 3.0


class Dreamer(Source):
    """One recording per person, numbered from 1 as in the file; one valid interval per clip.

    Parameters
    ----------
    root : path
        Folder with DREAMER.mat.
    rating : str
        "valence", "arousal" or "dominance": the value (1 to 5) of the clips' events (kind "clip"); their label is
        "high" above 3. All three ratings are there as events of their own kind, without a label.
    baseline : bool
        Whether the minute of neutral film before each clip is an interval too, with an event of kind "baseline".
    """

    name = "dreamer"
    id = "dreamer"
    licence = "academic use on request, no redistribution"
    citation = (
        "Katsigiannis & Ramzan 2018, DREAMER: a database for emotion recognition through EEG and ECG signals "
        "from wireless low-cost off-the-shelf devices, IEEE Journal of Biomedical and Health Informatics 22"
    )
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path, rating: str = "valence", baseline: bool = False) -> None:
        if rating not in RATINGS:
            raise ConfigError(f"source 'dreamer': rating '{rating}' is unknown: {nearest(rating, RATINGS)}")
        self.root, self.rating, self.baseline = Path(root), rating, baseline

    def describe(self) -> dict[str, Any]:
        """Return name and choices."""
        return {**super().describe(), "rating": self.rating, "baseline": self.baseline}

    def list(self) -> list[Item]:
        """Return one item per person."""
        root = folder(self.root, "DREAMER")
        files = found(root, "**/DREAMER.mat")
        if not files:
            raise DataError(f"{root}: has no DREAMER.mat")
        if is_hdf5(files[0]):
            raise DataError("DREAMER.mat: is a MATLAB file of version 7.3, expected version 5 to 7")
        n_people = int(np.prod(field_shape(files[0], "DREAMER", "Data")))
        return [
            tree_item(root, files[0], load, i, self.rating, self.baseline, subject=str(i + 1), part=f"{i + 1:02d}")
            for i in range(n_people)
        ]


def load(root: Path, name: str, person: int, rating: str, baseline: bool) -> Recording:
    """Read one person.

    Raises
    ------
    DataError
        When the structs are not those of DREAMER.
    """
    path = root / name
    where = f"{path.name}: person {person + 1}"
    entry = cells(field(load_once(path, "DREAMER", stamp_of(path)), "Data", path.name))[person]
    signals = {}
    for kind, width in (("EEG", len(EEG)), ("ECG", len(ECG))):
        whole = field(entry, kind, where)
        for phase in ("baseline", "stimuli"):
            trials = [np.asarray(x) for x in cells(field(whole, phase, f"{where}, {kind}"))]
            for x in trials:
                if x.ndim != 2 or x.shape[1] != width:
                    raise DataError(f"{where}: {kind}.{phase} has shape {x.shape}, expected (time, {width})")
            signals[kind, phase] = trials
    scores = {scale: numbers(field(entry, name, where)) for scale, name in RATINGS.items()}
    n = len(signals["EEG", "stimuli"])
    if {*map(len, signals.values()), *map(len, scores.values())} != {n}:
        raise DataError(
            f"{where}: has {n} clips, {len(scores[rating])} ratings and {len(signals['ECG', 'stimuli'])} ECGs"
        )
    order = [(phase, i) for i in range(n) for phase in (("baseline", "stimuli") if baseline else ("stimuli",))]
    eeg = [signals["EEG", phase][i] for phase, i in order]
    ecg = [signals["ECG", phase][i] for phase, i in order]
    lengths = tuple(len(x) for x in eeg)
    starts = trial_starts(lengths, EEG_HZ)
    events = []
    for t, length, (phase, i) in zip(starts, lengths, order, strict=True):
        if phase == "baseline":
            events.append(Event(onset_s=t, duration_s=length / EEG_HZ, kind="baseline", label="baseline", trial=i))
        else:
            said = {scale: values[i] for scale, values in scores.items()}
            events += rated(t, length / EEG_HZ, said, scale=rating, middle=MIDDLE, stimulus=i + 1, trial=i)
    return Recording(
        dataset="dreamer",
        subject=str(person + 1),
        modality="eeg",
        streams=(
            Stream.from_arrays(eeg, rate_hz=EEG_HZ, channels=named_channels(EEG), unit="uV"),
            covariate(
                named_channels(ECG, kind="ecg", unit="au"),
                rate_hz=ECG_HZ,
                n_samples=[len(x) for x in ecg],
                read=lambda i, start, stop: ecg[i][start:stop],
            ),
        ),
        interval_start_s=starts,
        events=tuple(events),
        source_file=name,
        source_sha256=sha256_file(path),
    )
