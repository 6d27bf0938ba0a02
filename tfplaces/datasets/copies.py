"""Finds queries that are in the database too: they are found by their bytes, not by their place."""

from __future__ import annotations

import collections
import hashlib
import os

from tfplaces.datasets.images import ImageFiles

# Files of one size are compared by their beginnings first: these are read at once.
_HEAD = 2**16


def queries_in_database(queries: ImageFiles, database: ImageFiles) -> int:
    """How many query files are database files, or copies of them byte by byte.

    Only files that have the size of another are read.
    """
    sizes: dict[int, list[str]] = collections.defaultdict(list)
    for path in database.paths():
        sizes[os.path.getsize(path)].append(path)
    found = 0
    digests: dict[tuple[str, int | None], bytes] = {}
    for path in queries.paths():
        candidates = sizes.get(os.path.getsize(path), ())
        found += any(
            all(_digest(path, most, digests) == _digest(other, most, digests) for most in (_HEAD, None))
            for other in candidates
        )
    return found


def note_of_copies(queries: ImageFiles, database: ImageFiles) -> tuple[str, ...]:
    """A sentence for the notes of a data set about queries that are in the database too; nothing if there are none."""
    found = queries_in_database(queries, database)
    if not found:
        return ()
    return (f"{found} of {len(queries)} queries are in the database too, byte by byte: finding those shows nothing",)


def _digest(path: str, most: int | None, known: dict[tuple[str, int | None], bytes]) -> bytes:
    """The SHA-256 of a file, or of its first bytes."""
    if (path, most) not in known:
        with open(path, "rb") as file:
            content = file.read(most)
        known[path, most] = hashlib.sha256(content).digest()
    return known[path, most]
