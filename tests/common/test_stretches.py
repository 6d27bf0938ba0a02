"""Bytes of a file, plain or deflated, read at any place in any order."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaces.common import stretches
from tfplaces.common.errors import UserError
from tfplaces.common.stretches import DeflatedStretch, PlainStretch, Stretch

# Half of it compresses, half of it does not.
DATA = bytes(1500) + np.random.default_rng(0).bytes(1500) + b"ab" * 500


def both() -> list[Stretch]:
    deflated = zlib.compress(DATA)
    return [
        PlainStretch(io.BytesIO(b"12345" + DATA + b"678"), 5, 5 + len(DATA)),
        DeflatedStretch(io.BytesIO(b"12345" + deflated + b"678"), 5, 5 + len(deflated), len(DATA)),
    ]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "_BLOCK", 50)
    monkeypatch.setattr(stretches, "_PIECE", 120)
    monkeypatch.setattr(stretches, "_BETWEEN_STATES", 300)


@settings(max_examples=100)
@given(reads=st.lists(st.tuples(st.integers(0, 4100), st.integers(0, 900), st.booleans()), min_size=1, max_size=12))
def test_any_order_of_reads(reads: list[tuple[int, int, bool]]) -> None:
    for stretch in both():
        for at, size, into in reads:
            expected, array = DATA[at : at + size], np.empty(size, np.uint8)
            if len(expected) < size:
                with pytest.raises(UserError, match="cut off"):
                    stretch.read_into(at, array) if into else stretch.read(at, size)
            elif into:
                stretch.read_into(at, array)
                assert array.tobytes() == expected
            else:
                assert stretch.read(at, size) == expected


def test_the_end_is_checked() -> None:
    deflated = bytearray(zlib.compress(DATA))
    DeflatedStretch(io.BytesIO(deflated), 0, len(deflated), len(DATA)).check_end(10)
    with pytest.raises(UserError, match="inflates to more than 3,999 bytes"):
        DeflatedStretch(io.BytesIO(deflated), 0, len(deflated), len(DATA) - 1).check_end(0)
    with pytest.raises(UserError, match="in the middle of compressed data"):
        DeflatedStretch(io.BytesIO(deflated), 0, len(deflated) - 1, len(DATA)).check_end(0)
    deflated[-1] ^= 1
    with pytest.raises(UserError, match="damaged: Error -3"):
        DeflatedStretch(io.BytesIO(deflated), 0, len(deflated), len(DATA)).check_end(0)


def test_no_more_states_are_kept_than_needed() -> None:
    stretch = both()[1]
    assert isinstance(stretch, DeflatedStretch)
    for _ in range(3):
        stretch.read(3900, 10)
        stretch.read(0, 10)
    assert len(stretch._states) <= len(DATA) // 300 + 1
