"""Tables of photos as people export them, and everything that can be wrong with one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset, has_splits, load_dataset, training_sets
from tfplaces.datasets.positions import to_earth_centred

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")

Open = Callable[..., PlaceDataset]


@pytest.fixture
def open_table(write_photos: Callable[..., Path]) -> Open:
    """Writes a table and photos a.png to f.png, and opens it."""

    def open_table(text: str, options: str = "", encoding: str = "utf-8", split: str | None = None) -> PlaceDataset:
        root = write_photos(*(f"{name}.png" for name in "abcdef"), "sub/g.png")
        (root / "photos.csv").write_bytes(text.encode(encoding))
        return load_dataset(f"csv:{root}/photos.csv{options}", split)

    return open_table


def positives(dataset: PlaceDataset) -> list[list[str]]:
    return [[dataset.database.names[i] for i in dataset.truth.others(q)] for q in range(len(dataset.queries))]


def test_what_a_german_spreadsheet_exports(open_table: Open) -> None:
    """Semicolons, decimal commas, a mark of the byte order, Windows line ends and paths, quotes, capitals."""
    text = (
        "Dateiname;Breitengrad;Längengrad;Role\r\n"
        'a.png;52,2055679;0,1142114;query\r\n"B.PNG";52,2056959;0,1142084;database\r\n'
        "sub\\g.png;52,3;0,1;database\r\n"
    )
    for encoding in ("utf-8-sig", "utf-16", "cp1252"):
        dataset = open_table(text, encoding=encoding)
        assert (dataset.queries.names, dataset.database.names) == (["a.png"], ["b.png", "sub/g.png"])
        assert positives(dataset) == [["b.png"]]
        # The same places as the names of a set from Cambridge have them: 302818.48, 5787827.87; 302818.84, 5787842.11.
        np.testing.assert_allclose(dataset.truth.query_positions, [[302818.48, 5787827.87]], atol=0.01)
        np.testing.assert_allclose(dataset.truth.database_positions[0], [302818.84, 5787842.11], atol=0.01)


def test_what_exiftool_writes(open_table: Open) -> None:
    text = (
        "SourceFile,GPSLatitude,GPSLongitude,GPSImgDirection,DateTimeOriginal\n"
        'a.png,"52 deg 12\' 20.04"" N","0 deg 6\' 51.16"" E",350,2021:05:31 10:59:00\n'
        'b.png,"52 deg 12\' 20.50"" N","0 deg 6\' 51.15"" E",10,2021:05:31 11:00:00\n'
    )
    dataset = open_table(text, "?max_angle=20")
    assert positives(dataset) == [["b.png"], ["a.png"]]
    assert dataset.truth.query_times is not None
    assert np.diff(dataset.truth.query_times) == np.timedelta64(60, "s")
    assert positives(open_table(text, "?max_angle=19")) == [[], []]


def test_without_roles_each_photo_is_a_query_among_other_sequences(open_table: Open) -> None:
    rows = "a.png,0,0,day\nb.png,1,0,day\nc.png,2,0,night\nd.png,3,0,\ne.png,4,0,\n"
    dataset = open_table("file,easting,northing,sequence\n" + rows)
    assert positives(dataset)[0] == ["c.png", "d.png", "e.png"]
    assert positives(dataset)[3] == ["a.png", "b.png", "c.png", "e.png"]
    assert dataset.ignored(0).tolist() == [0, 1]
    assert dataset.notes[0].startswith("5 images of 4 sequences, each a query among the others")


def test_splits_with_roles(open_table: Open) -> None:
    rows = [
        "a.png,0,0,Training,Query", "b.png,5,0,Training,DB", "c.png,100,0,valid,query", "d.png,105,0,valid,reference",
        "e.png,200,0,test,q", "f.png,209,0,test,gallery",
    ]  # fmt: skip
    text = "path,east,north,set,role\n" + "\n".join(rows)
    assert open_table(text).queries.names == ["e.png"]
    dataset = open_table(text, "?split=val")
    assert (dataset.queries.names, dataset.database.names) == (["c.png"], ["d.png"])
    assert "these are the 2 rows of the split val, of 6" in dataset.notes
    spec = dataset.spec.partition("?")[0]
    assert has_splits(spec) and not has_splits(dataset.spec)
    assert [side.queries.names for side in training_sets(spec)] == [["a.png"], ["c.png"]]


def test_a_column_split_may_say_roles_and_another_type_anything(open_table: Open) -> None:
    dataset = open_table("path,easting,northing,split,type\na.png,0,0,query,JPEG\nb.png,1,0,database,PNG\n")
    assert positives(dataset) == [["b.png"]] and not has_splits(dataset.spec)


def test_coordinates_on_the_grid_are_preferred_and_zones_kept_apart(open_table: Open) -> None:
    text = "path,easting,northing,zone,lat,lon\na.png,700000,5700000,30U,1,1\nb.png,700001,5700000,{},1,1\n"
    assert positives(open_table(text.format("30U"))) == [["b.png"], ["a.png"]]
    assert positives(open_table(text.format("31U"))) == [[], []]


def test_places_of_several_zones_are_earth_centred(open_table: Open) -> None:
    dataset = open_table("path,lat,lng\na.png,52.2,-0.0001\nb.png,52.2,0.0001\nc.png,-33.9,18.4\n")
    assert positives(dataset) == [["b.png"], ["a.png"], []]
    expected = to_earth_centred(np.array([-33.9]), np.array([18.4]))[0]
    np.testing.assert_array_equal(dataset.truth.query_positions[2], expected)


def test_photos_in_another_folder(open_table: Open, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "t.csv").write_text(f"path,east,north\na.png,0,0\n{tmp_path}/b.png,0,0\n")
    open_table("path,east,north\na.png,0,0\n")
    assert load_dataset(f"csv:{tmp_path}/else/t.csv?images={tmp_path}").queries.names == ["a.png", "b.png"]
    with pytest.raises(UserError, match=r"line 3: .*/b\.png points outside"):
        load_dataset(f"csv:{tmp_path}/else/t.csv")


@pytest.mark.parametrize(
    "times, kinds", [("1,2", "f"), ("2021-05-31,2020-01-01T10:00:00Z", "M"), ("yesterday,2020-01-01", None)]
)
def test_times(open_table: Open, times: str, kinds: str | None) -> None:
    first, second = times.split(",")
    dataset = open_table(f"path,east,north,captured_at\na.png,0,0,{first}\nb.png,0,0,{second}\n")
    found = dataset.truth.query_times
    assert (found is None) if kinds is None else (found is not None and found.dtype.kind == kinds)
    assert any("times are left out" in note for note in dataset.notes) == (kinds is None)


def test_every_bad_row_is_named_by_its_line(open_table: Open) -> None:
    text = (
        "path;lat;lon;heading\na.png;52,2;0,1;\n\nb.png;;0,1;\nc.png;103,8;1,3;5\n;1;1;\nd.png;1;1;north\n"
        "e.png;1;181;\n"
    )
    with pytest.raises(UserError) as raised:
        open_table(text)
    message = str(raised.value).partition("photos.csv: ")[2]
    assert message == (
        "5 of 6 rows cannot be used: line 4: latitude '' is no number; line 5: latitude 103.8 is not within -90 and 90 "
        "degrees; are latitude and longitude swapped?; line 6: has no path; line 7: heading 'north' is no number; "
        "line 8: longitude 181 is not within -180 and 180 degrees"
    )


def test_of_many_bad_rows_all_lines_are_named(open_table: Open) -> None:
    with pytest.raises(UserError, match=r"line 11: .*; and lines 12, 13 and 14$"):
        open_table("path;lat;lon\n" + "a.png;x;1\n" * 13)


@pytest.mark.parametrize(
    "text, options, said",
    [
        ("a.png,0,0\nb.png,0,0\n", "", "no column of the first line is called path"),
        ("path,lat\na.png,0\n", "", "must name easting and northing, or latitude and longitude; it has latitude, path"),
        ("path,lat,lon\n", "", "no rows"),
        (
            "path,lat,lon\na.png,0,0\nx.png,0,0\nb.png,1,1\ny.png,0,0\n",
            "",
            r"2 of 4 images missing.* x.png; lines 3, 5",
        ),
        ("path,lat,lon\na.png,0,0\na.png,0,0\n", "", "line 3: a.png is in line 2 too"),
        ("path,lat,lon\na.png,0,0\nA.png,0,0\n", "", "a.png and A.png are one file"),
        ("path,lat,lon\na.png,0,0\n../a.png,0,0\nC:\\a.png,0,0\n", "", "line 3: ../a.png points .*; line 4: C:"),
        ("path,east,north\na.png,1e9,0\n", "", "line 2: easting 1e\\+09, northing 0 are no metres"),
        ("path,east,north,zone\na.png,0,0,61\n", "", "line 2: zone '61' is not"),
        ("path,east,north,zone\na.png,0,0,31N\nb.png,-9e7,0,32N\n", "", "several UTM zones"),
        ("path,east,north,split\na.png,0,0,holdout\n", "", "line 2: split 'holdout' is none of"),
        ("path,east,north,role\na.png,0,0,query\nb.png,0,0,\n", "", "line 3: has no role, unlike other rows"),
        ("path,east,north,role\na.png,0,0,query\n", "", "no database images"),
        ("path,east,north\na.png,0,0\n", "?split=val", "no split val; its rows have none"),
        (
            "path,east,north,split\na.png,0,0,val\nb.png,0,0,train\n",
            "",
            "name a split, as in .*; there are train and val",
        ),
        ("path,east,north\na.png,0,0\n", "?images=/none", "is no folder"),
        ("path,east,north\na.png,0,0\n", "?radius=-1", "radius=-1, but"),
        ("path,east,north\na.png,0,0\n", "?max_angle=40", "1 of 1 images have none"),
    ],
)
def test_one_line_for_what_is_wrong(open_table: Open, text: str, options: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        open_table(text, options)
    assert "\n" not in str(raised.value)


def test_degrees_under_the_headers_of_a_grid_are_noticed(open_table: Open) -> None:
    dataset = open_table("path,easting,northing\na.png,0.1142,52.2056\n")
    assert any("look like degrees" in note for note in dataset.notes)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load_dataset(f"csv:{tmp_path}/none.csv")
    with pytest.raises(UserError):
        load_dataset(f"csv:{tmp_path}")
