"""Mapillary Street-Level Sequences in miniature, by both protocols, and tables that are not as published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import load_dataset
from tfplaces.evaluation import score

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")

# Key, easting, in the subtask, panorama, night, sequence.
Row = tuple[str, float, bool, bool, bool, str]


def write_csv(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    """As pandas writes it, with an unnamed index in the first column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(map(str, [k, *row])) for k, row in enumerate(rows)]
    path.write_text("\n".join([f",{header}", *lines]) + "\n")


def write_role(folder: Path, rows: Sequence[Row], test: bool = False) -> None:
    write_csv(folder / "seq_info.csv", "key,sequence_key,frame_number", [(r[0], r[5], k) for k, r in enumerate(rows)])
    write_csv(folder / "subtask_index.csv", "key,all,s2w", [(r[0], r[2], False) for r in rows])
    if not test:
        write_csv(folder / "raw.csv", "key,lon,lat,ca,captured_at,pano", [(r[0], 1, 2, 3, "x", r[3]) for r in rows])
        header = "key,easting,northing,unique_cluster,control_panel,night,view_direction"
        write_csv(folder / "postprocessed.csv", header, [(r[0], r[1], 5e6, 0, False, r[4], "Forward") for r in rows])


def photo(key: str, easting: float, subtask: bool = True, pano: bool = False, night: bool = False) -> Row:
    return key, easting, subtask, pano, night, f"seq-{key[:2]}"


@pytest.fixture
def msls(tmp_path: Path) -> Path:
    """Two cities whose coordinates are the same, as those of different zones may be."""
    base = tmp_path / "train_val"
    write_role(base / "cph/query", [photo("c0", 0.0), photo("c1", 40, night=True), photo("c2", 0, subtask=False)])
    write_role(base / "cph/database", [photo("cA", 10), photo("cB", 10, pano=True), photo("cC", 25), photo("cD", 25.1)])
    write_role(base / "sf/query", [photo("s0", 0), photo("s1", 900), photo("s2", 0, pano=True)])
    write_role(base / "sf/database", [photo("sA", 5), photo("sB", 5, subtask=False), photo("sC", 500)])
    return tmp_path


def test_each_query_in_its_own_city(msls: Path) -> None:
    dataset = load_dataset(f"msls:{msls}")
    assert dataset.queries.names == [f"{name}.jpg" for name in (
        "cph/query/images/c0", "cph/query/images/c1", "sf/query/images/s0", "sf/query/images/s1",
    )]  # fmt: skip
    assert [name[-6:-4] for name in dataset.database.names] == ["cA", "cC", "cD", "sA", "sC"]
    assert [row.tolist() for row in dataset.positives] == [[0, 1], [1, 2], [3], []]
    assert [row.tolist() for row in dataset.junk] == [[3, 4], [3, 4], [0, 1, 2], [0, 1, 2]]
    assert [row.tolist() for row in dataset.truth.training_positives] == [[0], [], [3], []]
    assert dataset.truth.query_conditions.tolist() == ["day", "night", "day", "day"]
    assert dataset.truth.query_cities.tolist() == ["cph", "cph", "sf", "sf"]
    assert dataset.truth.query_sequences.tolist() == ["seq-c0", "seq-c1", "seq-s0", "seq-s1"]
    assert dataset.notes[0] == "4 of 747 queries and 5 of 18,871 database images"
    assert "in its own city (protocol=cities)" in dataset.notes[-1]


def test_the_queries_of_papers_in_both_cities_at_once(msls: Path) -> None:
    dataset = load_dataset(f"msls:{msls}?protocol=740")
    assert [name[-6:-4] for name in dataset.queries.names] == ["c0", "c1", "s0"]
    assert dataset.junk is None and dataset.protocol == "msls"
    assert [row.tolist() for row in dataset.positives] == [[0, 1], [1, 2], [3]]
    assert dataset.notes[0] == "3 of 740 queries and 5 of 18,871 database images"
    assert "in both cities at once (protocol=740)" in dataset.notes[-1]


