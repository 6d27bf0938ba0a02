"""Names from strangers' files cannot command a terminal."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.text import printable, printable_name


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photo 1.jpg", "photo 1.jpg"),
        ("café Straße 夜 שלום 🙂.jpg", "café Straße 夜 שלום 🙂.jpg"),
        ("cafe\u0301", "cafe\u0301"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),  # a family is joined by U+200D
        ("\x1b[2Jx\r\n\t\0\x7f", "\\x1b[2Jx\\r\\n\\t\\x00\\x7f"),
        ("gpj.\u202eexe\u2028", "gpj.\\u202eexe\\u2028"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf\\xe9.jpg"),
        ("\ud800", "\\ud800"),
    ],
)
def test_names_on_one_line(text: str, shown: str) -> None:
    assert printable_name(text) == shown


@given(st.text(alphabet=st.characters()))
def test_names_can_be_printed_anywhere(text: str) -> None:
    shown = printable_name(text)
    shown.encode("utf-8")  # lone surrogates would raise
    assert "\x1b" not in shown and len(shown.splitlines()) <= 1
    assert printable_name(shown) == shown == printable(shown)
