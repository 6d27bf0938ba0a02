"""The tables of an index, an SQLite database; FORMAT.md says what is in them."""

from __future__ import annotations

# "tfpI", the application id in the header of the file, and the version of the format, its user_version.
APPLICATION_ID = 0x74667049
VERSION = 1

# Rows of tables stay below this, as Android hands out 2 MB of a row at most; so do the pieces of larger contents.
MAX_BLOCK_BYTES = 2**20
# SQLite is told to refuse longer rows, texts and blobs.
MAX_ROW_BYTES = 2**21
PAGE_BYTES = 8192

# What stands behind the last page: these bytes, and the SHA-256 of all that comes before them.
SEAL = b"tfplaces"
SEAL_BYTES = len(SEAL) + 32

# By version: what sqlite_schema holds, (type, name, table, sql), in the order of its making.
SCHEMAS: dict[int, tuple[tuple[str, str, str, str | None], ...]] = {
    1: (
        (
            "table",
            "settings",
            "settings",
            "CREATE TABLE settings (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID",
        ),
        (
            "table",
            "contents",
            "contents",
            "CREATE TABLE contents (name TEXT NOT NULL, part INTEGER NOT NULL, content BLOB NOT NULL, "
            "PRIMARY KEY (name, part))",
        ),
        ("index", "sqlite_autoindex_contents_1", "contents", None),
        (
            "table",
            "places",
            "places",
            "CREATE TABLE places (id INTEGER PRIMARY KEY NOT NULL, row INTEGER NOT NULL UNIQUE, name NOT NULL UNIQUE, "
            "latitude REAL, longitude REAL, easting REAL, northing REAL, zone TEXT, heading REAL, group_name TEXT, "
            "time TEXT, digest BLOB NOT NULL)",
        ),
        ("index", "sqlite_autoindex_places_1", "places", None),
        ("index", "sqlite_autoindex_places_2", "places", None),
        (
            "index",
            "places_by_degrees",
            "places",
            "CREATE INDEX places_by_degrees ON places (latitude, longitude) WHERE latitude IS NOT NULL",
        ),
        (
            "index",
            "places_by_metres",
            "places",
            "CREATE INDEX places_by_metres ON places (easting, northing) WHERE easting IS NOT NULL",
        ),
        (
            "table",
            "blocks",
            "blocks",
            "CREATE TABLE blocks (id INTEGER PRIMARY KEY NOT NULL, codes BLOB NOT NULL)",
        ),
        (
            "table",
            "thumbnails",
            "thumbnails",
            "CREATE TABLE thumbnails (place INTEGER PRIMARY KEY NOT NULL, jpeg BLOB NOT NULL)",
        ),
    ),
}


def rows_per_block(code_bytes: int) -> int:
    """How many places a block of codes has, except for the last one, which may have fewer."""
    return max(1, MAX_BLOCK_BYTES // code_bytes)
