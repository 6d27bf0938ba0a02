"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tfplaces.common import files
from tfplaces.common.errors import UserError
from tfplaces.common.files import (
    holding,
    open_regular,
    read_regular,
    replacing,
    working_folder,
    write_json,
    write_text,
)


def test_success_replaces(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    for content in ("one", "two"):
        with replacing(path) as temporary:
            assert os.path.basename(temporary) == "model.keras" and temporary != str(path)
            assert Path(temporary).parents[1] == tmp_path  # on the same disk, or it could not be renamed
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
    with pytest.raises(UserError, match="a: is a folder; name a file to write"), replacing(tmp_path / "a"):
        pass
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: is a device or a pipe"), replacing(tmp_path / "pipe"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["a", "pipe"]
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


def test_a_link_keeps_leading_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "b.txt").write_text("before")
    (tmp_path / "a.txt").symlink_to("there/b.txt")
    write_text(tmp_path / "a.txt", "after")
    assert (tmp_path / "a.txt").is_symlink() and (tmp_path / "there" / "b.txt").read_text() == "after"
    assert os.listdir(tmp_path / "there") == ["b.txt"]


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "a\x1b[2J\nb", os.fsdecode(b"\xff\xfe.txt"), ".hidden", " "])
def test_any_name_that_the_disk_takes(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]


def test_names_that_are_not_utf8_are_escaped_in_a_text(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "a.txt").read_text() == "caf\\udce9"


# Begins to write, says so, and waits to be killed.
WRITES = """
import sys, time
from tfplaces.common.files import replacing
with replacing(sys.argv[1]) as temporary:
    open(temporary, "w").write("half")
    print(temporary, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_run_left_goes_and_what_another_works_on_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    monkeypatch.setattr(files, "_ABANDONED_SECONDS", -1.0)
    with subprocess.Popen([sys.executable, "-c", WRITES, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        temporary = process.stdout.readline().strip()
        write_text(path, "ours")
        assert os.path.exists(temporary)  # the other is alive
        process.kill()
    assert path.read_text() == "ours" and len(os.listdir(tmp_path)) == 2
    with working_folder(tmp_path) as folder:
        assert sorted(os.listdir(tmp_path)) == sorted([os.path.basename(folder), "a.txt"])
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_is_new_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".writing-new").mkdir()  # as if its process had not locked it yet
    write_text(tmp_path / "a.txt", "x")
    assert sorted(os.listdir(tmp_path)) == [".writing-new", "a.txt"]


def test_regular_files_alone_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"content"
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, message in {
            "none": "no such file",
            "fifo": "a FIFO, not a regular file",
            "socket": "cannot be opened",
            ".": "a folder, not a regular file",
            "/dev/zero": "a device, not a regular file",
            "a\0b": "a.x00b: no file can have this name",
            "\ud800": "no file can have this name",
            "file/x": "cannot be opened",
            "x" * 300: "cannot be opened",
        }.items():
            with pytest.raises(UserError, match=message):
                open_regular(os.path.join(tmp_path, name))


def test_files_are_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert read_regular(tmp_path / "file", 7) == b"content"
    with pytest.raises(UserError, match="file: 7 bytes; at most 6 are read"):
        read_regular(tmp_path / "file", 6)
    with pytest.raises(UserError, match="file: 7 bytes"):
        open_regular(tmp_path / "file", 6)


def test_a_folder_is_one_runs_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a.work"
    with holding(folder):
        with pytest.raises(UserError, match=r"a\.work: another run is at work in this folder"), holding(folder):
            pass
        assert folder.is_dir()
    assert not folder.exists()
    with holding(folder):
        (folder / "kept").touch()
    assert os.listdir(folder) == ["kept"]
    with holding(folder):  # free again
        pass


def test_a_folder_that_was_removed_by_its_holder_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking it: the lock would be one on a folder that nobody finds."""
    real, times = files.hold, []

    def removed_meanwhile(path: str) -> int | None:
        held = real(path)
        if not times:
            os.rmdir(path)
        times.append(1)
        return held

    monkeypatch.setattr(files, "hold", removed_meanwhile)
    with holding(tmp_path / "a.work"):
        assert (tmp_path / "a.work").is_dir() and len(times) == 2
