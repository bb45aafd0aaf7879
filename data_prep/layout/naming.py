"""Who and what a file is, taken from its path by a pattern like ``{subject}/ses-{session}/*_run-{run}.edf``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from neurofm.schema.errors import ConfigError, DataError, nearest

FIELDS = ("subject", "session", "task", "run")
PART = re.compile(r"(\{[^}]*\}|\*\*/?|\*)")


def compile_pattern(pattern: str, *, subject: bool = True) -> re.Pattern[str]:
    """Return a regular expression for a path pattern.

    ``{field}`` takes what stands there up to the next ``/``, ``_`` or the text that follows; ``*`` takes anything
    but ``/``, ``**`` anything. `subject` says whether it must have that field.

    Raises
    ------
    ConfigError
        When a field is unknown or occurs twice, or there is no subject.
    """
    parts = PART.split(pattern)
    names = [p[1:-1] for p in parts if p.startswith("{")]
    for i, name in enumerate(names):
        if name not in FIELDS:
            raise ConfigError(f"pattern '{pattern}': field '{name}' is unknown: {nearest(name, FIELDS)}")
        if name in names[:i]:
            raise ConfigError(f"pattern '{pattern}': field '{name}' occurs twice")
    if subject and "subject" not in names:
        raise ConfigError(f"pattern '{pattern}' has no {{subject}}; say where in the path it stands")
    return re.compile(_expression(parts))


def _expression(parts: Iterable[str]) -> str:
    """Return the regular expression of a pattern's parts."""
    out = []
    for part in parts:
        if part.startswith("{"):
            out.append(f"(?P<{part[1:-1]}>[^/_]+?)")
        elif part.startswith("**"):
            out.append(".*")
        else:
            out.append("[^/]*" if part == "*" else re.escape(part))
    return "".join(out)


def misfit(path: str, pattern: str) -> str:
    """Say up to where a path fits a pattern that it does not fit."""
    return f"path '{path}' does not fit source.pattern '{pattern}': it {_how_far(path, pattern)}"


def require_fit(root: object, glob: str, pattern: str | None, paths: Iterable[str]) -> None:
    """Check that some path fits the pattern.

    Raises
    ------
    DataError
        When none does; it names the one that fits longest.
    """
    paths = list(paths)
    if pattern is None or not paths or any(re.fullmatch(_expression(PART.split(pattern)), p) for p in paths):
        return
    best = max(paths, key=lambda p: _fitting(p, pattern))
    raise DataError(
        f"{root}: of {len(paths)} files that fit source.glob '{glob}' none fits source.pattern '{pattern}'; the nearest "
        f"is '{best}', which {_how_far(best, pattern)}"
    )


def _how_far(path: str, pattern: str) -> str:
    parts, n = [p for p in PART.split(pattern) if p], _fitting(path, pattern)
    if n == 0:
        return f"does not begin with '{parts[0]}'"
    begun, rest = "".join(parts[:n]), "".join(parts[n:])
    return f"fits '{begun}' and " + (f"then has no '{rest}'" if rest else "goes on after it")


def _fitting(path: str, pattern: str) -> int:
    """Return how many parts of a pattern a path fits from its beginning on."""
    parts = [p for p in PART.split(pattern) if p]
    return next((n for n in range(len(parts), 0, -1) if re.match(_expression(parts[:n]), path)), 0)


def entities(path: str, pattern: re.Pattern[str] | None) -> dict[str, str] | None:
    """Return subject, session, task and run of a relative path; None when the pattern does not fit.

    Without a pattern the file's name, less its suffix, is the subject.
    """
    if pattern is None:
        return {"subject": PurePosixPath(path).name.split(".")[0]}
    found = pattern.fullmatch(path)
    return None if found is None else found.groupdict()
