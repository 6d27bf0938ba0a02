"""Pickles: what Python's own machine reads of plain data, and that nothing in a hostile one is run."""

from __future__ import annotations

import collections
import os
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.common.plain_pickle import read_pickle

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


def test_instructions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfplaces.common.plain_pickle._MAX_INSTRUCTIONS", 100)
    with pytest.raises(UserError, match="more than 100 instructions"):
        read_pickle(b"]0" * 1000 + b"N.", "a")
