"""Indexes built, added to, described again and cleared of places; and photos found in them."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from index_files import PixelDescriber, write_model, write_photo
from PIL import Image

from tfplaces.common.errors import UserError
from tfplaces.common.files import hold
from tfplaces.datasets import ImageFiles, load_dataset
from tfplaces.index import open_index
from tfplaces.index.near import Near
from tfplaces.workflows import indexing, querying
from tfplaces.workflows.index_model import check_model, identify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        write_photo(tmp_path / "photos" / f"{number}.png", number)
    write_model(tmp_path)
    return tmp_path


def build(folder: Path, **options) -> indexing.Changes:
    describer = options.pop("describer", PixelDescriber())
    dataset = load_dataset(f"folder:{folder / 'photos'}")
    return indexing.build_index(
        folder / "a.index", folder / "model.keras", describer, dataset, **{"codec": "int8", **options}
    )


def add(folder: Path, describer: PixelDescriber | None = None, photos: str = "photos", **options) -> indexing.Changes:
    dataset = load_dataset(f"folder:{folder / photos}")
    return indexing.add_places(
        folder / "a.index", folder / "model.keras", describer or PixelDescriber(), dataset, **options
    )


def find(folder: Path, photos: list[Path], near: Near | None = None) -> list[querying.Answer]:
    with open_index(folder / "a.index") as index:
        files = ImageFiles("", [str(photo) for photo in photos])
        return list(querying.answers(index, PixelDescriber(), files, 3, near))


def photos(folder: Path) -> list[Path]:
    return sorted((folder / "photos").iterdir())


def test_every_photo_of_the_index_finds_itself(folder: Path) -> None:
    changes = build(folder)
    assert changes.places == changes.described == len(changes.added) == 6
    for photo, answer in zip(photos(folder), find(folder, photos(folder)), strict=True):
        assert answer.photo == str(photo) and answer.matches[0].place.name == photo.name
        assert answer.matches[0].score == pytest.approx(1, abs=1e-3) and len(answer.matches) == 3
    assert sorted(os.listdir(folder)) == ["a.index", "model.keras", "photos"]


def test_photos_stream_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(folder)
    monkeypatch.setattr(querying, "_TOGETHER", 4)
    some = photos(folder) * 30
    assert [answer.photo for answer in find(folder, some)] == [str(photo) for photo in some]


def test_added_places_and_changed_pictures(folder: Path) -> None:
    build(folder, thumbnail_side=8)
    with open_index(folder / "a.index") as index:
        before = dict(index.every_place())
    write_photo(folder / "photos" / "2.png", 1002)
    write_photo(folder / "photos" / "6.png", 6)
    describer = PixelDescriber()
    changes = add(folder, describer)
    assert (changes.added, changes.changed, changes.told) == (["6.png"], ["2.png"], [])
    assert changes.described == 2 and changes.places == 7
    with open_index(folder / "a.index") as index:
        after = dict(index.every_place())
        assert list(after) == [1, 2, 3, 4, 5, 6, 7]
        assert {number for number in before if before[number] != after[number]} == {3}
        assert index.thumbnail(6) is not None
    assert all(a.matches[0].place.name == p.name for a, p in zip(find(folder, photos(folder)), photos(folder)))  # noqa: B905
    stamp = (folder / "a.index").stat().st_mtime_ns
    assert add(folder).described == 0  # nothing is new
    assert (folder / "a.index").stat().st_mtime_ns == stamp


def test_an_empty_index_grows(folder: Path) -> None:
    build(folder)
    indexing.remove_places(folder / "a.index", ["*"])
    with open_index(folder / "a.index") as index:
        assert len(index) == 0
    with pytest.raises(UserError, match=r"a\.index: has no places to find; add some"):
        find(folder, photos(folder))
    assert add(folder).places == 6
    assert find(folder, photos(folder))[5].matches[0].place.name == "5.png"


def test_removed_places_are_found_no_more(folder: Path) -> None:
    os.rename(folder / "photos" / "0.png", folder / "photos" / "[1].png")
    build(folder, thumbnail_side=8)
    index = folder / "a.index"
    with pytest.raises(UserError, match=r"no place has the name or pattern 7\.png"):
        indexing.remove_places(index, ["1.png", "7.png"])
    assert indexing.remove_places(index, ["[1].png"]) == ["[1].png"]  # its name, not the pattern
    assert indexing.remove_places(index, ["[12].png", "5*"]) == ["1.png", "2.png", "5.png"]
    found = find(folder, photos(folder))
    assert {match.place.name for answer in found for match in answer.matches} == {"3.png", "4.png"}
    with open_index(index) as opened:
        assert opened.ids.tolist() == [3, 4] and opened.thumbnail(0) is not None
    # What is gone is gone from the bytes of the file too.
    assert b"5.png" not in index.read_bytes()


def test_a_newer_model_describes_all_again(folder: Path) -> None:
    build(folder)
    write_model(folder, b"a newer model")
    write_photo(folder / "photos" / "6.png", 6)
    describer = PixelDescriber(30, seed=1)
    changes = add(folder, describer)
    assert changes.described == 7 and changes.added == ["6.png"]
    with open_index(folder / "a.index") as index:
        assert index.model == identify(folder / "model.keras", describer) and index.ids.tolist() == list(range(1, 8))
        assert index.codec.name == "int8" and index.model.dimensions == 30
    (folder / "photos" / "3.png").unlink()
    with pytest.raises(UserError, match=r"1 of them are not in folder:.*, first: 3\.png"):
        add(folder, PixelDescriber(), codec="float16")


def test_an_interrupted_run_goes_on(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(6, 600):
        shutil.copy(folder / "photos" / "0.png", folder / "photos" / f"{number}.png")

    class Interrupted(PixelDescriber):
        def describe(self, images: np.ndarray) -> np.ndarray:
            if self.described > 400:
                raise KeyboardInterrupt
            return super().describe(images)

    with pytest.raises(KeyboardInterrupt):
        build(folder, describer=Interrupted())
    assert sorted(os.listdir(folder)) == ["a.index.work", "model.keras", "photos"]
    describer = PixelDescriber()
    assert build(folder, describer=describer).places == 600
    assert "goes on from 256 of 600 places" in capsys.readouterr().out.replace("288", "256")
    assert describer.described < 600 and not (folder / "a.index.work").exists()


def test_two_at_once(folder: Path) -> None:
    build(folder)
    work = folder / "a.index.work"
    work.mkdir()
    held = hold(str(work))
    try:
        for action in (lambda: add(folder), lambda: indexing.remove_places(folder / "a.index", ["*"])):
            with pytest.raises(UserError, match=r"a\.index\.work: another run is at work"):
                action()
    finally:
        os.close(held)


def test_a_full_disk_leaves_the_old_file(folder: Path) -> None:
    build(folder)
    before = (folder / "a.index").read_bytes()
    for number in range(6, 40):
        write_photo(folder / "photos" / f"{number}.png", number)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 8192, limits[1]))
    try:
        with pytest.raises(UserError, match=r"a\.index: cannot be written \(.*\); make room") as raised:
            add(folder)
        assert "\n" not in str(raised.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (folder / "a.index").read_bytes() == before
    assert add(folder).described == 34


def test_two_names_alike(folder: Path) -> None:
    dataset = load_dataset(f"folder:{folder / 'photos'}")
    dataset.database.names[1] = "0.png"
    with pytest.raises(UserError, match="two of its database images have one name"):
        indexing.build_index(folder / "a.index", folder / "model.keras", PixelDescriber(), dataset, "int8")
    assert not (folder / "a.index").exists()


def test_thumbnails_have_no_exif(folder: Path) -> None:
    """A photo that lies on its side and says where it was taken: the thumbnail is upright and says nothing."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[2] = (52.0, 12.0, 0.0)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 60, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photos" / "a.jpg", exif=exif)
    build(folder, thumbnail_side=20)
    with open_index(folder / "a.index") as index:
        jpeg = index.thumbnail(6)
    assert jpeg is not None and b"Exif" not in jpeg
    (folder / "thumbnail.jpg").write_bytes(jpeg)
    with Image.open(folder / "thumbnail.jpg") as image:
        assert image.size == (10, 20) and not image.getexif()


