"""Writing files so that a failure, a kill included, leaves nothing half-written and nothing lying about; and
opening those that others bring."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name

try:
    import fcntl
except ImportError:  # not on Windows: there what a killed run leaves stays
    fcntl = None  # type: ignore[assignment]

# Folders of work in progress begin with this; one that no process holds and that is this old was left by a kill.
WORKING, _ABANDONED_SECONDS = ".writing-", 10.0


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Gives a temporary path on the same disk, with the same name; on success what is there takes the place of `path`.

    On any failure, Ctrl-C included, what was at `path` stays and nothing else is left. Where `path` is a symbolic link,
    the file that it leads to is replaced. What an earlier run that was killed left in the folder is removed.

    Args:
        path: the file to make or replace, in a folder that exists.

    Raises:
        UserError: what is at `path` is no regular file: a device, a pipe or a folder is never replaced.
        OSError: the folder does not exist or cannot be written to.
    """
    target = os.path.realpath(path)
    check_replaceable(target)
    with working_folder(os.path.dirname(target)) as folder:
        temporary = os.path.join(folder, os.path.basename(target))
        yield temporary
        os.replace(temporary, target)


@contextlib.contextmanager
def working_folder(parent: str | os.PathLike) -> Iterator[str]:
    """A hidden folder in `parent` for work in progress, which is removed in the end, whatever happens.

    Folders of this kind that a killed process left there are removed first.

    Args:
        parent: a folder that exists.

    Raises:
        OSError: the parent does not exist or cannot be written to.
    """
    _remove_abandoned(os.fspath(parent))
    folder = tempfile.mkdtemp(prefix=WORKING, dir=parent)
    held = hold(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def hold(folder: str) -> int | None:
    """Locks a folder as long as this process lives or the descriptor is open; None where another process holds it."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def is_held(folder: str) -> bool:
    """Whether another process, or another descriptor of this one, holds a folder by `hold`."""
    if fcntl is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def holding(folder: str | os.PathLike) -> Iterator[None]:
    """Makes a folder that is this run's alone; in the end it goes, if nothing is in it.

    Raises:
        UserError: another run is at work in the folder.
        OSError: it cannot be made.
    """
    path = os.fspath(folder)
    while True:
        os.makedirs(path, exist_ok=True)
        held = None
        try:
            held = hold(path)
            if held is None and is_held(path):
                name = printable_name(os.fsdecode(path))
                raise UserError(f"{name}: another run is at work in this folder; wait for its end")
            # The run that held it before may have removed it just now.
            if held is None or os.path.samestat(os.fstat(held), os.stat(path)):
                break
            os.close(held)
        except FileNotFoundError:
            if held is not None:
                os.close(held)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(path)
        if held is not None:
            os.close(held)


def _remove_abandoned(parent: str) -> None:
    with os.scandir(parent) as entries:
        found = [entry for entry in entries if entry.name.startswith(WORKING) and entry.is_dir(follow_symlinks=False)]
    for entry in found:
        with contextlib.suppress(OSError):
            # A new folder may not be locked yet.
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS:
                held = hold(entry.path)
                if held is not None:
                    shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(held)


def check_replaceable(path: str | os.PathLike) -> None:
    """Refuses a path at which something else than a regular file is.

    Raises:
        UserError: a folder, a device, a pipe or a socket is there.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{os.fspath(path)}: is a folder; name a file to write")
        if not stat.S_ISREG(mode):
            raise UserError(f"{os.fspath(path)}: is a device or a pipe, not a regular file; name a file to write")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 text file; what UTF-8 cannot hold, as in names of files that are not UTF-8, is escaped."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Writes JSON, indented, with numbers that any reader takes.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def open_regular(path: str | os.PathLike, max_bytes: int | None = None) -> BinaryIO:
    """Opens a file that someone brings for reading, if it is a regular file.

    A FIFO, a socket or a device under an ordinary name would block for ever, or never end. They are not waited for:
    the file is opened without blocking and then looked at, so that it cannot be exchanged in between.

    Args:
        path: the file; links are followed.
        max_bytes: bound on its size, for what is read whole.

    Returns:
        The file, to be closed by the caller (`with open_regular(path) as file`).

    Raises:
        UserError: the file is missing, may not be read, is no regular file or is too large.
    """
    name = printable_name(os.fsdecode(path))
    flags = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except OSError as error:  # a socket cannot be opened at all
        raise UserError(f"{name}: cannot be opened ({error.strerror})") from None
    except ValueError as error:  # a NUL, or half of a surrogate pair, in the name
        raise UserError(f"{name}: no file can have this name ({error})") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{name}: {_kind(status.st_mode)}, not a regular file")
        if max_bytes is not None and status.st_size > max_bytes:
            raise UserError(f"{name}: {status.st_size:,} bytes; at most {max_bytes:,} are read")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: str | os.PathLike, max_bytes: int) -> bytes:
    """The content of a regular file of at most so many bytes; raises UserError as `open_regular` does."""
    with open_regular(path, max_bytes) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:  # it grew
        raise UserError(f"{printable_name(os.fsdecode(path))}: more than {max_bytes:,} bytes")
    return data


def _kind(mode: int) -> str:
    """What a file is that is no regular one."""
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a FIFO", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    return next((name for test, name in kinds.items() if test(mode)), "a special file")


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
