"""Pickles: what Python's own machine reads of plain data, and that nothing in a hostile one is run."""

from __future__ import annotations

import collections
import io
import os
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.common.pickle_machine import run_pickle
from tfplaces.common.plain_pickle import NumpyNames, read_pickle

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner, inner, inner),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, 5))
def test_plain_data_of_any_protocol(value: Any, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol), "a") == value


@given(
    st.sampled_from(["i8", ">i4", "u1", "f4", "f8", "b1", "U3", "S2"]),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 5),
)
def test_arrays_of_any_protocol(kind: str, shape: list[int], fortran: bool, protocol: int) -> None:
    array = np.arange(np.prod(shape)).astype(kind).reshape(shape, order="F" if fortran else "C")
    read = read_pickle(pickle.dumps(array, protocol), "a")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_arrays(protocol: int) -> None:
    rows = np.empty(3, object)
    rows[:] = [np.arange(2), np.empty(0, np.int64), [5, 6]]
    value = collections.OrderedDict(rows=rows, scalar=np.float32(2.5), twice=[rows, rows])
    read = read_pickle(pickle.dumps(value, protocol), "a")
    assert [list(row) for row in read["rows"]] == [[0, 1], [], [5, 6]]
    assert read["scalar"] == np.float32(2.5)
    assert read["twice"][0] is read["twice"][1]


class Caller:
    """Pickles to a call of whatever it is given."""

    def __init__(self, *call: Any):
        self._call = call

    def __reduce__(self) -> Any:
        return self._call


CALLED: list[str] = []


def call(text: str) -> None:
    CALLED.append(text)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        Caller(call, ("x",)),
        [1, {"a": Caller(os.system, ("touch /tmp/x",))}],
        Caller(eval, ("1",)),
        Caller(np.load, ("x",)),
        Caller(getattr, ("x", "upper")),
        {1, 2},
        complex(1, 2),
        np.datetime64("2020-01-01"),
        np.zeros(2, [("a", "i4")]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_is_called(value: Any, protocol: int) -> None:
    with pytest.raises(UserError, match=r"\Aa: [^\n]+\Z"):
        read_pickle(pickle.dumps(value, protocol), "a")
    assert CALLED == []


def test_the_name_of_what_it_would_call_is_said() -> None:
    with pytest.raises(UserError, match=r"it would import (posix|nt)\.system"):
        read_pickle(pickle.dumps(Caller(os.system, ("true",))), "a")


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
INT64 = b"cnumpy\ndtype\nX\x02\x00\x00\x00i8\x89\x88\x87R"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",  # a text of 2 ** 63 bytes
        b"]r\xff\xff\xff\x7f0.",  # a memo of 2 ** 31 entries, which Python's machine would allocate
        b"]q\x00h\x00a.",  # a list that holds itself
        b"(" * 100_000 + b"t" * 99_999 + b".",
        b"]" + b"(]" * 1000 + b"e" * 1000 + b".",
        b"\x80\x02" + RECONSTRUCT + b"(K\x01J\xff\xff\xff\x7f\x85" + INT64 + b"\x89C\x01xtb.",  # 16 GB announced
        b"\x80\x02" + RECONSTRUCT + b"(K\x01J\xff\xff\xff\xff\x85" + INT64 + b"\x89C\x01xtb.",  # a side of -1
        b"\x80\x02" + RECONSTRUCT + b".",
        b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00U0\x85R.",
        b"\x80\x02cnumpy\ndtype\n.",
        b"K\x01K\x02b.",
        b"K\x01K\x02e.",
        b"K\x01\x87.",
        b"}]K\x01s.",
        b"h\x07.",
        b"I" + b"9" * 5000 + b"\n.",
    ],
)
def test_damage_is_one_line(data: bytes) -> None:
    with pytest.raises(UserError, match=r"\Aa: [^\n]+\Z"):
        read_pickle(data, "a")


@settings(max_examples=500)
@given(st.data())
def test_damaged_bytes_are_refused_or_change_a_value(data: st.DataObject) -> None:
    rows = np.empty(2, object)
    rows[:] = [np.arange(2), np.arange(1)]
    whole = bytearray(pickle.dumps({"rows": rows, "a": ["b", 1.5]}, data.draw(st.sampled_from([2, 4, 5]))))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_pickle(bytes(whole), "a")
    except UserError as error:
        assert "\n" not in str(error)


def test_instructions_and_bytes_are_bounded() -> None:
    data = b"]0" * 1000 + b"N."
    with pytest.raises(UserError, match="more than 100 instructions"):
        run_pickle(io.BytesIO(data), "a", NumpyNames(0), max_bytes=10_000, max_instructions=100)
    with pytest.raises(UserError, match="more than 100 bytes"):
        run_pickle(io.BytesIO(data), "a", NumpyNames(0), max_bytes=100)


# A list of lists of lists ..., each ten times the one before: 10 ** 30 members for who writes it out.
LAUGHS = b"]q\x00K\x01a0" + b"".join(
    b"(" + b"h%c" % k * 10 + b"lq%c0" % (k + 1) for k in range(30)
) + b"h\x1e"  # fmt: skip
INSIDE_EVERYTHING = b"".join(b"\x85" for _ in range(500_000))


@pytest.mark.parametrize(
    "data",
    [
        LAUGHS + LAUGHS + b"\x93.",  # as a name
        b"cnumpy\ndtype\n" + LAUGHS + b"\x85R.",  # as a type
        b"c_codecs\nencode\n" + LAUGHS + b"X\x06\x00\x00\x00latin1\x86R.",
        b"c_codecs\nencode\nK\x01" + LAUGHS + b"\x86R.",
        b"\x8f(N" + INSIDE_EVERYTHING + b"\x90.",  # a set of a tuple of a tuple ...
        b"}N" + INSIDE_EVERYTHING + b"K\x01s.",
        RECONSTRUCT + b"(K\x01" + b"\x8b\x80\x00\x00\x00" + b"\xff" * 127 + b"\x7f\x85" + INT64 + b"\x89C\x01xtb.",
    ],
)
def test_what_grows_when_it_is_written_out_or_hashed(data: bytes) -> None:
    with pytest.raises(UserError, match=r"\Aa: [^\n]+\Z"):
        read_pickle(b"\x80\x04" + data, "a")


def test_one_text_made_bytes_a_thousand_times() -> None:
    text = b"X\x00\x01\x00\x00" + b"a" * 256 + b"q\x000X\x06\x00\x00\x00latin1q\x010"
    with pytest.raises(UserError, match="more bytes than it has"):
        read_pickle(b"]" + text + b"c_codecs\nencode\nq\x020" + b"h\x02h\x00h\x01\x86Ra" * 1000 + b".", "a")


@pytest.mark.parametrize("key", [2**61 - 1, -(2**61 - 1), 10**40])
def test_keys_that_would_collide(key: int) -> None:
    """Python's hash of n * (2 ** 61 - 1) is 0 for every n."""
    with pytest.raises(UserError, match="numbers without bounds"):
        read_pickle(pickle.dumps({key: 1}), "a")


@pytest.mark.parametrize("protocol", range(6))
def test_ordered_dictionaries_as_python_2_wrote_them(protocol: int) -> None:
    value = Caller(collections.OrderedDict, ([["a", 1], ["b", [2]]],))
    assert read_pickle(pickle.dumps(value, protocol), "a") == {"a": 1, "b": [2]}
