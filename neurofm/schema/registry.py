"""Short names for models, objectives, sources and strategies.

A registry maps a short name to an import path, so nothing is imported before it is asked for, a renamed
class breaks no checkpoint, and a downloaded file can import nothing: only names listed here are resolved,
unless the caller (who holds a local YAML) allows import paths.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from neurofm.schema.errors import ConfigError, nearest


class Registry:
    """Names of one kind of thing and where each is defined.

    Parameters
    ----------
    kind : str
        What is registered, in the singular ("model"); used in error messages.
    entries : mapping of str to str
        Short name → ``package.module:attribute``.
    base : str, optional
        Import path of the class that all of them inherit from; a user's own must as well.
    """

    def __init__(self, kind: str, entries: Mapping[str, str], *, base: str | None = None) -> None:
        self.kind, self.base = kind, base
        self._entries = dict(entries)

    def names(self) -> list[str]:
        """All short names, sorted."""
        return sorted(self._entries)

    def get(self, name: str, *, allow_import: bool = False) -> Any:
        """Return the class or function called `name`.

        Parameters
        ----------
        name : str
            A short name, or ``package.module:attribute`` when `allow_import`.
        allow_import : bool
            True only for names that come from the user's own YAML or Python, never for those read from a
            checkpoint or a dataset.

        Raises
        ------
        ConfigError
            When the name is unknown; the message names the nearest valid ones. When a user's own class is none of the
            registry's kind.
        """
        path = self._entries.get(name)
        if path is None and ":" in name:
            if not allow_import:
                raise ConfigError(
                    f"{self.kind} '{name}' is an import path; a saved file may only use registered names: "
                    f"{nearest(name, self._entries)} (pass allow_import=True for code of your own)"
                )
            path = name
        if path is None:
            raise ConfigError(f"unknown {self.kind} '{name}': {nearest(name, self._entries)}")
        try:
            found = _imported(path)
        except (ImportError, AttributeError) as error:
            if path == name:
                raise ConfigError(f"{self.kind} '{name}' cannot be imported: {error}") from error
            raise
        if path == name and self.base and not (inspect.isclass(found) and issubclass(found, _imported(self.base))):
            raise ConfigError(
                f"{self.kind} '{name}' is no subclass of {self.base.replace(':', '.')}; let it inherit from it"
            )
        return found

    def build(self, name: str, /, *facts: Any, allow_import: bool = False, **choices: Any) -> Any:
        """Call the entry with the user's `choices` as keywords, after its positional `facts`.

        Raises
        ------
        ConfigError
            When a choice is not an argument of the entry; the message names the nearest one.
        """
        factory = self.get(name, allow_import=allow_import)
        parameters = inspect.signature(factory).parameters
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        keywords = [p.name for p in parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        for key in choices:
            if not takes_any and key not in keywords:
                raise ConfigError(f"{self.kind} '{name}' has no argument '{key}': {nearest(key, keywords)}")
        return factory(*facts, **choices)


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
