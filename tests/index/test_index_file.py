"""An index written and read again: places, codes, settings, names of any bytes, and what plain SQLite sees."""

from __future__ import annotations

import gzip
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.index import CODECS, ModelIdentity, Place, TestVector, open_index, put_settings, writing_index
from tfplaces.index import schema as tables

DIM = 6
MODEL = ModelIdentity("ab" * 32, "mixed_int8", (4, 5), DIM)
GOLDEN_CODE = [25, -26, 127, 21, -106, 72]
PLACES = [
    Place("a.jpg", 52.2, 0.12, 302_000.5, 5_786_000.25, "31N", 359.5, "floor 1", "2019-07", b"0123456789abcdef"),
    Place("Brücke/\u3042 b.jpg", -33.9, 151.2),
    Place("old\udce9name.jpg", easting=1.0, northing=-2.5, group="floor 1"),
    Place("nul\0inside", group="floor 2"),
    Place("line\nfeed.jpg"),
]


def descriptors(count: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def a_test_vector() -> TestVector:
    return TestVector(np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8), descriptors(1)[0])


def write(path: Path, codec: str = "int8", places: list[Place] = PLACES, **settings) -> np.ndarray:
    vectors = descriptors(len(places))
    made = CODECS[codec].fit(vectors) if len(vectors) else CODECS[codec](DIM)
    with writing_index(path, MODEL, made, a_test_vector(), settings) as writer:
        for start in range(0, len(places), 2):  # a part at a time
            some = places[start : start + 2]
            writer.add(some, made.encode(vectors[start : start + 2]), [p.name.encode("utf-8", "replace") for p in some])
    return vectors


@pytest.mark.parametrize("codec", ["float16", "int8"])
def test_what_is_written_is_read(codec: str, tmp_path: Path) -> None:
    path = tmp_path / "a b%3f#?ä.index"
    vectors = write(path, codec, calibration={"slope": 1.5})
    with open_index(path) as index:
        assert (len(index), index.model, index.codec.name, index.version) == (5, MODEL, codec, 1)
        assert index.settings == {"calibration": {"slope": 1.5}}
        assert index.places(range(5)) == PLACES and [p for _, p in index.every_place()] == PLACES
        assert index.ids.tolist() == [1, 2, 3, 4, 5]
        assert index.thumbnail(4) == b"line\nfeed.jpg"
        ((first, codes),) = index.blocks()
        assert first == 0
        np.testing.assert_array_equal(index.codec.decode(codes), index.codec.decode(index.codec.encode(vectors)))
        np.testing.assert_array_equal(index.codes(np.array([3, 1])), codes[[3, 1]])
        np.testing.assert_array_equal(index.columns.groups, [0, -1, 0, 1, -1])
        np.testing.assert_array_equal(index.columns.latitudes, [52.2, -33.9, np.nan, np.nan, np.nan])
        np.testing.assert_array_equal(index.columns.northings, [5_786_000.25, np.nan, -2.5, np.nan, np.nan])
        assert index.test_vector is not None
        np.testing.assert_array_equal(index.test_vector.image, a_test_vector().image)
        np.testing.assert_array_equal(index.test_vector.descriptor, a_test_vector().descriptor)
    assert os.listdir(tmp_path) == [path.name]


def test_plain_sqlite_reads_it(tmp_path: Path) -> None:
    """As Android does: by path, without our code; the seal behind the last page is no trouble to it."""
    path = tmp_path / "a.index"
    write(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT name FROM places WHERE latitude BETWEEN 52 AND 53").fetchall() == [("a.jpg",)]
    assert connection.execute("SELECT typeof(name) FROM places ORDER BY row").fetchall() == [
        ("text",), ("text",), ("blob",), ("blob",), ("text",)
    ]  # fmt: skip
    connection.close()
    in_memory = sqlite3.connect(":memory:")
    in_memory.deserialize(path.read_bytes())  # as browsers do
    assert in_memory.execute("SELECT length(codes) FROM blocks").fetchall() == [(5 * DIM,)]


def test_blocks_are_of_equal_size_but_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("writer", "reader"):
        monkeypatch.setattr(f"tfplaces.index.{module}.rows_per_block", lambda code_bytes: 3)
    places = [Place(str(k)) for k in range(8)]
    vectors = write(tmp_path / "a.index", "float16", places)
    with open_index(tmp_path / "a.index") as index:
        for _ in range(2):  # from the file, and from memory
            assert [(first, len(codes)) for first, codes in index.blocks()] == [(0, 3), (3, 3), (6, 2)]
        found = index.codec.decode(index.codes(np.arange(8)))
        np.testing.assert_allclose(found, vectors, atol=1e-3)


def test_an_index_without_places_is_one(tmp_path: Path) -> None:
    write(tmp_path / "a.index", places=[])
    with open_index(tmp_path / "a.index") as index:
        assert len(index) == 0 and list(index.blocks()) == [] and index.columns.groups.shape == (0,)


def test_settings_are_put_into_an_index_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    write(path, calibration=1, other=2)
    put_settings(path, {"calibration": [3]})
    with open_index(path) as index:
        assert index.settings == {"calibration": [3], "other": 2}
        assert index.places(range(5)) == PLACES
    with pytest.raises(UserError, match="the setting model is one that the index itself uses"):
        put_settings(path, {"model": {}})


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (Place(""), "no name"),
        (Place("a.jpg"), "a.jpg: two places have this name"),
        (Place("x", latitude=1.0), "half of the position"),
        (Place("x", latitude=91.0, longitude=0.0), "latitude 91 is not within"),
        (Place("x", easting=float("nan"), northing=0.0), "out of range"),
        (Place("x", zone="31U"), "zone"),
        (Place("x", group="\udce9"), "UTF-8"),
        (Place("\ud800"), "no text that can be written"),
    ],
)
def test_what_cannot_be_a_place(place: Place, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    write(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=says):
        write(path, places=[Place("a.jpg"), place])
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.index"]


def test_every_row_is_below_what_android_hands_out() -> None:
    for code_bytes in (1, 64, 4096, 2**19, 2**20):
        assert tables.rows_per_block(code_bytes) * code_bytes <= tables.MAX_BLOCK_BYTES < 2 * 10**6


def test_a_file_of_version_1_opens_for_ever(tmp_path: Path) -> None:
    """`tests/golden/version_1.index.gz` was written on 26 November 2026 by `write` above, and stays as it is."""
    path = tmp_path / "a.index"
    golden = Path(__file__).parents[1] / "golden" / "version_1.index.gz"
    path.write_bytes(gzip.decompress(golden.read_bytes()))
    with open_index(path) as index:
        assert (len(index), index.model, index.codec.name, index.version) == (5, MODEL, "int8", 1)
        assert index.settings == {"calibration": {"slope": 1.5}} and index.places(range(5)) == PLACES
        ((_, codes),) = index.blocks()
        assert codes.view(np.int8)[0].tolist() == GOLDEN_CODE
        assert index.test_vector is not None and index.thumbnail(4) == b"line\nfeed.jpg"
