"""What a pickle may hold: the few constructions that its names stand for, and arrays made of their shape, type, bytes."""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.errors import DataError

CORES = ("numpy.core", "numpy._core")
# module and name in the file → which construction of ours it stands for
KNOWN = {
    **{(f"{core}.multiarray", name): name for core in CORES for name in ("_reconstruct", "scalar")},
    **{(f"{core}.numeric", "_frombuffer"): "_frombuffer" for core in CORES},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytes"): "bytes",
}
DTYPE = re.compile(r"[<>|=]?([biufc]\d{1,2}|[US]\d{1,6}|O\d?)")
MAX_DEPTH = 100
MARK = object()


@dataclass(frozen=True)
class Name:
    """A known name in the file."""

    says: str


@dataclass(frozen=True)
class Span:
    """Many bytes that stay in the file."""

    offset: int
    length: int


@dataclass(eq=False)
class Dtype:
    """A dtype being built."""

    text: str
    order: str = "="

    def numpy(self) -> np.dtype:
        """Return the dtype as it stands."""
        plain = self.text.lstrip("<>|=")
        return np.dtype(object) if plain[0] == "O" else np.dtype(self.order.replace("|", "") + plain)


@dataclass(eq=False)
class Array:
    """An array being built: shape, type, order and bytes (or, for objects, a list) come later."""

    parts: tuple[Any, ...] | None = None


class Builder:
    """Makes what one pickle describes, and nothing that is not known.

    Parameters
    ----------
    path, data : Path, mmap
        The file; large arrays stay in it.
    dicts : collection of (module, name)
        See `safe_pickle.load_pickle`.
    """

    def __init__(self, path: Path, data: mmap.mmap, dicts: Collection[tuple[str, str]] = ()) -> None:
        self.path, self.data = path, data
        self.known = {**KNOWN, **dict.fromkeys(dicts, "dict")}
        self.done: dict[int, Any] = {}

    def refuse(self, what: str) -> DataError:
        """Return the error that says what was asked for."""
        return DataError(f"{self.path.name}: {what}; only numpy arrays and plain containers are read, nothing was run")

    def named(self, module: Any, name: Any) -> Name:
        """Return what a name in the file stands for."""
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in self.known:
            raise self.refuse(f"asks for '{module}.{name}'")
        return Name(self.known[module, name])

    def construct(self, called: Any, arguments: Any) -> Any:
        """Return what a call in the file stands for."""
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise self.refuse("calls what is no known name")
        match called.says, arguments:
            case "_reconstruct", (Name(says="ndarray"), tuple(), _):
                return Array()
            case "dtype", (str() as text, *_) if DTYPE.fullmatch(text):
                return Dtype(text, text[0] if text[0] in "<>=" else "=")
            case "scalar", (Dtype() as dtype, str() | bytes() as raw) if not dtype.numpy().hasobject:
                return self.array((), dtype, "C", raw)[()]
            case "_frombuffer", (raw, Dtype() as dtype, tuple() as shape, "C" | "F" as order):
                return Array((shape, dtype, order, raw))
            case "encode", (str() as text, "latin1" | "latin-1"):
                return text.encode("latin-1")
            case "bytes", ():
                return b""
            case "dict", ():
                return {}
        raise self.refuse(f"calls '{called.says}' with unexpected arguments")

    def build(self, target: Any, state: Any) -> None:
        """Give an array or dtype its content."""
        match target, state:
            case Array(), (int(), tuple() as shape, Dtype() as dtype, fortran, raw):
                target.parts = (shape, dtype, "F" if fortran else "C", raw)
            case Dtype(), (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_):
                target.order = order
            case dict(), dict() if len(self.known) > len(KNOWN):  # attributes of an author's dictionary
                target.update(state)
            case Dtype(), _:
                raise self.refuse("asks for a dtype with fields")
            case _:
                raise self.refuse("sets the state of what is no array")

    def array(self, shape: tuple[Any, ...], like: Dtype, order: str, raw: Any) -> np.ndarray:
        """Return an array of numbers or text from its bytes."""
        dtype = like.numpy()
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"an array has the shape {shape}")
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw
        have = raw.length if isinstance(raw, Span) else len(raw)
        if have != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} and type {dtype} has {have} bytes")
        if isinstance(raw, Span):
            flat: np.ndarray = np.memmap(self.path, dtype=dtype, mode="r", offset=raw.offset, shape=(math.prod(shape),))
            return flat.reshape(shape, order="F" if order == "F" else "C")
        return np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")

    def plain(self, value: Any, depth: int) -> Any:
        """Return a value with the arrays in place, each object once however often it is referred to."""
        if value is None or isinstance(value, (str, bytes, bool, int, float, np.generic)):
            return value
        key = id(value)
        if key in self.done:
            if self.done[key] is MARK:
                raise self.refuse("holds itself")
            return self.done[key]
        if depth > MAX_DEPTH:
            raise self.refuse(f"is nested more than {MAX_DEPTH} deep")
        self.done[key] = MARK
        self.done[key] = self.settled(value, depth + 1)
        return self.done[key]

    def settled(self, value: Any, depth: int) -> Any:
        """Return what a stand-in or a container stands for."""
        match value:
            case dict():
                return {k: self.plain(v, depth) for k, v in value.items()}
            case list() | tuple():
                return type(value)([self.plain(v, depth) for v in value])
            case set() | frozenset():
                return type(value)(value)
            case Dtype():
                return value.numpy()
            case Span():
                return self.data[value.offset : value.offset + value.length]
            case Array(parts=(shape, dtype, order, raw)):
                if not dtype.numpy().hasobject:
                    return self.array(shape, dtype, order, raw)
                if not isinstance(raw, list):
                    raise self.refuse("offers bytes as the objects of an array")
                flat = np.empty(len(raw), dtype=object)
                for i, v in enumerate(raw):
                    flat[i] = self.plain(v, depth)
                return flat.reshape(shape, order="F" if order == "F" else "C")
        raise self.refuse(f"holds a {value.says if isinstance(value, Name) else type(value).__name__} as a value")
