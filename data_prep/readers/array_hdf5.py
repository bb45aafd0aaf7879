"""Numbers by name from HDF5 files, and from MAT 7.3 files, which are HDF5; read part by part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.array_files import ArrayFile, Values
from neurofm.schema.errors import ConfigError, DataError


class Hdf5File(ArrayFile):
    """An HDF5 file, also MAT 7.3; opened for each read, so that no handle travels with a recording."""

    def __init__(self, path: Path, *, matlab: bool) -> None:
        super().__init__(path)
        self.matlab = matlab

    def keys(self) -> list[str]:
        """Names to choose from."""
        import h5py

        found: list[str] = []

        def note(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset) and not name.startswith("#"):
                found.append(name)

        with self._open() as f:
            f.visititems(note)
        return found

    def signal(self, key: str) -> Values:
        """Return the values under `key`."""
        with self._open() as f:
            node = self._find(f, key)
            if node is None:
                raise self.missing(key)
            shape, dtype = tuple(node.shape), node.dtype
            if dtype.kind not in "biuf" or self._is_text(node):
                raise DataError(f"'{key}' is {self._words(node)}, expected an array of real numbers")

        def read(index: tuple[int | slice, ...]) -> np.ndarray:
            with self._open() as f:
                return np.asarray(f[key][index])

        def read_turned(index: tuple[int | slice, ...]) -> np.ndarray:
            # MATLAB writes its axes in the opposite order
            return read(tuple(reversed(index))).T

        if self.matlab:
            return Values(shape=shape[::-1], dtype=dtype, read=read_turned)
        return Values(shape=shape, dtype=dtype, read=read)

    def small(self, key: str) -> np.ndarray | None:
        """Return a flat array of numbers or texts; None when missing."""
        import h5py

        with self._open() as f:
            node = self._find(f, key)
            if node is None:
                return None
            if self._is_text(node):
                return np.array(_matlab_texts(node))
            if h5py.check_string_dtype(node.dtype) is not None:
                return np.array([str(t) for t in np.atleast_1d(node.asstr()[...]).ravel()])
            if h5py.check_ref_dtype(node.dtype) is not None:
                cells = [f[ref] for ref in np.asarray(node[...]).ravel()]
                return np.array([self._cell(c, key) for c in cells])
            if node.dtype.kind not in "biuf":
                raise DataError(f"'{key}' is {self._words(node)}, expected numbers or texts")
            return np.atleast_1d(node[...]).ravel()

    def _cell(self, node: Any, key: str) -> Any:
        import h5py

        if not isinstance(node, h5py.Dataset):
            raise DataError(f"'{key}': a cell holds a struct, expected one text")
        if self._is_text(node):
            return (_matlab_texts(node) or [""])[0]
        if node.size != 1 or node.dtype.kind not in "biuf":
            raise DataError(f"'{key}': a cell holds {self._words(node)} of {node.size} values, expected one text")
        return np.asarray(node[...]).ravel()[0]

    def _open(self) -> Any:
        try:
            import h5py
        except ImportError as error:
            raise ConfigError("reading HDF5 needs h5py: pip install 'neurofm[spikes]'") from error
        try:
            return h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(f"is not a readable HDF5 file ({' '.join(str(error).split())})") from error

    def _find(self, f: Any, key: str) -> Any:
        """Return the dataset under `key` without leaving the file; None when there is none."""
        import h5py

        at = f
        for name in key.split("/"):
            if not isinstance(at, h5py.Group) or name not in at:
                return None
            if isinstance(at.get(name, getlink=True), h5py.ExternalLink):
                raise DataError(f"'{key}' is a link into another file and is not followed; copy the values")
            at = at[name]
        if not isinstance(at, h5py.Dataset):
            raise DataError(f"'{key}' is a group ({_some(at) or 'empty'}), expected an array: write its path with '/'")
        if at.external:
            raise DataError(f"'{key}' keeps its values in another file and is not followed; copy the values")
        return at

    def _is_text(self, node: Any) -> bool:
        return self.matlab and bytes(node.attrs.get("MATLAB_class", b"")) == b"char"

    def _words(self, node: Any) -> str:
        kind = bytes(node.attrs.get("MATLAB_class", b"")).decode("ascii", "replace") if self.matlab else ""
        if kind == "cell":
            return "a cell array (of objects)"
        return f"of the MATLAB class '{kind}'" if kind else f"of the HDF5 type {node.dtype}"


def _matlab_texts(node: Any) -> list[str]:
    """Return the rows of a MATLAB char matrix (stored turned, as UTF-16 codes)."""
    if "MATLAB_empty" in node.attrs:
        return []
    codes = np.atleast_2d(np.asarray(node[...]).T)
    return ["".join(chr(int(c)) for c in row).rstrip() for row in codes]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (" …" if len(listed) > 8 else "")
