"""Opening the database of an index that a stranger may have made: read-only, and nothing in it is executed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import sys
import urllib.parse
from collections.abc import Iterator
from typing import BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.common.files import open_regular
from tfplaces.common.text import printable_name, printable_reason
from tfplaces.index.schema import APPLICATION_ID, MAX_ROW_BYTES, SCHEMAS, VERSION
from tfplaces.index.seal import check_seal

# What SQLite is allowed, far above what an index needs and far below what would harm.
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_ROW_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 20,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 2,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_PRAGMAS = ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "query_only=ON", "temp_store=MEMORY")
# By Python from 3.12 on.
_CONFIGURATION = {
    "SQLITE_DBCONFIG_DEFENSIVE": True,
    "SQLITE_DBCONFIG_ENABLE_TRIGGER": False,
    "SQLITE_DBCONFIG_ENABLE_VIEW": False,
    "SQLITE_DBCONFIG_TRUSTED_SCHEMA": False,
    "SQLITE_DBCONFIG_WRITABLE_SCHEMA": False,
}
_HEADER_BYTES = 100


def connect_read_only(path: str | os.PathLike) -> tuple[sqlite3.Connection, int]:
    """Opens a database once its seal, its header, its tables and its pages are found to be those of an index.

    Texts come as bytes, so that nothing is decoded before it is looked at.

    Returns:
        the connection, and the version of the format.

    Raises:
        UserError: no such file, no index, one of a newer format, a damaged one, or one that is being written to.
    """
    with errors_named(path):
        with open_regular(path) as file:
            version = _check_header(file)
            check_seal(file)
        journal = f"{os.fsdecode(path)}-journal"
        if os.path.exists(journal) and os.path.getsize(journal):
            raise UserError("another program was writing to it and was stopped; copy or build it again")
        address = urllib.parse.quote(os.fsencode(os.path.abspath(os.fsdecode(path))))
        connection = sqlite3.connect(f"file:{address}?mode=ro&immutable=1", uri=True, isolation_level=None)
        try:
            _prepare(connection)
            _check(connection, version)
        except BaseException:
            connection.close()
            raise
    return connection, version


def _check_header(file: BinaryIO) -> int:
    header = file.read(_HEADER_BYTES)
    if not header.startswith(b"SQLite format 3\0") or len(header) < _HEADER_BYTES:
        raise UserError("no index of places (not an SQLite database)")
    if header[18:20] != b"\1\1":
        raise UserError("in another journal mode than an index is; build it again")
    (version,), (application,) = struct.unpack_from(">i", header, 60), struct.unpack_from(">i", header, 68)
    if application != APPLICATION_ID:
        raise UserError("no index of places (an SQLite database of another program)")
    if version not in SCHEMAS:
        newer = version > VERSION
        raise UserError(
            f"an index of format {version}, which this tfplaces "
            + (f"is too old for: it reads up to {VERSION}; update it" if newer else "does not know")
        )
    return version


def _prepare(connection: sqlite3.Connection) -> None:
    connection.text_factory = bytes
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    if sys.version_info >= (3, 12):
        for name, value in _CONFIGURATION.items():
            with contextlib.suppress(AttributeError, sqlite3.OperationalError):  # of an older SQLite
                connection.setconfig(getattr(sqlite3, name), value)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _check(connection: sqlite3.Connection, version: int) -> None:
    expected = {tuple(_bytes(value) for value in row) for row in SCHEMAS[version]}
    found: set[tuple[bytes | None, ...]] = set()
    for row in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"):
        if row not in expected or row in found:
            raise UserError("no index of places: it has other tables, indices, views or triggers than an index")
        found.add(row)
    if found != expected:
        raise UserError("no index of places: tables of an index are missing")
    answers = connection.execute("PRAGMA quick_check(1)").fetchall()
    if answers != [(b"ok",)]:
        raise UserError("it is damaged; copy or build it again")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


@contextlib.contextmanager
def errors_named(path: str | os.PathLike) -> Iterator[None]:
    """Around all that reads an index: what SQLite raises for damage becomes a UserError, and errors name the file."""
    name = printable_name(os.fsdecode(path))
    try:
        yield
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(f"{name}: ") else f"{name}: {error}") from None
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise UserError(
            f"{name}: cannot be read as an index ({printable_reason(error)}); copy or build it again"
        ) from None
