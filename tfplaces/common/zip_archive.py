"""Zip archives that someone brings, of which no more is read than their table of contents may have."""

from __future__ import annotations

import zipfile
import zlib
from typing import BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name, printable_reason

# A network of 1000 arrays has 0.2 MB of it. A table of the least entries takes 15 times as much memory.
_MAX_TABLE_BYTES = 2**22
# What damaged archives raise. RuntimeError: encrypted; NotImplementedError: a compression that there is not.
DAMAGES = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError, OverflowError)


def open_zip(file: BinaryIO, source: str, kind: str) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """Opens an archive and lists its members by name, in the file's order.

    Args:
        file: the open file.
        source: its name, for messages.
        kind: what it should be, as in `an .npz file`, for messages.

    Raises:
        UserError: it is no zip archive, its table of contents is damaged or larger than 4 MB, or a name is there twice.
    """
    guarded = _Guarded(file)
    try:
        archive = zipfile.ZipFile(guarded)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except DAMAGES as error:
        raise UserError(f"{source}: not {kind} ({printable_reason(error)})") from None
    guarded.most = None
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in members:
            raise UserError(f"{source}: the archive has two members called {printable_name(info.filename[:80])}")
        members[info.filename] = info
    return archive, members


class _Guarded:
    """A file from which zipfile, while `most` is set, does not read a table of contents of any size at once."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.most: int | None = _MAX_TABLE_BYTES
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if self.most is None:
            return self._file.read(size)
        data = self._file.read(min(size, self.most + 1) if size >= 0 else self.most + 1)
        if len(data) > self.most:
            raise UserError(f"the archive's table of contents has more than {self.most:,} bytes")
        return data

    def close(self) -> None:
        """Leaves the file to its owner."""
