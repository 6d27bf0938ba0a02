"""The seal of an index: the SHA-256 of the database stands behind its last page, where SQLite does not look.

SQLite finds damage to its own structure, but not a bit that has turned over within a descriptor or a position.
"""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.index.schema import SEAL, SEAL_BYTES

_PIECE = 2**20


def seal(path: str | os.PathLike) -> None:
    """Puts the seal behind the last page of a database that is written, and the whole on the disk."""
    with open(path, "r+b") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(SEAL + digest)
        file.flush()
        os.fsync(file.fileno())


def unseal(path: str | os.PathLike) -> None:
    """Takes the seal off, before a database is written to."""
    os.truncate(path, os.path.getsize(path) - SEAL_BYTES)


def check_seal(file: BinaryIO) -> None:
    """Reads a file to its end.

    Raises:
        UserError: the file has no seal, or its content is not what was sealed.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    left = size - SEAL_BYTES
    digest = hashlib.sha256()
    while left > 0:
        piece = file.read(min(left, _PIECE))
        if not piece:
            raise UserError("it became shorter while it was read")
        digest.update(piece)
        left -= len(piece)
    found = file.read(SEAL_BYTES)
    if found[: len(SEAL)] != SEAL:
        raise UserError("it is cut off, or another program has written to it; copy or build it again")
    if found[len(SEAL) :] != digest.digest():
        raise UserError("it is damaged, or another program has written to it; copy or build it again")
