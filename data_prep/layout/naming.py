"""Who and what a file is, taken from its path by a pattern like ``{subject}/ses-{session}/*_run-{run}.edf``."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from neurofm.schema.errors import ConfigError, nearest

FIELDS = ("subject", "session", "task", "run")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a regular expression for a path pattern.

    ``{field}`` takes what stands there up to the next ``/``, ``_`` or the text that follows; ``*`` takes anything
    but ``/``, ``**`` anything.

    Raises
    ------
    ConfigError
        When a field is unknown or occurs twice.
    """
    parts = re.split(r"(\{[^}]*\}|\*\*/?|\*)", pattern)
    out, seen = [], set()
    for part in parts:
        if part.startswith("{"):
            name = part[1:-1]
            if name not in FIELDS:
                raise ConfigError(f"pattern '{pattern}': field '{name}' is unknown: {nearest(name, FIELDS)}")
            if name in seen:
                raise ConfigError(f"pattern '{pattern}': field '{name}' occurs twice")
            seen.add(name)
            out.append(f"(?P<{name}>[^/_]+?)")
        elif part.startswith("**"):
            out.append(".*")
        elif part == "*":
            out.append("[^/]*")
        else:
            out.append(re.escape(part))
    return re.compile("".join(out))


def entities(path: str, pattern: re.Pattern[str] | None) -> dict[str, str] | None:
    """Return subject, session, task and run of a relative path; None when the pattern does not fit.

    Without a pattern the file's name, less its suffix, is the subject.
    """
    if pattern is None:
        return {"subject": PurePosixPath(path).name.split(".")[0]}
    found = pattern.fullmatch(path)
    return None if found is None else found.groupdict()
