"""A second reader of an index, written from FORMAT.md alone: sqlite3, struct and hashlib, none of our code."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest

from tfplaces.index import CODECS, ModelIdentity, Place, TestVector, schema, writing_index
from tfplaces.index.scanning import best_matches

PAGE = Path(schema.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")


def search(path: Path, query: np.ndarray) -> list[tuple[str, float]]:
    """What FORMAT.md says of a query: names and scores, the best first."""
    data = path.read_bytes()
    assert data[-40:-32] == b"tfplaces" and data[-32:] == hashlib.sha256(data[:-40]).digest()
    assert struct.unpack_from(">i", data, 60) == (1,) and struct.unpack_from(">I", data, 68) == (0x74667049,)
    assert data[18:20] == b"\1\1"
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    settings = {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM settings")}
    dimensions, codes = settings["model"]["dimensions"], b""
    for (block,) in connection.execute("SELECT codes FROM blocks ORDER BY id"):
        assert len(block) <= 2**20
        codes += block
    names = [name for (name,) in connection.execute("SELECT name FROM places ORDER BY row")]
    assert len(names) == settings["count"]
    if settings["codec"] == "float16":
        descriptors = np.frombuffer(codes, "<f2").reshape(-1, dimensions).astype(float)
    else:
        descriptors = np.frombuffer(codes, "i1").reshape(-1, dimensions).astype(float)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    scores = descriptors @ query
    return [(names[row], scores[row]) for row in np.argsort(-scores, kind="stable")]


@pytest.mark.parametrize("name", ["float16", "int8"])
def test_a_reader_from_the_page_finds_the_same(name: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codec = CODECS[name].fit(vectors)
    path = tmp_path / "a.index"
    test = TestVector(np.zeros((4, 4, 3), np.uint8), vectors[0])
    with writing_index(path, ModelIdentity("0" * 64, "float32", (4, 4), 12), codec, test) as writer:
        writer.add([Place(f"{k}.jpg") for k in range(50)], codec.encode(vectors))
    found = search(path, vectors[7])
    rows, scores = best_matches(codec, vectors[7:8], [(0, codec.encode(vectors))], 50)
    assert [name for name, _ in found] == [f"{row}.jpg" for row in rows[0]] and found[0][0] == "7.jpg"
    np.testing.assert_allclose([score for _, score in found], scores[0], atol=1e-6)


def test_the_page_has_the_schema() -> None:
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert block.splitlines() == [sql for *_, sql in schema.SCHEMAS[1] if sql is not None]


def test_the_page_has_every_codec_and_number() -> None:
    for text in (f"version {schema.VERSION}", f"0x{schema.APPLICATION_ID:x}", *(f"`{name}`" for name in CODECS)):
        assert text in PAGE
