"""Names from strangers' files cannot command a terminal."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.text import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, größer ≥ 日本\n\tnext", "plain, größer ≥ 日本\n\tnext"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2J\x1b[1;1H", "\\x1b[2J\\x1b[1;1H"),
        ("\x1b[1m5/5\x1b[0m", "\x1b[1m5/5\x1b[0m"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\x9b2J", "\\x9b2J"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf\\udce9.jpg"),
    ],
)
def test_commands_are_written_out(text: str, expected: str) -> None:
    assert printable(text) == expected


@given(st.text(alphabet=st.characters()))
def test_what_comes_out_can_be_encoded_and_is_left_alone_the_second_time(text: str) -> None:
    once = printable(text)
    once.encode("utf-8")
    assert printable(once) == once and "\x07" not in once
