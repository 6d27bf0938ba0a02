"""Finds queries that are in the database too: they are found by their bytes, not by their place."""

from __future__ import annotations

import collections
import hashlib
import os

from tfplaces.datasets.images import ImageFiles

# Files of one size are compared by their beginnings first: these are read at once.
_HEAD = 2**12


def queries_in_database(queries: ImageFiles, database: ImageFiles) -> int:
    """How many query files are database files, or copies of them byte by byte.

    Only files that have the size of another are read.
    """
    ours, theirs = _by_size(queries), _by_size(database)
    found = 0
    for size in ours.keys() & theirs.keys():
        by_head: dict[bytes, list[str]] = collections.defaultdict(list)
        for path in theirs[size]:
            by_head[_digest(path, _HEAD)].append(path)
        copied: dict[bytes, set[bytes]] = {}
        for path in ours[size]:
            head = _digest(path, _HEAD)
            if head in by_head:
                if head not in copied:
                    copied[head] = {_digest(other) for other in by_head[head]}
                found += _digest(path) in copied[head]
    return found


def note_of_copies(queries: ImageFiles, database: ImageFiles) -> tuple[str, ...]:
    """A sentence for the notes of a data set about queries that are in the database too; nothing if there are none."""
    found = queries_in_database(queries, database)
    if not found:
        return ()
    return (f"{found} of {len(queries)} queries are in the database too, byte by byte: finding those shows nothing",)


def _by_size(images: ImageFiles) -> dict[int, list[str]]:
    sizes: dict[int, list[str]] = collections.defaultdict(list)
    for path in images.paths():
        sizes[os.path.getsize(path)].append(path)
    return sizes


def _digest(path: str, most: int | None = None) -> bytes:
    """The SHA-256 of a file, or of its first bytes."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(most)).digest()
