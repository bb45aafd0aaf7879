"""Voxels to parcels: the mean of the good channels of each region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_prep.stages.base import SignalInfo, Stage
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel


class Parcels(Stage):
    """Replace the channels of every region by their mean; channels without a region, and bad ones, go.

    A parcel stands at the mean position of its channels.

    Parameters
    ----------
    min_channels : int
        Regions with fewer good channels are left out.
    """

    def __init__(self, *, min_channels: int = 1) -> None:
        if min_channels < 1:
            raise ConfigError(f"stage 'parcels': min_channels is {min_channels}; expected 1 or more")
        self.min_channels = min_channels

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; return the regions in the order of their first channels.

        Raises
        ------
        DataError
            When no region is left.
        """
        members: dict[str, list[int]] = {}
        for i, c in enumerate(info.channels):
            if c.region and not c.bad:
                members.setdefault(c.region, []).append(i)
        self._members = {r: m for r, m in members.items() if len(m) >= self.min_channels}
        if not self._members:
            raise DataError(
                f"stage 'parcels': none of {len(info.channels)} channels has a region with {self.min_channels} good "
                "channels; give the source an atlas beside its mask"
            )
        return replace(
            info, channels=tuple(_parcel(r, [info.channels[i] for i in m]) for r, m in self._members.items())
        )

    def push(self, block: np.ndarray) -> np.ndarray:
        """Average a block."""
        return np.stack([block[:, m].mean(axis=1, dtype=np.float64) for m in self._members.values()], axis=1)


def _parcel(region: str, members: list[Channel]) -> Channel:
    x, y, z = np.mean([(c.x, c.y, c.z) for c in members], axis=0).tolist()
    frames = {c.frame for c in members}
    first = members[0]
    return Channel(
        name=region, kind=first.kind, unit=first.unit, x=x, y=y, z=z, frame=frames.pop() if len(frames) == 1 else "",
        region=region, reference=first.reference,
    )  # fmt: skip
