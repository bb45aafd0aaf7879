"""Labels from a file's tables that may be kept: codes and numbers, not sentences about people."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_prep.readers.from_mne import CODE


def code_of(value: Any) -> str:
    """Return a cell as a short label: numbers without superfluous digits, text that looks like a code, else ""."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, float, np.integer, np.floating)):
        return "" if not np.isfinite(value) else f"{value:.12g}"
    text = str(value).strip() if isinstance(value, str) else ""
    return text if CODE.fullmatch(text) else ""