def test_the_protocols_differ_by_what_is_searched(msls: Path) -> None:
    """Each query's best match is in the other city, its second is right."""
    vectors = np.eye(5)
    queries = np.array([vectors[3] + 0.5 * vectors[0], vectors[3] + 0.5 * vectors[1], vectors[0] + 0.5 * vectors[3]])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    by_city = load_dataset(f"msls:{msls}")
    assert score(by_city, np.vstack([queries, vectors[:1]]), vectors).recall[1] == 100
    at_once = load_dataset(f"msls:{msls}?protocol=740")
    assert score(at_once, queries, vectors).recall[1] == 0


def test_one_city(msls: Path) -> None:
    dataset = load_dataset(f"msls:{msls}?city=sf")
    assert [row.tolist() for row in dataset.positives] == [[0], []]
    assert dataset.junk is None
    assert dataset.notes[0] == "2 queries and 2 database images"


def test_images_are_read(msls: Path, write_photos: Callable[..., Path]) -> None:
    write_photos(*(f"train_val/{name}" for name in load_dataset(f"msls:{msls}").database.names))
    dataset = load_dataset(f"msls:{msls}")
    assert dataset.database.read(4, (4, 4)).shape == (4, 4, 3)
    assert "4 of 4 queries are missing" in dataset.notes[1]


def test_training_takes_all_subtasks(tmp_path: Path) -> None:
    folder = tmp_path / "train_val/london"
    write_role(folder / "query", [photo("a", 0, subtask=False), photo("b", 0, pano=True)])
    write_role(folder / "database", [photo("c", 9, subtask=False), photo("d", 20)])
    dataset = load_dataset(f"msls:{tmp_path}?split=train&city=london")
    assert [row.tolist() for row in dataset.positives] == [[0, 1]]
    assert dataset.truth.to_train(0).tolist() == [0]
    assert dataset.truth.never_negative(0).tolist() == [0, 1]


def test_the_test_has_no_ground_truth(tmp_path: Path) -> None:
    for city in ("miami", "athens"):
        write_role(tmp_path / f"test/{city}/query", [photo("a", 0)], test=True)
        write_role(tmp_path / f"test/{city}/database", [photo("b", 0), photo("c", 0, subtask=False)], test=True)
    dataset = load_dataset(f"msls:{tmp_path}?split=test&city=miami,athens")
    assert dataset.database.names == ["miami/database/images/b.jpg", "athens/database/images/b.jpg"]
    assert dataset.answerable() == []
    assert "it can be described, not scored" in dataset.notes[-1]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("raw.csv", ("False", "no"), "raw.csv: pano is neither True nor False on lines 2 and 3"),
        ("raw.csv", ("pano", "panorama"), "raw.csv: has no column pano"),
        ("raw.csv", ("s0", "s9"), "raw.csv: lists other images than seq_info.csv"),
        ("subtask_index.csv", ("s1", "../x"), "subtask_index.csv: lists other images"),
        ("postprocessed.csv", ("900", "far"), "postprocessed.csv: easting is no number of metres on line 3"),
        ("postprocessed.csv", ("900", "nan"), "postprocessed.csv: easting is no number of metres on line 3"),
        ("postprocessed.csv", ("900", "1e300"), "postprocessed.csv: easting is no number of metres on line 3"),
    ],
)
def test_tables_that_do_not_fit(file: str, change: tuple[str, str], message: str, msls: Path) -> None:
    path = msls / "train_val/sf/query" / file
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UserError, match=message) as raised:
        load_dataset(f"msls:{msls}")
    assert "\n" not in str(raised.value)


def test_a_key_that_leads_elsewhere(msls: Path) -> None:
    for path in (msls / "train_val/sf/query").glob("*.csv"):
        path.write_text(path.read_text().replace("s0", "../../x"))
    with pytest.raises(UserError, match="is no name of a file inside the folder"):
        load_dataset(f"msls:{msls}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("city=london", "city=london: the cities of val are cph, sf"),
        ("city=sf,sf", "the cities of val are cph, sf"),
        ("split=train&protocol=740", "protocol=740 is of the split val, not train"),
        ("split=test", "no folder test there"),
        ("split=train&city=goa", r"goa.query.seq_info\.csv: no such file"),
        ("protocol=all", "protocol=all is not one of cities, 740"),
    ],
)
def test_what_is_not_there(options: str, message: str, msls: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_dataset(f"msls:{msls}?{options}")
