"""The errors a user reads: one sentence that names the file, the field and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NeurofmError(Exception):
    """An error whose message is meant for the user; the command line prints it without a traceback."""


class DataError(NeurofmError):
    """A recording, shard or table that is not what it should be."""


class ConfigError(NeurofmError):
    """A choice of the user that cannot be carried out."""


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Say which known names are closest to `name`, as the end of a sentence.

    Parameters
    ----------
    name : str
        What the user wrote.
    known : iterable of str
        What would have been valid.
    n : int
        At most this many suggestions.

    Returns
    -------
    str
        ``did you mean 'a' or 'b'?``, or the list of valid names when none is close.
    """
    options = sorted({str(k) for k in known})
    if not options:
        return "there are none to choose from"
    close = difflib.get_close_matches(name, options, n=n, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    shown = ", ".join(options[:20]) + (", …" if len(options) > 20 else "")
    return f"valid names are: {shown}"
