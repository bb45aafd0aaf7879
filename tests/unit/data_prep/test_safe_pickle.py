"""What a pickle may hold comes out as the standard library reads it; everything else is refused and nothing runs."""

from __future__ import annotations

import datetime
import io
import os
import pickle
import struct
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest

from data_prep.readers import pickle_machine
from data_prep.readers.safe_pickle import load_npy, load_pickle
from neurofm.schema.errors import DataError

VALUES = {
    "x": np.arange(24.0).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
    "big_endian": np.arange(5, dtype=">f4"),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "empty": np.zeros((0, 3)),
    "scalar": np.float32(2.5),
    "text": np.array(["ab", "c"]),
    "text_scalar": np.str_("Fp1"),
    "bytes": b"\x00\xff",
    "dtype": np.dtype("<f4"),
    "plain": [1, -3, 1 << 70, 2.5, None, True, "ä", ("a",), (1, 2, 3, 4), {"k": []}, {1, 2}, frozenset([3])],
}
TWICE = np.arange(3)
VALUES["twice"] = [TWICE, TWICE]


def same(a, b):
    assert type(a) is type(b) or isinstance(a, np.memmap)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for k in a:
            same(a[k], b[k])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert a.shape == b.shape
        same(list(a.ravel()), list(b.ravel()))
    elif isinstance(a, np.ndarray):
        # the library turns foreign byte orders into our own
        assert a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=")
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


@pytest.fixture
def put(tmp_path):
    def write(content: bytes):
        path = tmp_path / "x.pkl"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("protocol", range(6))
def test_values_are_as_the_library_reads_them(put, protocol):
    values = dict(VALUES)
    if protocol < 4:
        # sets are calls there
        values["plain"] = values["plain"][:-2]
    content = pickle.dumps(values, protocol=protocol)
    read = load_pickle(put(content))
    same(read, pickle.loads(content))
    assert read["twice"][0] is read["twice"][1]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_are_mapped(put, monkeypatch, protocol, order):
    monkeypatch.setattr(pickle_machine, "MAPPED_BYTES", 64)
    x = np.asarray(np.random.default_rng(0).standard_normal((7, 9, 3)), order=order)
    read = load_pickle(put(pickle.dumps({"a": x, "b": b"y" * 100}, protocol=protocol)))
    np.testing.assert_array_equal(read["a"], x)
    assert isinstance(read["a"], np.memmap) == (protocol > 2)
    assert read["b"] == b"y" * 100


def python2(x: np.ndarray, mangled: str = "") -> bytes:
    """A dictionary with one array as Python 2 wrote it: protocol 2, raw bytes in a text instruction."""
    raw = x.tobytes()
    return (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85q\x05"
        b"U\x01bq\x06\x87q\x07Rq\x08(K\x01" + b"".join(b"K" + bytes([n]) for n in x.shape) + b"\x86cnumpy\ndtype\nq\x09"
        b"U\x02f8K\x00K\x01\x87Rq\x0a(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<i", len(raw)) + raw + b"tbU\x06labelsq\x0b]q\x0cK\x05au."
    )  # fmt: skip


@pytest.mark.parametrize("mapped_bytes", [8, 1 << 20])
def test_python_2_pickle(put, monkeypatch, mapped_bytes):
    monkeypatch.setattr(pickle_machine, "MAPPED_BYTES", mapped_bytes)
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    content = python2(x)
    same(pickle.loads(content, encoding="latin1"), {"data": x, "labels": [5]})
    same(load_pickle(put(content)), {"data": x, "labels": [5]})


