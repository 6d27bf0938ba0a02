"""Folders to convert in: on the disk of the result, under names that TensorFlow takes."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator

from tfplaces.common.errors import UserError
from tfplaces.common.files import working_folder

# Of names of folders: TensorFlow takes them for patterns.
_PATTERN_CHARACTERS = set("*?[]\\")


@contextlib.contextmanager
def converting_folder(path: str | os.PathLike) -> Iterator[str]:
    """A folder for the work on a file, on the same disk, under a name that TensorFlow takes; it is gone in the end.

    TensorFlow reads `*`, `?` and brackets in a path as a pattern, and names that are not UTF-8 not at all. Where the
    folder of the file has such a name, what is given is a symbolic link in the system's folder for temporary files.

    Args:
        path: the file that will be written.

    Raises:
        UserError: neither folder has a name that TensorFlow takes.
        OSError: the folder of the file does not exist or cannot be written to.
    """
    with working_folder(os.path.dirname(os.path.realpath(path))) as folder:
        if _is_plain(folder):
            yield folder
            return
        link = os.path.join(tempfile.gettempdir(), f"tfplaces-{secrets.token_hex(8)}")
        if not _is_plain(link):
            raise UserError(f"{link}: TensorFlow takes no folder with * ? [ ] \\ in its name; set TMPDIR to another")
        _remove_dangling(tempfile.gettempdir())
        os.symlink(folder, link)
        try:
            yield link
        finally:
            os.unlink(link)


def _is_plain(path: str) -> bool:
    with contextlib.suppress(UnicodeEncodeError):
        path.encode()
        return not _PATTERN_CHARACTERS & set(path)
    return False


def _remove_dangling(parent: str) -> None:
    """Removes links of this kind that a killed process has left: what they lead to has been removed since."""
    with os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith("tfplaces-") and entry.is_symlink() and not os.path.exists(entry.path):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
