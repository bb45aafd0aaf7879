"""HDF5 files opened with whatever compression filters are installed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from neurofm.schema.errors import ConfigError, DataError

if TYPE_CHECKING:
    import h5py


def open_hdf5(path: Path) -> h5py.File:
    """Open for reading; the caller closes it (``with``).

    Raises
    ------
    DataError
        When it is missing or no HDF5 file.
    ConfigError
        When the package h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("HDF5 files need the package h5py: pip install h5py") from error

    # Registers lz4, blosc and the like with the HDF5 library, where it is installed.
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path.name}: is missing, cut short or no readable HDF5 file ({error})") from error
