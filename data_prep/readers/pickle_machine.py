"""The instructions of a pickle, carried out one by one on a stack; what they make is `pickle_values`'s business."""

from __future__ import annotations

import mmap
import pickletools
import struct
from collections.abc import Callable
from typing import Any

from data_prep.readers.pickle_values import MARK, Builder, Span

OPCODES = {op.code: op for op in pickletools.opcodes}
# instruction → struct format of the length of the bytes that follow
BULK = {"BINSTRING": "<i", "BINBYTES": "<I", "BINBYTES8": "<Q", "BYTEARRAY8": "<Q"}
MAPPED_BYTES = 1 << 20
KEY_TYPES = (str, bytes, int, float, bool, type(None))
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "MARK": lambda: MARK,
}  # fmt: skip
LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "SHORT_BINSTRING",
    "SHORT_BINBYTES", "UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE",
}  # fmt: skip


class Machine:
    """One run over one pickle.

    Parameters
    ----------
    data : mmap
        The file, at the pickle's start.
    builder : Builder
        Makes what the instructions ask for.
    """

    def __init__(self, data: mmap.mmap, builder: Builder) -> None:
        self.data, self.builder = data, builder
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

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
                return self.builder.plain(value, 0)
            self.step(op.name, argument)

    def bulk(self, name: str) -> Any:
        """Read the many bytes of one instruction, or where they are."""
        size = struct.calcsize(BULK[name])
        (n,) = struct.unpack(BULK[name], self.data.read(size))
        start = self.data.tell()
        if n < 0 or start + n > len(self.data):
            raise ValueError("it ends early")
        if n >= MAPPED_BYTES:
            self.data.seek(start + n)
            return Span(start, n)
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
            stack.append(self.builder.named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            what, module = stack.pop(), stack.pop()
            stack.append(self.builder.named(module, what))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, called = stack.pop(), stack.pop()
            stack.append(self.builder.construct(called, arguments))
        elif name == "BUILD":
            state = stack.pop()
            self.builder.build(stack[-1], state)
        elif name == "INST":
            raise self.builder.refuse(f"asks for '{argument.replace(' ', '.')}'")
        else:
            raise self.builder.refuse(f"asks for the instruction {name}")

    def since_mark(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        at = len(self.stack) - 1
        while at >= 0 and self.stack[at] is not MARK:
            at -= 1
        if at < 0:
            raise ValueError("a mark is missing")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def pairs(self, items: list[Any]) -> dict[Any, Any]:
        """Return a dictionary of keys and values in turn."""
        if len(items) % 2:
            raise ValueError("a dictionary lacks a value")
        self.members(items[::2])
        return dict(zip(items[::2], items[1::2], strict=True))

    def members(self, items: list[Any]) -> frozenset[Any]:
        """Return what may be keys of a dictionary, or members of a set."""
        for key in items:
            if not isinstance(key, KEY_TYPES):
                raise self.builder.refuse(f"holds a key of type {type(key).__name__.lstrip('_').lower()}")
        return frozenset(items)

    def extend(self, target: Any, items: list[Any]) -> None:
        """Add items to a container."""
        if isinstance(target, list):
            target += items
        elif isinstance(target, dict):
            target.update(self.pairs(items))
        elif isinstance(target, set):
            target |= self.members(items)
        else:
            raise self.builder.refuse("adds items to what is no container")
