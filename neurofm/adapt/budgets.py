"""Budgets in a unit that people count in, written into the split they are taken from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neurofm.schema.errors import ConfigError, nearest

# unit → what a calibration of that size is called in a figure
UNITS = {
    "seconds": "seconds of the new person",
    "minutes": "minutes of the new person",
    "volumes": "volumes of the new person",
    "trials_per_class": "trials per class of the new person",
}
_SECONDS = {"seconds": 1.0, "minutes": 60.0}
_BY_TIME = ("new_subject", "by_subject", "within_subject")
_BY_TRIAL = "new_subject_trials"


def with_budgets(
    data: Mapping[str, Any], budgets: Sequence[float | str], unit: str, *, rate_hz: float
) -> dict[str, Any]:
    """Return the choices of `conf/data` with these calibration budgets in the place of the split's own.

    Everything else of the split stays: the same person, the same test part.

    Parameters
    ----------
    data : mapping
        As in `conf/data`.
    budgets : sequence of float
        In `unit`; each becomes the part ``calibration-<budget>``.
    unit : str
        "seconds", "minutes", "volumes" (samples at `rate_hz`) or "trials_per_class".
    rate_hz : float
        Of the data.

    Raises
    ------
    ConfigError
        When the unit is unknown, a budget is not a number above 0, or the split's rule cannot count in it.
    """
    if unit not in UNITS:
        raise ConfigError(f"budget_unit='{unit}' is unknown: {nearest(unit, UNITS)}")
    numbers = [_number(b) for b in budgets]
    split = data.get("split")
    rule = split.get("rule") if isinstance(split, Mapping) else "a file"
    wanted = (_BY_TRIAL,) if unit == "trials_per_class" else _BY_TIME
    if not isinstance(split, Mapping) or rule not in wanted:
        raise ConfigError(
            f"budget_unit={unit} needs data.split.rule={' or '.join(wanted)}, the split of data '{data.get('id', '')}' is "
            f"{rule}"
        )
    if unit == "trials_per_class":
        if any(b != int(b) for b in numbers):
            raise ConfigError(f"budgets={list(budgets)}: trials per class are whole numbers")
        return {**data, "split": {**split, "budgets": [int(b) for b in numbers]}}
    factor = _SECONDS.get(unit, 1.0 / rate_hz)
    return {**data, "split": {**split, "budgets_s": {f"{b:g}": b * factor for b in numbers}}}


def _number(budget: float | str) -> float:
    try:
        value = float(budget)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ConfigError(f"budgets: '{budget}' is not a number above 0; with a budget_unit they are amounts")
    return value
