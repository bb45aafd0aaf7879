"""Cut clips whose place on the recorder's clock is unknown, laid out one after the other."""

from __future__ import annotations

import math


def clip_starts(n_clips: int, length_s: float) -> tuple[float, ...]:
    """Return the starts of equally long clips, with a pause of one to two seconds between them."""
    step = math.ceil(length_s) + 1
    return tuple(float(i * step) for i in range(n_clips))
