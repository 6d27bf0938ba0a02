"""Damaged and hostile index files: one line that names the file, or an index whose answers are sound.

Damage is found by the seal. A stranger can seal what he likes, so most of what is tried here is sealed again.
TFPLACES_FUZZ=100 tries a hundred times as many.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.index import CODECS, ModelIdentity, Place, TestVector, open_index, writing_index
from tfplaces.index.near import Near, rows_near
from tfplaces.index.scanning import best_matches
from tfplaces.index.seal import seal, unseal
from tfplaces.report.matches import writing_sheet

TRIES = 40 * int(os.environ.get("TFPLACES_FUZZ", "1"))
DIM = 16


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 40 places with everything in it."""
    path = tmp_path_factory.mktemp("good") / "good.index"
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codec = CODECS["int8"].fit(vectors)
    test = TestVector(rng.integers(0, 256, (8, 8, 3), np.uint8), vectors[0])
    model = ModelIdentity("0" * 64, "float32", (8, 8), DIM)
    places = [
        Place(f"{k}.jpg", 52 + k / 1000, 0.1, 3e5 + k, 5.8e6, "31N", float(k), f"floor {k % 3}", "2020", bytes(16))
        for k in range(40)
    ]
    with writing_index(path, model, codec, test, {"calibration": {"slope": 1.0}, "thumbnails": 8}) as writer:
        writer.add(places, codec.encode(vectors), [b"\xff\xd8jpeg"] * 40)
    return path


def use(path: Path, folder: Path) -> str:
    """Does all that can be done with an index; gives the error's line, or nothing when all answers were sound."""
    try:
        with open_index(path) as index:
            rows = np.arange(len(index))
            names, places = index.names(), index.places(rows)
            assert [place.name for place in places] == names
            assert [place for _, place in index.every_place()] == places
            queries = np.eye(index.codec.dimensions, dtype=np.float32)[:3]
            found, scores = best_matches(index.codec, queries, index.blocks(), 5)
            assert found.shape == scores.shape == (len(queries), min(5, len(index)))
            assert np.isfinite(scores).all() and (found >= 0).all() and (found < max(len(index), 1)).all()
            assert len(index.columns.groups) == len(index)
            vector = index.test_vector
            assert vector is None or np.isfinite(vector.descriptor).all()
            with writing_sheet(folder / "sheet.html", "t", []) as sheet:
                sheet.add(np.zeros((4, 4, 3), np.uint8), "q", [(index.thumbnail(row), names[row]) for row in rows[:3]])
            rows_near(index, Near(52.0, 0.1, 1e7))
    except UserError as error:
        text = str(error)
        assert text.isprintable() and str(path) in text and len(text) < 2000
        return text
    return ""


def test_the_good_one_is_good(good: Path, tmp_path: Path) -> None:
    assert use(good, tmp_path) == ""


def test_damage_is_always_found(good: Path, tmp_path: Path) -> None:
    """One byte, anywhere; and what is cut off or longer."""
    data, path = good.read_bytes(), tmp_path / "a.index"
    rng = np.random.default_rng(0)
    for _ in range(TRIES):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        assert use(path, tmp_path)
        path.write_bytes(data[: rng.integers(len(data))])
        assert use(path, tmp_path)
    path.write_bytes(data + b"\0")
    assert use(path, tmp_path)


