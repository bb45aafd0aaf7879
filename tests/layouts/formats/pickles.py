"""Pickles as the published sets hold them (Python 2 with numpy 1; Python 3 with numpy 1), and hostile ones."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


def python2_pickle(arrays: Mapping[str, np.ndarray], extra: bytes = b"") -> bytes:
    """Return the protocol-2 pickle that Python 2 makes of a dict of arrays.

    Its texts are byte strings (opcodes U and T), so reading it needs ``encoding="latin1"``.

    Parameters
    ----------
    extra : bytes
        Opcodes of one more key and value; `hostile` gives some.
    """
    body = b"".join(_text2(k) + _array2(np.ascontiguousarray(v)) for k, v in arrays.items())
    return b"\x80\x02}(" + body + extra + b"u."


def _text2(text: str | bytes) -> bytes:
    raw = text.encode("latin1") if isinstance(text, str) else text
    return (b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))) + raw


def _int(i: int) -> bytes:
    return b"K" + bytes([i]) if i < 256 else b"M" + struct.pack("<H", i) if i < 65536 else b"J" + struct.pack("<i", i)


def _array2(a: np.ndarray) -> bytes:
    made = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + _int(0) + b"\x85" + _text2("b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + _text2(a.dtype.str[1:]) + _int(0) + _int(1) + b"\x87R"
    minus1 = b"J" + struct.pack("<i", -1)
    dtype += b"(" + _int(3) + _text2("<") + b"NNN" + minus1 + minus1 + _int(0) + b"tb"
    shape = b"(" + b"".join(_int(n) for n in a.shape) + b"t"
    return made + b"(" + _int(1) + shape + dtype + b"\x89" + _text2(a.tobytes()) + b"tb"


def hostile(module: str, name: str, argument: str) -> bytes:
    """Return opcodes of the key ``"note"`` and of a value that calls a function when read."""
    return _text2("note") + f"c{module}\n{name}\n".encode() + _text2(argument) + b"\x85R"


class Numpy1Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Names numpy's inner module as numpy 1 did, whatever numpy runs here."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Write a global."""
        module = str(getattr(obj, "__module__", ""))
        if not module.startswith("numpy._core"):
            return super().save_global(obj, name)
        module, name = "numpy.core" + module.removeprefix("numpy._core"), name or obj.__qualname__
        if self.proto >= 4:
            self.save(module)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(obj)

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]
    dispatch[type(python2_pickle)] = save_global


def numpy1_pickle(value: Any, protocol: int = 4) -> bytes:
    """Return the pickle of a value holding arrays."""
    file = io.BytesIO()
    Numpy1Pickler(file, protocol=protocol).dump(value)
    return file.getvalue()


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Return what to call."""
        return self.function, self.arguments


def put_object_npy(path: Path, value: Any) -> None:
    """Write what ``np.save`` of numpy 1 writes of a dict: a 0-d object array, its data a pickle of protocol 3."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(numpy1_pickle(np.array(value, dtype=object), 3))
