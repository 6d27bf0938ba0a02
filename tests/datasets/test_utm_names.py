"""Folders of photos with UTM coordinates in their names: every layout, and what may be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.datasets import PlaceDataset, has_splits, load_dataset, training_sets
from tfplaces.datasets.positions import to_utm

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")

Write = Callable[..., Path]


def name(
    east: float, north: float = 0, *, panorama: str = "", heading: str = "", zone: str = "@", time: str = ""
) -> str:
    return f"@{east:010.2f}@{north:010.2f}@{zone}@52.2@0.1@{panorama}@@{heading}@@@@{time}@@.png"


def positives(dataset: PlaceDataset) -> list[list[int]]:
    return [row.tolist() for row in dataset.positives]


QUERIES, DATABASE = [name(0), name(100)], [name(10), name(10.1), name(25), name(25.1)]


@pytest.mark.parametrize("base", ["", "images/"])
@pytest.mark.parametrize("split", ["", "train/", "test/"])
def test_queries_and_database(write_photos: Write, base: str, split: str) -> None:
    """25 m count and 25.1 m do not; training takes 10 m."""
    root = write_photos(
        *(f"{base}{split}queries/{q}" for q in QUERIES), *(f"{base}{split}database/a/{d}" for d in DATABASE)
    )
    dataset = load_dataset(f"utm:{root}")
    assert positives(dataset) == [[0, 1, 2], []]
    assert dataset.truth.to_train(0).tolist() == [0]
    assert dataset.truth.never_negative(0).tolist() == [0, 1, 2]
    assert dataset.notes == (
        "2 queries, 4 database images; 1 of the queries have something to be found within 25 m",
        *([f"this is the split {split[:-1]}"] if split else []),
    )
    assert dataset.queries.read(0, (4, 4)).shape == (4, 4, 3)
    assert not has_splits(f"utm:{root}")
    assert positives(load_dataset(f"utm:{root}?radius=10")) == [[0], []]
    assert positives(load_dataset(f"utm:{root}?radius=100")) == [[0, 1, 2, 3]] * 2


def test_splits(write_photos: Write) -> None:
    """Training and validation take theirs; a tool that asks for none takes the test's."""
    files = [
        f"{split}/{part}/{name(1000 * number + east)}"
        for number, split in enumerate(("train", "val", "test"))
        for part, east in (("queries", 0), ("database", 5))
    ]
    spec = f"utm:{write_photos(*files)}"
    assert has_splits(spec) and not has_splits(f"{spec}?split=val")
    assert load_dataset(spec).queries.names == [name(2000)]
    assert load_dataset(f"{spec}?split=train").queries.names == [name(0)]
    train, val = training_sets(spec)
    assert (train.queries.names, val.queries.names) == ([name(0)], [name(1000)])


def test_a_split_that_is_missing_is_said(write_photos: Write) -> None:
    spec = f"utm:{write_photos(f'val/{name(0)}', f'train/{name(0)}')}"
    with pytest.raises(UserError, match="name a split; there are train and val"):
        load_dataset(spec)
    with pytest.raises(UserError, match="no split test; there are train and val"):
        load_dataset(f"{spec}?split=test")
    assert len(load_dataset(spec, "train").queries) == 1


def test_nothing_but_a_test_split_is_never_trained_on(write_photos: Write) -> None:
    spec = f"utm:{write_photos(f'test/queries/{name(0)}', f'test/database/{name(0)}')}"
    with pytest.raises(UserError, match="no split train; there are test"):
        training_sets(spec)


def test_panoramas(write_photos: Write) -> None:
    """One folder of panoramas: what a photo must find are photos of other panoramas; its own tell nothing."""
    names = [name(6 * p, panorama=f"{p:04d}", heading=f"{h:03d}") for p in range(6) for h in (0, 180)]
    root = write_photos(*(f"images/{n}" for n in names))
    dataset = load_dataset(f"utm:{root}")
    assert dataset.queries.names == dataset.database.names == names
    assert dataset.notes[0].startswith("12 images of 6 panoramas, each a query")
    assert dataset.truth.others(0).tolist() == list(range(2, 10))  # 24 m are near, 30 m are not
    assert dataset.ignored(0).tolist() == [0, 1]
    assert dataset.truth.to_train(2).tolist() == [0, 1, 4, 5]
    assert dataset.truth.never_negative(2).tolist() == list(range(12))
    ahead = load_dataset(f"utm:{root}?max_angle=45")
    assert ahead.truth.others(0).tolist() == [2, 4, 6, 8]
    assert ahead.truth.never_negative(0).tolist() == list(range(10))


