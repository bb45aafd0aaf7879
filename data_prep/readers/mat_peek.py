"""How large a field of a struct in a MATLAB file is, found without reading the file.

MAT-files of level 5 are nested elements of type, size and content (MathWorks, "MAT-File Format"): what is not asked
for is stepped over. Compressed ones are decompressed on the way, a piece at a time.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

from neurofm.schema.errors import DataError, nearest

COMPRESSED, MATRIX, STRUCT = 15, 14, 2
HEADER = 128
PIECE = 1 << 16

Take = Callable[[int], bytes]


def field_shape(path: Path, variable: str, field: str) -> tuple[int, ...]:
    """Return the dimensions of ``variable.field``.

    Raises
    ------
    DataError
        When there is no such struct or field, or the file is damaged.
    """
    try:
        with open(path, "rb") as f:
            order = {b"IM": "<", b"MI": ">"}.get(f.read(HEADER)[126:], "")
            if not order:
                raise DataError(f"{path.name}: is not a MATLAB file of version 5 to 7")
            while head := f.read(8):
                kind, size = struct.unpack(order + "II", head)
                end = f.tell() + size
                take = _inflating(f) if kind == COMPRESSED else f.read
                if kind == COMPRESSED:
                    kind, _ = struct.unpack(order + "II", take(8))
                if kind == MATRIX:
                    shape = _in_struct(take, order, variable, field, path.name)
                    if shape is not None:
                        return shape
                f.seek(end)
    except (struct.error, zlib.error, IndexError) as error:
        raise DataError(f"{path.name}: is not a whole MATLAB file ({error})") from error
    raise DataError(f"{path.name}: has no variable '{variable}'")


def _inflating(f: BufferedReader) -> Take:
    inflate, waiting = zlib.decompressobj(), bytearray()

    def take(n: int) -> bytes:
        while len(waiting) < n and (piece := f.read(PIECE)):
            waiting.extend(inflate.decompress(piece))
        out = bytes(waiting[:n])
        del waiting[:n]
        return out

    return take


def _element(take: Take, order: str) -> bytes:
    """Return the content of the next element; up to four bytes stand in the tag itself."""
    tag = take(8)
    (kind,) = struct.unpack(order + "I", tag[:4])
    if kind >> 16:
        return tag[4 : 4 + (kind >> 16)]
    (size,) = struct.unpack(order + "I", tag[4:])
    return take(size + -size % 8)[:size]


def _numbers(raw: bytes, order: str) -> tuple[int, ...]:
    return struct.unpack(f"{order}{len(raw) // 4}i", raw)


def _in_struct(take: Take, order: str, variable: str, field: str, file: str) -> tuple[int, ...] | None:
    """Return the dimensions of a field of the struct that follows, None when it is another variable."""
    flags = _numbers(_element(take, order), order)
    _element(take, order)  # dimensions
    if _element(take, order).decode("latin-1") != variable:
        return None
    if flags[0] & 0xFF != STRUCT:
        raise DataError(f"{file}: variable '{variable}' is no struct")
    (length,) = _numbers(_element(take, order), order)
    raw = _element(take, order)
    names = [raw[i : i + length].split(b"\0")[0].decode("latin-1") for i in range(0, len(raw), length)]
    if field not in names:
        raise DataError(f"{file}: '{variable}' has no field '{field}': {nearest(field, names)}")
    for name in names:
        _, size = struct.unpack(order + "II", take(8))
        if name == field:
            _element(take, order)  # flags
            return _numbers(_element(take, order), order)
        for a in range(0, size, PIECE):
            take(min(PIECE, size - a))
    return None