def test_names_of_any_bytes(folder: Path) -> None:
    names = ["line\nfeed.png", "quote\"'.png", "ä\u3042 \u202e.png", os.fsdecode(b"latin\xe9.png")]
    for number, name in enumerate(names):
        write_photo(folder / "photos" / name, 100 + number)
    build(folder)
    path = folder / "found.json"
    with querying.writing_json(path) as found:
        for answer in find(folder, [folder / "photos" / name for name in names]):
            found.add(answer.to_json())
            assert all(len(line) for line in querying.answer_text(answer).split("\n"))
    read = json.loads(path.read_text())
    assert [os.path.basename(answer["photo"]) for answer in read] == names
    assert [answer["matches"][0]["name"] for answer in read] == names


def test_another_model_another_runtime(folder: Path) -> None:
    build(folder)
    model = folder / "model.keras"
    with open_index(folder / "a.index") as index:
        ours = PixelDescriber()
        identity = identify(model, ours)
        assert check_model(index, identity, ours, force=False) == []
        for change in (dict(sha256="0" * 64), dict(precision="int8"), dict(input_size=(9, 9))):
            other = dataclasses.replace(identity, **change)
            with pytest.raises(UserError, match="was made by another model") as raised:
                check_model(index, other, ours, force=False)
            assert "\n" not in str(raised.value)
            (note,) = check_model(index, other, ours, force=True)
            assert "scores are lower" in note
        longer = PixelDescriber(25)
        with pytest.raises(UserError, match="descriptors of 25 numbers, the index 24"):
            check_model(index, identify(model, longer), longer, force=True)
        (note,) = check_model(index, identity, PixelDescriber(turned=0.2), force=False)
        assert "this runtime computes the model otherwise" in note and "cosine 0.9" in note
        with pytest.raises(UserError, match="build the index on the runtime that queries it"):
            check_model(index, identity, PixelDescriber(seed=5), force=False)