def test_a_town_of_panoramas_is_split_by_place(write_photos: Write) -> None:
    root = write_photos(*(name(200 * p + 5 * k, panorama=f"{p}-{k}") for p in range(10) for k in (0, 1)))
    train, val = training_sets(f"utm:{root}")
    positions = [set(side.truth.query_positions[:, 0] // 200) for side in (train, val)]
    assert len(positions[0] | positions[1]) == 10 and not positions[0] & positions[1]
    assert len(train.database) == len(train.queries) == 16


def test_angles_go_round(write_photos: Write) -> None:
    """350 and 10 degrees differ by 20; headings may exceed 360."""
    files = [f"database/{name(0, heading=h)}" for h in ("010", "200", "370", "090")]
    root = write_photos(f"queries/{name(0, heading='350')}", *files)
    dataset = load_dataset(f"utm:{root}?max_angle=20")
    assert [dataset.database.names[i].split("@")[9] for i in dataset.positives[0]] == ["010", "370"]


def test_fields_beyond_the_first_two_may_be_missing_or_strange(write_photos: Write) -> None:
    names = ["@1@2.jpg", "@1.5@2@.png", "@-3@+4@99@?@x@y@z@.jpg", "x@5@6@.jpg", "@nan@1@.jpg", "@1e3@1@.jpg", "@7.jpg"]
    dataset = load_dataset(f"utm:{write_photos(*names)}")
    assert len(dataset.queries) == 3
    assert "4 of 7 images in" in dataset.notes[1] and "first: @1e3@1@.jpg" in dataset.notes[1]


def test_zones_meet(write_photos: Write) -> None:
    """On either side of Greenwich, 13.7 m apart; between zones distances are those on the earth."""
    east, west = (
        to_utm(np.array([52.2]), np.array([longitude]), np.array([zone]))[0]
        for longitude, zone in ((0.0001, 31), (-0.0001, 30))
    )
    root = write_photos(f"queries/{name(*east, zone='31@U')}", f"database/{name(*west, zone='30@U')}")
    assert positives(load_dataset(f"utm:{root}")) == [[0]]
    assert positives(load_dataset(f"utm:{root}?radius=13")) == [[]]


def test_two_positions_in_a_name_that_contradict_each_other_are_noticed(write_photos: Write) -> None:
    """The real name of a panorama in Cambridge, and the same with latitude and longitude swapped."""
    start, end = "@0302818.48@5787827.87@31@U@", "@0855@@{}@@@@@@.png"
    names = [f"{start}52.2055679@0.1142114{end.format('000')}", f"{start}0.1142114@52.2055679{end.format('090')}"]
    root = write_photos(*names, f"{start}152@0{end.format('180')}")
    dataset = load_dataset(f"utm:{root}")
    assert "in 2 of 3 names latitude and longitude are another place" in dataset.notes[1]
    (root / names[1]).unlink()
    (root / f"{start}152@0{end.format('180')}").unlink()
    assert len(load_dataset(f"utm:{root}").notes) == 1


def test_times(write_photos: Write) -> None:
    root = write_photos(f"queries/{name(0, time='202105')}", f"database/{name(0, time='201301')}")
    truth = load_dataset(f"utm:{root}").truth
    assert truth.query_times is not None and truth.database_times is not None
    assert truth.database_times[0] < truth.query_times[0]


def test_a_list_of_paths_stands_for_a_folder(write_photos: Write) -> None:
    root = write_photos(f"queries/{name(0)}", f"database/x/{name(1)}", f"database/x/{name(2)}")
    (root / "database_images_paths.txt").write_text(f"x/{name(2)}\r\n")
    assert load_dataset(f"utm:{root}").database.names == [f"x/{name(2)}"]
    (root / "database_images_paths.txt").write_text("../secret.png\n")
    with pytest.raises(UserError, match=r"_images_paths\.txt: \.\./secret\.png points outside"):
        load_dataset(f"utm:{root}")


def test_several_sets_of_queries(write_photos: Write) -> None:
    """SF-XL has queries_v1 and queries_v2."""
    root = write_photos(f"queries_v1/{name(0)}", f"queries_v2/{name(9)}", f"database/{name(0)}")
    with pytest.raises(UserError, match=r"no queries; of queries there is queries_v1, queries_v2: \?queries=NAME"):
        load_dataset(f"utm:{root}")
    assert load_dataset(f"utm:{root}?queries=queries_v2").queries.names == [name(9)]


@pytest.mark.parametrize(
    "files, options, said",
    [
        (["a.png"], "", "no image in .* is named @easting@northing@…, as a.png shows"),
        (["a.txt.png", name(0)], "?radius=0", "radius=0, but it must be above 0"),
        ([name(0)], "?max_angle=200", "max_angle=200, but"),
        ([name(0)], "?max_angle=40", "1 of 1 images have none, first: @"),
        ([f"queries/{name(0)}"], "", "has queries, but no database"),
        (["queries/a.png", f"database/{name(0)}"], "", "as a.png shows"),
        ([f"queries/{name(0)}", "database/a.png"], "", "as a.png shows"),
        ([f"queries/{name(0, zone='30@U')}", f"database/{name(9e9, zone='31@U')}"], "", "easting 9e\\+09"),
    ],
)
def test_one_line_for_what_is_wrong(write_photos: Write, files: list[str], options: str, said: str) -> None:
    root = write_photos(*files)
    with pytest.raises(UserError, match=said) as raised:
        load_dataset(f"utm:{root}{options}")
    assert "\n" not in str(raised.value)


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_dataset(f"utm:{tmp_path}/none")
    with pytest.raises(UserError, match="no images there"):
        load_dataset(f"utm:{tmp_path}")


def test_real_panoramas(tfplaces_data: Path) -> None:
    """Numbers of the set's own description."""
    with pytest.warns(DataWarning, match="2,392 images of 598 panoramas"):
        dataset = load_dataset(f"utm:{tfplaces_data}/cambridge_train")
    assert len(dataset.queries) == len(dataset.database) == 2392
    assert dataset.truth.own_images is not None and len(dataset.truth.own_images) == 2392


@pytest.mark.parametrize("options, key", [("", "positives"), ("?max_angle=45", "positives_same_heading")])
def test_real_positives_are_those_of_the_ground_truth(tfplaces_data: Path, options: str, key: str) -> None:
    """The set's gt.json was made by another program."""
    truth = json.loads((tfplaces_data / "cambridge_val/gt.json").read_text())
    dataset = load_dataset(f"utm:{tfplaces_data}/cambridge_val{options}")
    expected = {q: {truth["database"][i] for i in row} for q, row in zip(truth["queries"], truth[key], strict=True)}
    assert {
        q: {dataset.database.names[i] for i in row}
        for q, row in zip(dataset.queries.names, dataset.positives, strict=True)
    } == expected
