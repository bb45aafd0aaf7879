"""neurofm: foundation models of neural recordings, from raw files to an honest report.

>>> import neurofm
>>> m = neurofm.load("runs/.../model")          # doctest: +SKIP
>>> z = m.embed(raw)                            # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from neurofm.api import load


def __getattr__(name: str) -> Any:
    # torch and mne take seconds to import; they are paid for by the first call, not by `import neurofm`
    if name == "load":
        from neurofm.api import load

        return load
    raise AttributeError(f"module 'neurofm' has no attribute '{name}'")
