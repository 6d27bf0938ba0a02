"""Photos with GPS positions in their EXIF, which the tests write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset, load_dataset, training_sets
from tfplaces.datasets.exif_photos import read_tags

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")

# About a metre in latitude, in degrees.
METRE = 1 / 111_320


def write(path: Path, gps: dict[int, Any], time: str = "", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "A maker"  # Pillow takes EXIF without a tag of its own to be none
    exif[ExifTags.IFD.GPSInfo] = gps
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: time} if time else {}
    pixels = np.random.default_rng([seed, *path.as_posix().encode()]).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def at(latitude: float, longitude: float, heading: float | None = None) -> dict[int, Any]:
    """GPS tags as phones write them: degrees, minutes, seconds."""
    tags: dict[int, Any] = {}
    for key, value, letters in ((1, latitude, "NS"), (3, longitude, "EW")):
        size = abs(value)
        minutes = (size - int(size)) * 60
        tags[key] = letters[value < 0]
        tags[key + 1] = (float(int(size)), float(int(minutes)), (minutes - int(minutes)) * 60)
    return tags if heading is None else {**tags, 16: "T", 17: heading}


def positives(dataset: PlaceDataset) -> list[list[str]]:
    return [[dataset.database.names[i] for i in dataset.truth.others(q)] for q in range(len(dataset.queries))]


@pytest.mark.parametrize("latitude, longitude", [(52.2055679, 0.1142114), (-33.9, 18.4), (1.3, -103.8), (-54.8, -68.3)])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_positions_are_read(tmp_path: Path, latitude: float, longitude: float, ending: str) -> None:
    """To 1e-7 degrees, about a centimetre, which is what seconds in thousandths hold."""
    tags = read_tags(write(tmp_path / f"a.{ending}", at(latitude, longitude, 350.5), "2021:05:31 10:59:00"))
    assert not isinstance(tags, str)
    np.testing.assert_allclose(tags[:3], [latitude, longitude, 350.5], rtol=0, atol=3e-7)
    assert tags.time == "2021:05:31 10:59:00"


@pytest.mark.parametrize(
    "gps, said",
    [
        ({}, "without a GPS position"),
        ({1: "N", 2: (52.0, 0.0, 0.0)}, "damaged"),
        ({2: (52.0, 0.0, 0.0), 4: (0.1, 0.0, 0.0)}, "damaged"),
        ({**at(52, 1), 1: "Q"}, "damaged"),
        ({**at(52, 1), 2: (52.0, 61.0, 0.0)}, "damaged"),
        ({**at(52, 1), 2: (95.0, 0.0, 0.0)}, "damaged"),
        ({**at(52, 1), 4: (181.0, 0.0, 0.0)}, "damaged"),
        ({**at(52, 1), 2: (0, 0)}, "damaged"),
        (at(0, 0), "0, 0"),
    ],
)
def test_why_a_photo_has_no_position(tmp_path: Path, gps: dict[int, Any], said: str) -> None:
    if gps.get(2) == (0, 0):  # 0/0, as cameras write before they have a fix
        from PIL.TiffImagePlugin import IFDRational

        gps = {**gps, 2: (IFDRational(0, 0),) * 3}
    tags = read_tags(write(tmp_path / "a.jpg", gps))
    assert isinstance(tags, str) and said in tags


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_no_position(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path, exif=b"Exif\0\0II*\0" + b"\xff" * 40)
    assert isinstance(read_tags(path), str)


def test_queries_and_database(tmp_path: Path) -> None:
    write(tmp_path / "queries/q.jpg", at(52, 1), "2021:05:31 10:59:00")
    write(tmp_path / "queries/none.jpg", {})
    for name, metres in (("near", 5), ("farther", 20), ("far", 30)):
        write(tmp_path / f"database/{name}.jpg", at(52 + metres * METRE, 1), "2020:01:01 00:00:00")
    dataset = load_dataset(f"exif:{tmp_path}")
    assert positives(dataset) == [["farther.jpg", "near.jpg"]]
    assert [dataset.database.names[i] for i in dataset.truth.to_train(0)] == ["near.jpg"]
    assert dataset.notes[1].endswith("queries are left out 1 without a GPS position")
    assert dataset.notes[0].startswith("1 queries, 3 database images; 1 of the queries")
    assert dataset.truth.query_times is not None and dataset.truth.query_times > dataset.truth.database_times[0]


def test_photos_of_one_folder_are_split_by_place(tmp_path: Path) -> None:
    for place in range(10):
        for k in range(3):
            write(tmp_path / f"{place}/{k}.jpg", at(52 + (1000 * place + k) * METRE, 1, 90 * k))
    dataset = load_dataset(f"exif:{tmp_path}")
    assert positives(dataset)[0] == ["0/1.jpg", "0/2.jpg"]
    assert positives(load_dataset(f"exif:{tmp_path}?max_angle=90"))[0] == ["0/1.jpg"]
    places = [{name[0] for name in side.queries.names} for side in training_sets(f"exif:{tmp_path}")]
    assert len(places[0] | places[1]) == 10 and not places[0] & places[1]


def test_across_zones(tmp_path: Path) -> None:
    """Query and database lie on either side of Greenwich, 13.7 m apart."""
    write(tmp_path / "queries/q.jpg", at(52.2, 0.0001))
    write(tmp_path / "database/d.jpg", at(52.2, -0.0001))
    assert positives(load_dataset(f"exif:{tmp_path}?radius=14")) == [["d.jpg"]]
    assert positives(load_dataset(f"exif:{tmp_path}?radius=13")) == [[]]


def test_one_line_for_what_is_wrong(tmp_path: Path) -> None:
    def said(pattern: str, options: str = "") -> None:
        with pytest.raises(UserError, match=pattern) as raised:
            load_dataset(f"exif:{tmp_path}/x{options}")
        assert "\n" not in str(raised.value)

    said("no such folder")
    (tmp_path / "x/queries").mkdir(parents=True)
    said("has one of queries and database")
    (tmp_path / "x/database").mkdir()
    said("no photo in .*queries has a GPS position; there are no images")
    write(tmp_path / "x/queries/a.jpg", {})
    said("no photo in .*queries has a GPS position: 1 without a GPS position")
    write(tmp_path / "x/queries/a.jpg", at(1, 1))
    write(tmp_path / "x/database/a.jpg", at(1, 1))
    said("max_angle needs headings, and 1 of 1 images have none", "?max_angle=10")
    said("radius=0, but", "?radius=0")
    (tmp_path / "x/database/b.jpg").write_bytes(b"no image")
    said(r"b\.jpg: cannot be read as an image")
