"""How often each dataset comes in an epoch: by given shares, or by hours to a power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neurofm.schema.errors import ConfigError, nearest


def mixing_weights(
    datasets: Sequence[str],
    seconds: Sequence[float],
    *,
    shares: Mapping[str, float] | None = None,
    temperature: float | None = None,
) -> np.ndarray | None:
    """How often each window comes in an epoch, so that datasets take the wished shares of its hours.

    Parameters
    ----------
    datasets : sequence of str
        Id of the dataset of each window.
    seconds : sequence of float
        Length of each window.
    shares : mapping of id to float, optional
        Relative shares; they need not sum to 1.
    temperature : float, optional
        Shares are hours to this power: 1 = as many as there are, 0 = equal shares.

    Returns
    -------
    ndarray, shape (n_windows,), or None
        Mean 1 over the hours, so that an epoch keeps its length; None where nothing is asked for.

    Raises
    ------
    ConfigError
        When both are given, a dataset has no share or a share no dataset, or a number makes no sense.
    """
    if shares is None and temperature is None:
        return None
    if shares is not None and temperature is not None:
        raise ConfigError("data.shares and data.temperature are both given; choose one")
    held = np.asarray(datasets)
    hours = {d: float(np.asarray(seconds)[held == d].sum()) / 3600 for d in np.unique(held).tolist()}
    if shares is None:
        assert temperature is not None
        if temperature < 0:
            raise ConfigError(f"data.temperature is {temperature:g}; expected 0 (equal shares) to 1 (by hours) or more")
        shares = {d: h**temperature for d, h in hours.items()}
    for name in shares:
        if name not in hours:
            raise ConfigError(f"data.shares: there is no dataset '{name}' in this part: {nearest(name, hours)}")
    for name in hours:
        if not shares.get(name, -1) > 0:
            raise ConfigError(
                f"data.shares: dataset '{name}' needs a share above 0; to leave it out, leave it out of path"
            )
    total, whole = sum(hours.values()), sum(shares.values())
    times = {d: shares[d] / whole * total / hours[d] for d in hours}
    return np.array([times[d] for d in datasets])