def sealed(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    seal(path)


def test_sealed_damage(good: Path, tmp_path: Path) -> None:
    """Bytes, runs of bytes and pages that are changed, exchanged or gone, sealed as if that were right."""
    path = tmp_path / "a.index"
    data = good.read_bytes()[:-40]
    pages = len(data) // 8192
    for attempt in range(3 * TRIES):
        rng = np.random.default_rng(attempt)
        changed = bytearray(data)
        kind = attempt % 6
        if kind == 0:
            for _ in range(rng.integers(1, 8)):
                changed[rng.integers(len(data))] = rng.integers(256)
        elif kind == 1:  # in the headers of pages, where numbers mean most
            for _ in range(rng.integers(1, 4)):
                page = int(rng.integers(pages))
                changed[page * 8192 + int(rng.integers(100 if page == 0 else 16)) + 0] = rng.integers(256)
        elif kind == 2:
            start, length = int(rng.integers(len(data))), int(rng.integers(1, 400))
            changed[start : start + length] = rng.bytes(len(changed[start : start + length]))
        elif kind == 3:
            one, other = (int(page) * 8192 for page in rng.integers(0, pages, 2))
            changed[one : one + 8192], changed[other : other + 8192] = (
                changed[other : other + 8192],
                changed[one : one + 8192],
            )
        elif kind == 4:
            del changed[int(rng.integers(len(data))) :]
        else:  # what is stored rather than free
            used = np.flatnonzero(np.frombuffer(data, np.uint8))
            for _ in range(rng.integers(1, 5)):
                changed[int(rng.choice(used))] ^= 1 << int(rng.integers(8))
        sealed(path, bytes(changed))
        use(path, tmp_path)


def by_sql(good: Path, path: Path, *statements: str | tuple[str, Sequence]) -> None:
    """Changes an index by SQL, as a stranger can, and seals it."""
    shutil.copy(good, path)
    unseal(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints=ON")
    for statement in statements:
        connection.execute(*([statement] if isinstance(statement, str) else statement))
    connection.close()
    seal(path)


BIG = 2**62
REFUSED: dict[str, Callable[[], list]] = {
    "trigger": lambda: ["CREATE TRIGGER t AFTER INSERT ON places BEGIN DELETE FROM places; END"],
    "view": lambda: ["CREATE VIEW v AS SELECT * FROM places"],
    "table": lambda: ["CREATE TABLE more (x)"],
    "statistics": lambda: ["ANALYZE"],
    "a view for a table": lambda: [
        "DROP TABLE thumbnails",
        "CREATE VIEW thumbnails AS SELECT id AS place, randomblob(2000000000) AS jpeg FROM places",
    ],
    "no table": lambda: ["DROP TABLE blocks"],
    "no index": lambda: ["DROP INDEX places_by_degrees"],
    "generated column": lambda: ["ALTER TABLE places ADD COLUMN y AS (zeroblob(1000000000))"],
    "application": lambda: ["PRAGMA application_id=1"],
    "version": lambda: ["PRAGMA user_version=2"],
    "version of the past": lambda: ["PRAGMA user_version=-5"],
    "journal mode": lambda: ["PRAGMA journal_mode=WAL"],
    "more places": lambda: [f"UPDATE settings SET value='{BIG}' WHERE key='count'"],
    "fewer places": lambda: ["UPDATE settings SET value='3' WHERE key='count'"],
    "negative places": lambda: ["UPDATE settings SET value='-1' WHERE key='count'"],
    "half a place": lambda: ["UPDATE settings SET value='40.0' WHERE key='count'"],
    "no count": lambda: ["DELETE FROM settings WHERE key='count'"],
    "no json": lambda: ["UPDATE settings SET value='{' WHERE key='model'"],
    "deep json": lambda: [("UPDATE settings SET value=? WHERE key='calibration'", ["[" * 500_000])],
    "json twice": lambda: ["UPDATE settings SET value='{\"a\":1,\"a\":2}' WHERE key='calibration'"],
    "many settings": lambda: [
        "INSERT INTO settings WITH RECURSIVE n(x) AS "
        "(SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<5000) SELECT x, 1 FROM n"
    ],
    "model of another kind": lambda: ["UPDATE settings SET value='[1]' WHERE key='model'"],
    "dimensions": lambda: [f"UPDATE settings SET value=replace(value, ': 16', ': {BIG}')"],
    "no dimensions": lambda: ["UPDATE settings SET value=replace(value, ': 16', ': 0')"],
    "other dimensions": lambda: ["UPDATE settings SET value=replace(value, ': 16', ': 15')"],
    "true dimensions": lambda: ["UPDATE settings SET value=replace(value, ': 16', ': true')"],
    "a huge input": lambda: ["UPDATE settings SET value=replace(value, '[8, 8]', '[16384, 16384]')"],
    "an input of no pixels": lambda: ["UPDATE settings SET value=replace(value, '[8, 8]', '[8, -8]')"],
    "codec": lambda: ["UPDATE settings SET value='\"zip\"' WHERE key='codec'"],
    "codec's state": lambda: ["INSERT INTO contents VALUES ('codec_state', 0, x'00')"],
    "half a content": lambda: ["UPDATE contents SET part=1 WHERE name='test_image'"],
    "test image": lambda: ["UPDATE contents SET content=x'89504e47' WHERE name='test_image'"],
    "test descriptor": lambda: ["UPDATE contents SET content=zeroblob(64) WHERE name='test_descriptor'"],
    "block of zeros": lambda: ["UPDATE blocks SET codes=zeroblob(1900000)"],
    "a row too large": lambda: ["UPDATE blocks SET codes=zeroblob(9000000)"],
    "a text for a block": lambda: ["UPDATE blocks SET codes=7"],
    "no block": lambda: ["DELETE FROM blocks"],
    "block number": lambda: ["UPDATE blocks SET id=-1"],
    "rows": lambda: ["UPDATE places SET row=-row-1"],
    "rows exchanged": lambda: [
        "UPDATE places SET row=99 WHERE id=1",
        "UPDATE places SET row=0 WHERE id=2",
        "UPDATE places SET row=1 WHERE id=1",
    ],
    "a huge row": lambda: [f"UPDATE places SET row={BIG} WHERE id=7"],
    "a text for a row": lambda: ["UPDATE places SET row='x' WHERE id=7"],
    "an id": lambda: [f"UPDATE places SET id=-{BIG} WHERE id=7"],
    "a number as name": lambda: ["UPDATE places SET name=5 WHERE id=7"],
    "no name": lambda: ["UPDATE places SET name='' WHERE id=7"],
    "a name too long": lambda: [("UPDATE places SET name=? WHERE id=7", ["x" * 1_000_000])],
    "latitude": lambda: ["UPDATE places SET latitude=91 WHERE id=7"],
    "infinite latitude": lambda: ["UPDATE places SET latitude=9e999 WHERE id=7"],
    "half a position": lambda: ["UPDATE places SET longitude=NULL WHERE id=7"],
    "a text as latitude": lambda: ["UPDATE places SET latitude='north' WHERE id=7"],
    "easting": lambda: ["UPDATE places SET easting=1e300 WHERE id=7"],
    "zone": lambda: ["UPDATE places SET zone='99N' WHERE id=7"],
    "zone in other digits": lambda: ["UPDATE places SET zone='\u0663N' WHERE id=7"],
    "heading": lambda: ["UPDATE places SET heading=-9e999 WHERE id=7"],
    "group that is no text": lambda: ["UPDATE places SET group_name=CAST(x'ff' AS TEXT) WHERE id=7"],
    "digest": lambda: ["UPDATE places SET digest=zeroblob(65) WHERE id=7"],
    "a text as thumbnail": lambda: ["UPDATE thumbnails SET jpeg=1 WHERE place=1"],
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_stranger_puts_in_is_refused(what: str, good: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    by_sql(good, path, *REFUSED[what]())
    assert use(path, tmp_path)


def test_what_a_stranger_may_change(good: Path, tmp_path: Path) -> None:
    """It is another index then, and a sound one."""
    path = tmp_path / "a.index"
    by_sql(good, path, "UPDATE places SET name=char(27)||'[31m' WHERE id=7", "UPDATE thumbnails SET jpeg=x'ffd8ff'",
           "UPDATE blocks SET codes=zeroblob(640)", "DELETE FROM contents", "UPDATE places SET id=id*2000")  # fmt: skip
    assert use(path, tmp_path) == ""
    with open_index(path) as index:
        assert index.test_vector is None


def test_a_name_like_a_uri_and_a_hot_journal(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.index?mode=rwc&immutable=0#"
    shutil.copy(good, path)
    assert use(path, tmp_path) == ""
    (tmp_path / f"{path.name}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
    assert "another program was writing to it" in use(path, tmp_path)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.index")
    (tmp_path / "empty.index").touch()
    (tmp_path / "other.index").write_bytes(b"x" * 5000)
    for name in ("pipe.index", "empty.index", "other.index", "none.index", "."):
        assert use(tmp_path / name if name != "." else tmp_path, tmp_path)


def test_nothing_is_written_beside_it(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    shutil.copy(good, path)
    path.chmod(0o444)
    use(path, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.index", "sheet.html"] and path.read_bytes() == good.read_bytes()


def test_the_header_is_that_of_the_specification(good: Path) -> None:
    """SQLite's file format: user_version at byte 60, application_id at byte 68, big-endian."""
    data = good.read_bytes()
    assert data[68:72] == b"tfpI" and struct.unpack_from(">i", data, 60) == (1,)
    assert data[-40:-32] == b"tfplaces"
