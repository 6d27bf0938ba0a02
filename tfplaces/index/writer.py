"""Writing an index: always a whole new file, which takes the place of the old one at once."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import replacing
from tfplaces.common.text import printable_name, printable_reason
from tfplaces.index.codecs import Codec
from tfplaces.index.place import MAX_NAME_BYTES, ModelIdentity, Place, TestVector
from tfplaces.index.reader import OWN_SETTINGS, open_index
from tfplaces.index.schema import APPLICATION_ID, MAX_BLOCK_BYTES, PAGE_BYTES, SCHEMAS, VERSION, rows_per_block
from tfplaces.index.seal import seal, unseal

_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


class IndexWriter:
    """Takes places and their codes, in the order of their rows; `writing_index` makes one."""

    def __init__(self, connection: sqlite3.Connection, codec: Codec):
        self._connection, self._codec = connection, codec
        self._step = rows_per_block(codec.code_bytes)
        self._waiting: list[np.ndarray] = []
        self._blocks = 0
        self._last_id = 0
        self.count = 0

    def add(
        self,
        places: Sequence[Place],
        codes: np.ndarray,
        thumbnails: Sequence[bytes | None] | None = None,
        ids: Sequence[int] | None = None,
    ) -> None:
        """Adds places behind those that are there.

        Args:
            places: what is known of them.
            codes: of their descriptors, uint8 `[len(places), code_bytes]`.
            thumbnails: a small JPEG of each or None.
            ids: ascending, greater than all before and than 0; by default the next ones.

        Raises:
            UserError: a place cannot be, has a name that is there already, or a thumbnail that is too large.
        """
        if codes.shape != (len(places), self._codec.code_bytes) or codes.dtype != np.uint8:
            raise ValueError(f"codes {codes.dtype} {codes.shape} for {len(places)} places")
        numbers = range(self._last_id + 1, self._last_id + 1 + len(places)) if ids is None else ids
        pictures = [None] * len(places) if thumbnails is None else thumbnails
        for place, number, picture in zip(places, numbers, pictures, strict=True):
            try:
                self._add(place, number, picture)
            except UserError as error:
                raise UserError(f"{printable_name(place.name)}: {error}") from None
        self._waiting.append(codes)
        while sum(map(len, self._waiting)) >= self._step:
            self._write_block()

    def _add(self, place: Place, number: int, thumbnail: bytes | None) -> None:
        place.check()
        if number <= self._last_id:
            raise ValueError(f"the id {number} after {self._last_id}")
        row = (
            number, self.count, _stored_name(place.name), place.latitude, place.longitude, place.easting,
            place.northing, place.zone, place.heading, place.group, place.time, place.digest,
        )  # fmt: skip
        try:
            self._connection.execute(f"INSERT INTO places VALUES ({', '.join('?' * len(row))})", row)
        except sqlite3.IntegrityError:
            raise UserError("two places have this name; an index takes one, so rename one of the photos") from None
        except UnicodeEncodeError:
            raise UserError("its group or time cannot be written as UTF-8") from None
        if thumbnail is not None:
            if len(thumbnail) > MAX_BLOCK_BYTES:
                raise UserError(f"a thumbnail of {len(thumbnail):,} bytes; at most {MAX_BLOCK_BYTES:,} are possible")
            self._connection.execute("INSERT INTO thumbnails VALUES (?, ?)", (number, thumbnail))
        self.count += 1
        self._last_id = number

    def _write_block(self) -> None:
        codes = np.concatenate(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        block, rest = codes[: self._step], codes[self._step :]
        self._connection.execute("INSERT INTO blocks VALUES (?, ?)", (self._blocks, block.tobytes()))
        self._blocks += 1
        self._waiting = [rest] if len(rest) else []

    def finish(self) -> None:
        """Writes what is left."""
        if self._waiting:
            self._write_block()
        _put(self._connection, {"count": self.count})


@contextlib.contextmanager
def writing_index(
    path: str | os.PathLike,
    model: ModelIdentity,
    codec: Codec,
    test_vector: TestVector | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[IndexWriter]:
    """Writes an index; at the end of the `with`, and only then, it takes the place of what is at the path.

    Args:
        path: the file to make or replace.
        model: what described the places.
        codec: how their descriptors are written.
        test_vector: by which another runtime is noticed.
        settings: values of JSON to put into it, by key.

    Raises:
        UserError: there is no room on the disk, a value is out of range, or the path is no file.
    """
    model.check()
    with replacing(path) as temporary:
        with _database(temporary, path) as connection:
            _make_tables(connection)
            stored = {"sha256": model.sha256, "precision": model.precision, "input_size": list(model.input_size),
                      "dimensions": model.dimensions}  # fmt: skip
            _check_settings(settings or {})
            _put(connection, {"model": stored, "codec": codec.name, **(settings or {})})
            _put_content(connection, "codec_state", codec.state())
            if test_vector is not None:
                _put_content(connection, "test_image", _png(test_vector.image))
                _put_content(connection, "test_descriptor", test_vector.descriptor.astype("<f4").tobytes())
            writer = IndexWriter(connection, codec)
            yield writer
            writer.finish()
        _seal(temporary, path)


def put_settings(path: str | os.PathLike, settings: Mapping[str, Any]) -> None:
    """Puts values of JSON into an index that is there, by key; its other settings stay. The file is replaced at once.

    Raises:
        UserError: it is no index, a key is one that the index itself uses, or there is no room on the disk.
    """
    _check_settings(settings)
    open_index(path).close()
    with replacing(path) as temporary:
        with _full_disk_named(path, OSError):
            shutil.copyfile(path, temporary)
        unseal(temporary)
        with _database(temporary, path) as connection:
            _put(connection, settings)
        _seal(temporary, path)


@contextlib.contextmanager
def _database(temporary: str, path: str | os.PathLike) -> Iterator[sqlite3.Connection]:
    """A connection whose changes are written at the end of the `with`; the file goes if there is none."""
    connection = sqlite3.connect(temporary, isolation_level=None)
    try:
        with _full_disk_named(path, sqlite3.OperationalError):
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            # What fails leaves a temporary file, which is removed; it is put on the disk when it is sealed.
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", "cache_size=-65536"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
    finally:
        connection.close()


def _seal(temporary: str, path: str | os.PathLike) -> None:
    with _full_disk_named(path, OSError):
        seal(temporary)


@contextlib.contextmanager
def _full_disk_named(path: str | os.PathLike, kind: type[Exception]) -> Iterator[None]:
    """Names the file where what writes it raises errors of a kind, which would say nothing of it."""
    try:
        yield
        return
    except kind as error:
        if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF not in _FULL:
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or printable_reason(error)
    name = printable_name(os.fsdecode(path))
    raise UserError(f"{name}: cannot be written ({reason}); make room, or choose another folder") from None


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    for *_, sql in SCHEMAS[VERSION]:
        if sql is not None:
            connection.execute(sql)


def _check_settings(settings: Mapping[str, Any]) -> None:
    own = [key for key in settings if key in OWN_SETTINGS]
    if own:
        raise UserError(f"the setting {own[0]} is one that the index itself uses")


def _put(connection: sqlite3.Connection, settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        text = json.dumps(value, allow_nan=False)
        if len(text) > MAX_BLOCK_BYTES:
            raise UserError(f"the setting {key} is too large: {len(text):,} bytes")
        connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, text))


def _put_content(connection: sqlite3.Connection, name: str, content: bytes) -> None:
    for part, start in enumerate(range(0, len(content), MAX_BLOCK_BYTES)):
        piece = content[start : start + MAX_BLOCK_BYTES]
        connection.execute("INSERT INTO contents VALUES (?, ?, ?)", (name, part, piece))


def _stored_name(name: str) -> str | bytes:
    """A name as SQLite takes it: text, or bytes where a file's name is no UTF-8."""
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UserError("the name is no text that can be written") from None
    if len(encoded) > MAX_NAME_BYTES:
        raise UserError("the name is too long")
    try:
        return encoded if "\0" in name else encoded.decode()
    except UnicodeDecodeError:
        return encoded


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=True)
    return file.getvalue()
