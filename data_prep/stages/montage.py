"""Scalp electrodes: names of the 10-05 system, and its template positions where none were measured."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from data_prep.readers.from_mne import canonical_name
from data_prep.stages.base import SignalInfo, Stage
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.recording import Channel

# Names of the 10-20 system that the 10-10 system replaced (American Clinical Neurophysiology Society, guideline 2).
RENAMED = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"}
# mne 1.13 calls its templates by the head they were computed on.
NEW_TEMPLATES = {"standard_1005": "colin27_1005", "standard_1020": "colin27_1020"}


class Montage(Stage):
    """Give every EEG channel its canonical name and, where it has no coordinates, the template's.

    The canonical name is that of the 10-05 system in lower case, old names replaced: ``"EEG T3-REF"`` → ``"t7"``.
    Template positions are those of mne's ``standard_1005``, in metres in the head frame, as ``Raw.set_montage`` sets
    them. Measured positions stay. The signal is not touched.

    Parameters
    ----------
    unknown : str
        What becomes of an EEG channel whose name is not in the system: "keep" as it is, or "bad".
    template : str
        A montage that mne knows, whose names and positions are used.
    """

    def __init__(self, *, unknown: str = "keep", template: str = "standard_1005") -> None:
        if unknown not in ("keep", "bad"):
            raise ConfigError(f"stage 'montage': unknown is '{unknown}'; expected keep or bad")
        self.unknown, self.template = unknown, template

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; name and place the channels.

        Raises
        ------
        DataError
            When two channels are the same electrode.
        """
        places = positions(self.template)
        out: list[Channel] = []
        taken: dict[str, str] = {}
        for c in info.channels:
            if c.kind != "eeg":
                out.append(c)
                continue
            name = electrode(c.canonical or c.name)
            if name not in places:
                bad = self.unknown == "bad" and not c.bad
                out.append(replace(c, bad=True, reason=f"is no electrode of {self.template}") if bad else c)
                continue
            if name in taken:
                raise DataError(f"channels '{taken[name]}' and '{c.name}' are both electrode {name}; leave one out")
            taken[name] = c.name
            x, y, z = places[name]
            known = np.isfinite([c.x, c.y, c.z]).all()
            c = replace(c, canonical=name)
            out.append(c if known else replace(c, x=x, y=y, z=z, frame="head"))
        return replace(info, channels=tuple(out))


def electrode(name: str) -> str:
    """Return the canonical name of an electrode."""
    name = canonical_name(name)
    return RENAMED.get(name, name)


@lru_cache(maxsize=4)
def positions(template: str) -> dict[str, tuple[float, float, float]]:
    """Return canonical name → position in metres in the head frame.

    Raises
    ------
    ConfigError
        When mne knows no such montage.
    """
    import mne

    known = mne.channels.get_builtin_montages()
    if template not in known:
        template = NEW_TEMPLATES.get(template, template)
    if template not in known:
        raise ConfigError(f"stage 'montage': template '{template}' is unknown: {nearest(template, known)}")
    montage = mne.channels.make_standard_montage(template)
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    found: dict[str, tuple[float, float, float]] = {}
    for ch in info["chs"]:
        x, y, z = (float(v) for v in ch["loc"][:3])
        # The template lists old names too, as aliases of the new ones.
        found.setdefault(electrode(ch["ch_name"]), (x, y, z))
    return found