def test_positions_of_utm_names_and_only_places_near(folder: Path) -> None:
    """Easting 302800.83, northing 5787594.66 is 52.2034676 N, 0.1140892 E: from a real name of its kind."""
    for number in range(4):
        write_photo(folder / "town" / f"@{302800.83 + 100 * number}@5787594.66@31@U@@@pano@@090@@@@@@.png", number)
    dataset = load_dataset(f"folder:{folder / 'town'}")
    indexing.build_index(folder / "a.index", folder / "model.keras", PixelDescriber(), dataset, "float16")
    first = photos(folder)[0]
    (answer,) = find(folder, [first])
    match = answer.to_json()["matches"][0]
    assert (match["latitude"], match["longitude"]) == pytest.approx((52.2034676, 0.1140892), abs=2e-7)
    assert (match["heading"], match["group"], set(match) - {"heading", "group"}) == (
        90, "pano", {"name", "score", "latitude", "longitude"}
    )  # fmt: skip
    (near,) = find(folder, [first], Near(52.2034676, 0.1140892 + 200 / 68_300, 120))
    assert {match.place.easting for match in near.matches} == {302900.83, 303000.83, 303100.83}
    with pytest.raises(UserError, match=r"none of its places is within 10 m .* the nearest is"):
        find(folder, [first], Near(52.3, 0.1, 10))
    build(folder)
    with pytest.raises(UserError, match="knows no positions of its places; leave out --near"):
        find(folder, [first], Near(52.3, 0.1, 10))


def test_photos_from_folders_and_lists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "photos" / "movie.mp4").write_bytes(b"")
    (folder / "list.txt").write_bytes(b"photos/3.png\r\n\nphotos/1.png\n")
    monkeypatch.chdir(folder)
    found, notes = querying.photos_of(["photos/5.png", "list.txt", "photos"])
    assert found[:3] == ["photos/5.png", "photos/3.png", "photos/1.png"] and len(found) == 9
    assert "left out: 1" in notes[0]
    monkeypatch.chdir("/")
    assert querying.photos_of([str(folder / "list.txt")])[0][0] == str(folder / "photos" / "3.png")
    for argument, says in (("none.jpg", "no such photo"), ("none.txt", "none.txt: no such file")):
        with pytest.raises(UserError, match=says):
            querying.photos_of([argument])
    (folder / "bad.txt").write_text("photos/9.png\n")
    with pytest.raises(UserError, match=r"bad\.txt: line 1: no such photo as photos/9\.png"):
        querying.photos_of([str(folder / "bad.txt")])
    with pytest.raises(UserError, match="no photos to find the places of"):
        querying.photos_of([])


def test_frames_of_a_drive_vote(folder: Path) -> None:
    """One frame shows another place of the drive: alone it is wrong, with those before it right."""
    build(folder)
    drive = photos(folder)
    drive[4] = drive[0]
    with open_index(folder / "a.index") as index:
        for sequence, expected in ((1, ["0.png"]), (4, ["3.png", "4.png", "5.png"])):  # 0, 1 or 2 places further
            files = ImageFiles("", [str(photo) for photo in drive])
            found = list(querying.answers(index, PixelDescriber(), files, 1, sequence=sequence))
            names = [answer.matches[0].place.name for answer in found]
            assert names[4] in expected and names[:4] == ["0.png", "1.png", "2.png", "3.png"] and names[5] == "5.png"
