"""Which files of a folder are images, what is said of the others, and names that other systems wrote."""

from __future__ import annotations

import os
import socket
import unicodedata
from pathlib import Path

import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import discovery
from tfplaces.datasets.discovery import find_images, resolve_names


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_every_depth_and_spelling_of_an_ending(tmp_path: Path) -> None:
    names = ["b/2.JPG", "b/1.jpeg", "a/night/deep/3.PNG", "0.jfif", "c.jpe", "d.Tiff", "e.gif", "f.webp", "g.pgm"]
    found = find_images(touch(tmp_path, *names, ".hidden/a.jpg", "b/._1.jpg", "notes.txt", "b/labels.json"))
    assert found.names == sorted(names)
    assert found.left_out == {} and found.note == ""


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "1.DNG", "x/2.dng", "x/clip.mov", "x/y.odd", "x/\x1b[2J.\x1b[0m", "bare")
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "nowhere.jpg").symlink_to("none")
    (tmp_path / "device.png").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        found = find_images(tmp_path)
    assert found.names == ["a.jpg"]
    assert found.left_out == {
        ".dng (a camera's raw image)": 2,
        ".mov (a film)": 1,
        ".odd": 1,
        ".\\x1b[0m": 1,
        "without an ending": 1,
        "that are no regular files": 3,
        "links that lead nowhere": 1,
    }
    assert found.note.startswith("left out: 3 that are no regular files, 2 .dng (a camera's raw image), 1 ")
    assert "\n" not in found.note and "\x1b" not in found.note


def test_the_note_stays_one_line_however_much_there_is(tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, *(f"a.x{i}" for i in range(30))))
    assert found.note.endswith(", 22 of other kinds") and len(found.note) < 200


def test_formats_that_need_something_say_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "EXTENSIONS", (".jpg",))
    assert find_images(touch(tmp_path, "1.HEIC", "2.heic", "3.avif")).left_out == {
        ".heic (pip install pillow-heif)": 2,
        ".avif (pip install 'pillow>=11.3')": 1,
    }


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    touch(tmp_path / "store", "r1.jpg", "deep/r2.jpg")
    root = touch(tmp_path / "known", "A/r0.jpg")
    (root / "B").symlink_to("../store")
    (root / "A" / "file.jpg").symlink_to("../../store/r1.jpg")
    (root / "A" / "up").symlink_to("..")
    (tmp_path / "store" / "self").symlink_to(".")
    found = find_images(root)
    assert found.names == ["A/file.jpg", "A/r0.jpg", "B/deep/r2.jpg", "B/r1.jpg"]
    assert found.left_out == {"links back to a folder above": 2}


def test_links_between_folders_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve folders that each link to all others have more than 10^9 ways through them."""
    for i in range(12):
        (tmp_path / str(i)).mkdir()
        for j in range(12):
            (tmp_path / str(i) / str(j)).symlink_to(f"../{j}")
    monkeypatch.setattr(discovery, "_MAX_FOLDERS", 500)
    with pytest.raises(UserError, match="more than 500 folders; do links lead to each other"):
        find_images(tmp_path)


def test_what_is_no_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for name, message in (("none", "no such folder"), ("a.jpg", "cannot be listed as a folder")):
        with pytest.raises(UserError, match=f"{name}: {message}"):
            find_images(tmp_path / name)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    (tmp_path / ("x" * 251 + ".jpg")).touch()
    names = find_images(tmp_path).names
    assert sorted(names) == sorted([os.fsdecode(b"caf\xe9.jpg"), "x" * 251 + ".jpg"])
    assert resolve_names(tmp_path, names, "gt.json") == names


@pytest.mark.parametrize(
    ("there", "written"),
    [
        ("s/a.jpg", "s/a.jpg"),
        ("s/a.jpg", "s\\a.jpg"),
        ("s/a.jpg", ".\\s\\a.jpg"),
        ("s/a.jpg", "./s//a.jpg"),
        (unicodedata.normalize("NFD", "café/é.jpg"), unicodedata.normalize("NFC", "café/é.jpg")),
        (unicodedata.normalize("NFC", "café/é.jpg"), unicodedata.normalize("NFD", "café\\é.jpg")),
        ("S/IMG_1.JPG", "s/img_1.jpg"),
        (unicodedata.normalize("NFD", "ÉTÉ.JPG"), unicodedata.normalize("NFC", "été.jpg")),
        ("odd\\name.jpg", "odd\\name.jpg"),  # a backslash is a letter here
        ("a:b.jpg", "a:b.jpg"),
        ("..a.jpg", "..a.jpg"),
    ],
)
def test_names_of_other_systems(there: str, written: str, tmp_path: Path) -> None:
    touch(tmp_path, there, "other.jpg")
    assert resolve_names(tmp_path, ["other.jpg", written], "gt.json") == ["other.jpg", there]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/etc/passwd", "points outside"),
        ("../x.jpg", "points outside"),
        ("a/../../x.jpg", "points outside"),
        ("a\\..\\x.jpg", "points outside"),
        ("C:\\x.jpg", "points outside"),
        ("c:/x.jpg", "points outside"),
        ("\\\\server\\x.jpg", "points outside"),
        ("a\0.jpg", r"no file can have the name 'a\\\\x00\.jpg'"),
        ("\ud800.jpg", "no file can have the name"),
        ("", "no file can have the name ''"),
        (".", "no regular file"),
        ("sub", "no regular file"),
        ("none.jpg", r"gt\.json: 1 of 1 images missing under .*, first: none\.jpg"),
        ("\x1b[2J.jpg", r"first: \\x1b\[2J\.jpg"),
        ("fifo.jpg", r"gt\.json: fifo\.jpg is no regular file"),
        ("x" * 300, "1 of 1 images missing"),
        ("TWO.jpg", r"TWO\.jpg could be (Two|tWo)\.jpg or (Two|tWo)\.jpg"),
    ],
)
def test_names_that_are_refused(name: str, message: str, tmp_path: Path) -> None:
    touch(tmp_path, "Two.jpg", "tWo.jpg", "sub/a.jpg")
    os.mkfifo(tmp_path / "fifo.jpg")
    with pytest.raises(UserError, match=message) as caught:
        resolve_names(tmp_path, [name], "gt.json")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_two_names_for_one_file(tmp_path: Path) -> None:
    touch(tmp_path, "s/a.jpg")
    with pytest.raises(UserError, match=r"gt\.json: s/a\.jpg is there twice; list it once"):
        resolve_names(tmp_path, ["s/a.jpg", "s/a.jpg"], "gt.json")
    with pytest.raises(UserError, match=r"labels\.json: s/a\.jpg and s\\a\.jpg are one file; list it once"):
        resolve_names(tmp_path, ["s/a.jpg", "s\\a.jpg"], "labels.json")
