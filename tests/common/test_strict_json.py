"""JSON of other systems is read, and what other readers would take otherwise is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.common.strict_json import read_json

VALUE = {"queries": ["café.jpg", "夜.jpg"], "positives": [[0, 1], []], "x": -1.5e3, "none": None}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]
)  # with and without a byte order mark
def test_encodings(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps(VALUE, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "a.json") == VALUE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"positives": [], "a": 1, "positives": [[1]]}', r'the key "positives" is there twice; keep one of them'),
        (b'{"a": {"b\\u001b[2J": 1, "b\\u001b[2J": 1}}', r'the key "b\\u001b\[2J" is there twice'),
        (b'{"a": NaN}', "NaN is no number that JSON has"),
        (b"[-Infinity]", "-Infinity is no number that JSON has"),
        (b"[1e999]", "the number 1e999 is too large"),
        (b"9" * 5000, "digits"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"", "no JSON: Expecting value in line 1, column 1"),
        (b'{"a": 1,\n "b": }', "no JSON: Expecting value in line 2, column 7"),
        (b'{"a": "\xe9"}', "no JSON: byte 7 is no utf-8; save it as UTF-8"),
        (b"[1] [2]", "no JSON: Extra data in line 1, column 5"),
        (b'["a\nb"]', "no JSON: Invalid control character"),
    ],
)
def test_what_is_refused_is_named_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "gt.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_only_regular_files_of_a_bounded_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    for name, message in (
        ("fifo.json", "a FIFO, not a regular file"),
        ("none.json", "no such file"),
        (".", "a folder"),
    ):
        with pytest.raises(UserError, match=message):
            read_json(tmp_path / name)
    (tmp_path / "long.json").write_text("[1, 2, 3]")
    assert read_json(tmp_path / "long.json", max_bytes=9) == [1, 2, 3]
    with pytest.raises(UserError, match=r"long\.json: 9 bytes; at most 8 are read"):
        read_json(tmp_path / "long.json", max_bytes=8)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        read_json(path)
    except UserError as error:
        assert "\n" not in str(error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
def test_what_json_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    path.write_text(json.dumps(value))
    assert read_json(path) == value