class Runs:
    """Says on loading that it ran."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def boom(*_):
    raise AssertionError("something was run")


def test_the_oracle_of_malice_works():
    with pytest.raises(AssertionError, match="was run"):
        pickle.loads(pickle.dumps(Runs(boom)))


MALICE = {
    "os.system": (Runs(os.system, "exit 1"), f"{os.name}.system"),
    "eval": (Runs(eval, "boom()"), "builtin"),
    "exec": (Runs(exec, "boom()"), "builtin"),
    "getattr": (Runs(getattr, "x", "upper"), "getattr"),
    "numpy.load": (Runs(np.load, "x"), "numpy.load"),
    "frompyfunc": (Runs(np.frompyfunc, len, 1, 1), "numpy"),
    "open": (Runs(open, "x", "w"), "open"),
    "import": (Runs(__import__, "os"), "__import__"),
    "partial": (partial(boom), "functools.partial"),
    "function as value": ({"a": [boom]}, "boom"),
    "class as value": ([OrderedDict], "collections.OrderedDict"),
    "known name as value": ([np.ndarray], "a ndarray as a value"),
    "date": (datetime.date(2000, 1, 1), "datetime.date"),
    "ordered": (OrderedDict(a=1), "collections.OrderedDict"),
    "array of callables": (np.array([boom, 1], dtype=object), "boom"),
    "array of malice": (np.array([{"a": Runs(os.system, "x")}], dtype=object), "system"),
    "subclass of array": (np.rec.array([(1,)], dtype=[("a", "i4")]), "numpy"),
    "fields": (np.zeros(2, dtype=[("a", "f8")]), "dtype"),
    "key": ({(1, 2): 3}, "key of type tuple"),
    "bytearray": (Runs(bytearray, b"x"), "bytearray"),
    "range": (range(3), "range"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", MALICE)
def test_malice_is_refused_by_name(put, name, protocol):
    value, said = MALICE[name]
    with pytest.raises(DataError, match="nothing was run") as error:
        load_pickle(put(pickle.dumps(value, protocol=protocol)))
    assert said in str(error.value) or "__builtin__" in str(error.value) or "copyreg" in str(error.value)


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
OBJECT = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR"
HAND_MADE = {
    "inst": b"(S'x'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'x'\no.",
    "newobj": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "newobj_ex": b"\x80\x04cnumpy\nndarray\n)}\x92.",
    "persistent id": b"Pboom\n.",
    "binary persistent id": b"Nq\x00Q.",
    "extension": b"\x80\x02\x82\x01.",
    "out of band": b"\x80\x05\x97.",
    # the name is put together on the stack, by way of the memo
    "name by memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93(S'x'\ntR.",
    "memo replaced": ARRAY + b"p0\n0cos\nsystem\np0\n0g0\n(tR.",
    "module with attribute path": b"\x80\x04\x8c\x05numpy\x8c\x0elib.npyio.NpzF\x93.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
    "name that is no text": b"\x80\x04K\x01K\x02\x93.",
    "calls a result": b"(dS'x'\n\x85R.",
    "calls an array": ARRAY + b"(tR.",
    "subclass": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
    "state of a name": b"cnumpy\nndarray\n}S'x'\nI1\nsb.",
    "state of a list": b"]}b.",
    "slot state": b"cnumpy\ndtype\n(N}S'__defaults__'\nNstb.",
    "encode as code": b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    "bytes of a size": b"cbuiltins\nbytes\n(I9999999999\ntR.",
    # raw bytes as object pointers would be followed by the interpreter
    "pointers": ARRAY + b"(I1\n(I1\nt" + OBJECT + b"I00\nS'AAAAAAAA'\ntb.",
    "object scalar": b"cnumpy.core.multiarray\nscalar\n(" + OBJECT + b"S'AAAAAAAA'\ntR.",
    "metadata": b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I4\nS'<'\nN(S'a'\nt}I-1\nI-1\nI0\ntb.",
    "holds itself": b"]p0\ng0\na.",
    "array holds itself": ARRAY + b"p0\n(I1\n(I1\nt" + OBJECT + b"I00\n(lg0\natb.",
    "deep": b"]" * 500 + b"a" * 499 + b".",
    "array never built": ARRAY + b".",
}  # fmt: skip


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_malice_is_refused(put, name):
    with pytest.raises(DataError, match=r"nothing was run|is not a whole pickle"):
        load_pickle(put(HAND_MADE[name]))


@pytest.mark.parametrize(
    "content",
    [
        b"", b".", b"\x80\x04", b"(.", b"t.", b"\x80\x04h\x07.", b"a.", b"R.", b"\xff.", b"K", b"s.", b"K\x01K\x02.",
        b"\x80\x04B\xff\xff\xff\xff.", b"\x80\x04\x8e" + b"\xff" * 8 + b".", b"T\xff\xff\xff\xff.", b"}(K\x01u.",
        ARRAY + b"(I1\n(I-1\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntRI00\nS'AAAAAAAA'\ntb.",
        ARRAY + b"(I1\n(I9\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntRI00\nS'AAAAAAAA'\ntb.",
        ARRAY + b"(I1\n(I1\ntcnumpy\ndtype\n(S'f7'\nI0\nI1\ntRI00\nS'AAAAAAAA'\ntb.",
        ARRAY + b"(I1\n(S'a'\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntRI00\nS'AAAAAAAA'\ntb.",
        b"L" + b"9" * 5000 + b"L\n.",
    ],
)  # fmt: skip
def test_damage_is_told(put, content):
    with pytest.raises(DataError, match=r"x.pkl: "):
        load_pickle(put(content))


def test_every_cut_of_a_file_is_an_error(put):
    content = pickle.dumps({"a": np.arange(4.0), "b": ["x", np.int8(1)]}, protocol=4)
    for n in range(len(content)):
        with pytest.raises(DataError):
            load_pickle(put(content[:n]))


def test_every_changed_byte_is_harmless(put):
    """What is no error is still only numbers and containers."""
    content = pickle.dumps({"a": np.arange(4.0), "b": ["x", np.int8(1)]}, protocol=2)
    for n in range(len(content)):
        for change in (1, 0x40, 0x80):
            changed = bytearray(content)
            changed[n] ^= change
            try:
                value = load_pickle(put(bytes(changed)))
            except DataError:
                continue
            assert type(value) in (dict, int, float, str, bytes, list, tuple, type(None), bool, np.ndarray)


def test_laughter_of_a_billion_is_cheap(put):
    content = b"]p0\n" + b"".join(b"0(g%d\ng%d\nlp%d\n" % (i, i, i + 1) for i in range(60)) + b"."
    value = load_pickle(put(content))
    for _ in range(60):
        assert len(value) == 2
        assert value[0] is value[1]
        value = value[0]


def npy(x) -> bytes:
    f = io.BytesIO()
    np.save(f, x)
    return f.getvalue()


def test_npy_of_an_object_is_that_object(put):
    value = {"raw_eeg_data": np.ones((2, 5)), "ch_names": ["Fp1", "stim"], "sfreq": 1000}
    same(load_npy(put(npy(np.array(value, dtype=object)))), value)
    same(load_npy(put(pickle.dumps(value, protocol=4))), value)
    objects = np.array(["a", None, {"b": 1}, 2.5], dtype=object).reshape(2, 2)
    same(load_npy(put(npy(objects))), objects)
    np.testing.assert_array_equal(load_npy(put(npy(np.eye(3)))), np.eye(3))


def test_npy_with_malice_is_refused(put):
    with pytest.raises(DataError, match=r"asks for '\w+\.system'"):
        load_npy(put(npy(np.array({"a": Runs(os.system, "x")}, dtype=object))))
    with pytest.raises(DataError, match=r"not a whole \.npy"):
        load_npy(put(npy(np.eye(30))[:500]))
    with pytest.raises(DataError, match="not a whole"):
        load_npy(put(b"\x93NUMPY\x01\x00\xff\xff{'descr'"))
