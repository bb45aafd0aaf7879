"""Reads pickles that hold numbers, and nothing else: some published datasets come in no other form.

A pickle is a program. This is a machine for the small part of its language that numpy arrays, dtypes, scalars and
plain containers need (instructions as in the standard library's ``pickletools``). It never imports, looks up or calls
what a file names: the few names it knows stand for constructions of its own, and arrays are built here from
their shape, type and bytes. Every other name or instruction is refused, saying what was asked for.

Large arrays are mapped, not loaded: their bytes stand in the file as they are in memory.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import re
import struct
from collections.abc import Callable, Collection
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
OPCODES = {op.code: op for op in pickletools.opcodes}
# instruction → struct format of the length of the bytes that follow
BULK = {"BINSTRING": "<i", "BINBYTES": "<I", "BINBYTES8": "<Q", "BYTEARRAY8": "<Q"}
MAPPED_BYTES = 1 << 20
MAX_DEPTH = 100
KEY_TYPES = (str, bytes, int, float, bool, type(None))
MARK = object()


@dataclass(frozen=True)
class _Name:
    """A known name in the file."""

    says: str


@dataclass(frozen=True)
class _Span:
    """Many bytes that stay in the file."""

    offset: int
    length: int


@dataclass(eq=False)
class _Dtype:
    """A dtype being built."""

    text: str
    order: str = "="

    def numpy(self) -> np.dtype:
        plain = self.text.lstrip("<>|=")
        return np.dtype(object) if plain[0] == "O" else np.dtype(self.order.replace("|", "") + plain)


@dataclass(eq=False)
class _Array:
    """An array being built: shape, type, order and bytes (or, for objects, a list) come later."""

    parts: tuple[Any, ...] | None = None


def load_pickle(path: Path, *, offset: int = 0, dicts: Collection[tuple[str, str]] = ()) -> Any:
    """Return what a pickle file holds.

    Parameters
    ----------
    path : Path
        The file; strings of Python 2 are taken as Latin-1.
    offset : int
        Where in the file the pickle starts.
    dicts : collection of (module, name)
        Dictionary classes of the data's authors; what the file makes of them is given as plain dictionaries.

    Raises
    ------
    DataError
        When it asks for anything but arrays, dtypes, scalars and plain containers, or is damaged.
    """
    try:
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            data.seek(offset)
            return _Machine(path, data, dicts).run()
    except (ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError, UnicodeError) as error:
        raise DataError(f"{path.name}: is not a whole pickle ({' '.join(str(error).split())[:200]})") from error


def load_npy(path: Path) -> Any:
    """Return the content of a .npy file: a mapped array, or, of an object array, what it holds.

    A bare pickle that only bears the suffix is read as what it is. An object array of no dimension gives its
    one object.

    Raises
    ------
    DataError
        As `load_pickle`.
    """
    with open(path, "rb") as f:
        if f.read(6) != b"\x93NUMPY":
            return load_pickle(path)
        f.seek(0)
        try:
            version = np.lib.format.read_magic(f)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read(f)
        except ValueError as error:
            raise DataError(f"{path.name}: is not a whole .npy file ({error})") from error
        start = f.tell()
    if not dtype.hasobject:
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise DataError(f"{path.name}: is not a whole .npy file ({error})") from error
    value = load_pickle(path, offset=start)
    return value.item() if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0 else value


class _Machine:
    """One run over one pickle."""

    def __init__(self, path: Path, data: mmap.mmap, dicts: Collection[tuple[str, str]] = ()) -> None:
        self.path, self.data = path, data
        self.known = {**KNOWN, **dict.fromkeys(dicts, "dict")}
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.done: dict[int, Any] = {}

    def refuse(self, what: str) -> DataError:
        return DataError(f"{self.path.name}: {what}; only numpy arrays and plain containers are read, nothing was run")

    def run(self) -> Any:
        """Carry out instructions to the end."""
        while True:
            code = self.data.read(1)
            if not code:
                raise ValueError("it ends early")
            op = OPCODES.get(code.decode("latin-1"))
            if op is None:
                raise ValueError(f"byte {code!r} is no instruction")
            if op.name in BULK:
                self.stack.append(self.bulk(op.name))
                continue
            # The readers of pickletools want a file; a map is one.
            argument = op.arg.reader(self.data) if op.arg is not None else None  # type: ignore[arg-type]
            if op.name == "STOP":
                (value,) = self.stack
                return self.plain(value, 0)
            self.step(op.name, argument)

    def bulk(self, name: str) -> Any:
        size = struct.calcsize(BULK[name])
        (n,) = struct.unpack(BULK[name], self.data.read(size))
        start = self.data.tell()
        if n < 0 or start + n > len(self.data):
            raise ValueError("it ends early")
        if n >= MAPPED_BYTES:
            self.data.seek(start + n)
            return _Span(start, n)
        raw = self.data.read(n)
        return raw.decode("latin-1") if name == "BINSTRING" else raw

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            return
        if name in CONSTANTS:
            stack.append(CONSTANTS[name]())
        elif name in LITERALS:
            stack.append(argument)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise ValueError(f"it refers to object {argument}, which it does not hold")
            stack.append(self.memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            if len(stack) < n:
                raise ValueError("a tuple lacks items")
            stack[-n:] = [tuple(stack[-n:])]
        elif name in ("TUPLE", "LIST", "DICT", "FROZENSET"):
            items = self.since_mark()
            make: dict[str, Callable[[list[Any]], Any]] = {"TUPLE": tuple, "LIST": list, "DICT": self.pairs}
            stack.append(make.get(name, self.members)(items))
        elif name in ("APPEND", "SETITEM"):
            n = 1 if name == "APPEND" else 2
            items = [stack.pop() for _ in range(n)][::-1]
            self.extend(stack[-1], items)
        elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
            items = self.since_mark()
            self.extend(stack[-1], items)
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.since_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "GLOBAL":
            stack.append(self.named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            what, module = stack.pop(), stack.pop()
            stack.append(self.named(module, what))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, called = stack.pop(), stack.pop()
            stack.append(self.construct(called, arguments))
        elif name == "BUILD":
            state = stack.pop()
            self.build(stack[-1], state)
        elif name == "INST":
            raise self.refuse(f"asks for '{argument.replace(' ', '.')}'")
        else:
            raise self.refuse(f"asks for the instruction {name}")

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while at >= 0 and self.stack[at] is not MARK:
            at -= 1
        if at < 0:
            raise ValueError("a mark is missing")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def pairs(self, items: list[Any]) -> dict[Any, Any]:
        if len(items) % 2:
            raise ValueError("a dictionary lacks a value")
        self.members(items[::2])
        return dict(zip(items[::2], items[1::2], strict=True))

    def members(self, items: list[Any]) -> frozenset[Any]:
        for key in items:
            if not isinstance(key, KEY_TYPES):
                raise self.refuse(f"holds a key of type {type(key).__name__.lstrip('_').lower()}")
        return frozenset(items)

    def extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, list):
            target += items
        elif isinstance(target, dict):
            target.update(self.pairs(items))
        elif isinstance(target, set):
            target |= self.members(items)
        else:
            raise self.refuse("adds items to what is no container")

    def named(self, module: Any, name: Any) -> _Name:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in self.known:
            raise self.refuse(f"asks for '{module}.{name}'")
        return _Name(self.known[module, name])

    def construct(self, called: Any, arguments: Any) -> Any:
        """Return what a call in the file stands for."""
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise self.refuse("calls what is no known name")
        match called.says, arguments:
            case "_reconstruct", (_Name(says="ndarray"), tuple(), _):
                return _Array()
            case "dtype", (str() as text, *_) if DTYPE.fullmatch(text):
                return _Dtype(text, text[0] if text[0] in "<>=" else "=")
            case "scalar", (_Dtype() as dtype, str() | bytes() as raw) if not dtype.numpy().hasobject:
                return self.array((), dtype, "C", raw)[()]
            case "_frombuffer", (raw, _Dtype() as dtype, tuple() as shape, "C" | "F" as order):
                return _Array((shape, dtype, order, raw))
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
            case _Array(), (int(), tuple() as shape, _Dtype() as dtype, fortran, raw):
                target.parts = (shape, dtype, "F" if fortran else "C", raw)
            case _Dtype(), (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_):
                target.order = order
            case dict(), dict() if len(self.known) > len(KNOWN):  # attributes of an author's dictionary
                target.update(state)
            case _Dtype(), _:
                raise self.refuse("asks for a dtype with fields")
            case _:
                raise self.refuse("sets the state of what is no array")

    def array(self, shape: tuple[Any, ...], like: _Dtype, order: str, raw: Any) -> np.ndarray:
        """Return an array of numbers or text from its bytes."""
        dtype = like.numpy()
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"an array has the shape {shape}")
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw
        have = raw.length if isinstance(raw, _Span) else len(raw)
        if have != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} and type {dtype} has {have} bytes")
        if isinstance(raw, _Span):
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
        match value:
            case dict():
                return {k: self.plain(v, depth) for k, v in value.items()}
            case list() | tuple():
                return type(value)([self.plain(v, depth) for v in value])
            case set() | frozenset():
                return type(value)(value)
            case _Dtype():
                return value.numpy()
            case _Span():
                return self.data[value.offset : value.offset + value.length]
            case _Array(parts=(shape, dtype, order, raw)):
                if not dtype.numpy().hasobject:
                    return self.array(shape, dtype, order, raw)
                if not isinstance(raw, list):
                    raise self.refuse("offers bytes as the objects of an array")
                flat = np.empty(len(raw), dtype=object)
                for i, v in enumerate(raw):
                    flat[i] = self.plain(v, depth)
                return flat.reshape(shape, order="F" if order == "F" else "C")
        raise self.refuse(f"holds a {value.says if isinstance(value, _Name) else type(value).__name__} as a value")


CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "MARK": lambda: MARK,
}  # fmt: skip
LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "SHORT_BINSTRING",
    "SHORT_BINBYTES", "UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE",
}  # fmt: skip
