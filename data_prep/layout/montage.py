"""Channel tables of caps whose files name no positions."""

from __future__ import annotations

from neurofm.schema.recording import Channel


def eeg_channels(montage: str) -> tuple[Channel, ...]:
    """Return the electrodes of one of mne's standard montages, in its order, in µV.

    Such caps number their electrodes, so the canonical name has the cap's name in front ("biosemi128:a1").
    """
    import mne

    places = mne.channels.make_standard_montage(montage).get_positions()["ch_pos"]
    return tuple(
        Channel(
            name=name,
            canonical=f"{montage}:{name}".lower(),
            kind="eeg",
            unit="uV",
            x=float(x),
            y=float(y),
            z=float(z),
            frame="head",
        )
        for name, (x, y, z) in places.items()
    )
