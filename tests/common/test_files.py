"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tfplaces.common.files import replacing, write_json, write_text


def test_success_replaces(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    for content in ("one", "two"):
        with replacing(path) as temporary:
            assert os.path.dirname(temporary) == str(tmp_path) and temporary.endswith(".keras")
            assert temporary != str(path)
            Path(temporary).write_text(content)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == content
    assert os.listdir(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("removed", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: type[BaseException], removed: bool) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")
    with pytest.raises(error), replacing(path) as temporary:
        Path(temporary).write_text("half")
        if removed:
            os.remove(temporary)
        raise error
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["a.json"]


def test_a_target_that_cannot_be_replaced_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError), replacing(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "a"):
        pass


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~umask


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text("a.txt", "größer ≥")
    assert (tmp_path / "a.txt").read_bytes() == "größer ≥".encode()


def test_json_that_any_reader_takes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    data = {"map": 1.5, "recall": {"1": 2}, "names": ["a", None, True]}
    write_json(path, data)
    assert json.loads(path.read_text()) == data and path.read_text().endswith("}\n")
    for bad in (float("nan"), float("inf"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, {"a": bad})
    assert json.loads(path.read_text()) == data and os.listdir(tmp_path) == ["a.json"]
