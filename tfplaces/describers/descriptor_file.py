"""Descriptors of many images in a folder, from which a run that was interrupted goes on."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import write_json
from tfplaces.datasets import Images

_VECTORS, _STATE = "vectors", "state.json"
# So many images at most are described again.
_SHARD = 256


class DescriptorFile:
    """Descriptors of images on the disk, beside the number of those that are done.

    They are done shard by shard of 256, and one file has all of them, so that it can be mapped into memory whole. Its
    space is taken before anything is described: writing to a mapped file on a full disk would kill the process.

    Args:
        folder: where they lie. It is made where it is missing; what is in it of another model, another input size or
            other images, or of images that were changed since, is begun anew.
        model: what tells the model, as the SHA-256 of its file.
        input_size: (height, width) in pixels at which the images are described.
        images: what is described.
        descriptor_dim: length of a descriptor.
        dtype: type of its numbers.

    Attributes:
        rows: the descriptors, a memory map `[len(images), descriptor_dim]`.
        done: how many of the first ones are there.

    Raises:
        UserError: there is no room on the disk.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        model: str,
        input_size: tuple[int, int],
        images: Images,
        descriptor_dim: int,
        dtype: type[np.floating] = np.float32,
    ):
        self.folder = os.fspath(folder)
        self._path, self._state = os.path.join(self.folder, _VECTORS), os.path.join(self.folder, _STATE)
        described = [model, list(input_size), descriptor_dim, images_digest(images)]
        self._identity = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        shape = len(images), descriptor_dim
        size = np.dtype(dtype).itemsize * shape[0] * shape[1]
        self.done = self._found(len(images), size)
        if not self.done:
            os.makedirs(self.folder, exist_ok=True)
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(self._state)
                reserve(self._path, size)
            except BaseException:
                self.remove()
                raise
        self.rows = np.memmap(self._path, dtype, "r+", shape=shape) if size else np.zeros(shape, dtype)

    def _found(self, count: int, size: int) -> int:
        """How many descriptors an interrupted run has left."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            with open(self._state, encoding="utf-8") as file:
                state = json.load(file)
            done = state["done"]
            if state["identity"] == self._identity and 0 <= done <= count and os.path.getsize(self._path) == size:
                return done
        return 0

    def advance(self, done: int) -> None:
        """Says that the first rows, as many as given, are written; a shard, or the last of them, is put on the disk."""
        if done - self.done >= _SHARD or done == len(self.rows):
            if isinstance(self.rows, np.memmap):
                self.rows.flush()
            write_json(self._state, {"identity": self._identity, "done": done})
            self.done = done

    def remove(self) -> None:
        """Removes the files, when the descriptors are needed no more, and the folder if nothing else is in it."""
        for path in (self._state, self._path):
            with contextlib.suppress(OSError):
                os.remove(path)
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)


def images_digest(images: Images) -> str:
    """SHA-256 of the names of images and of what tells whether they have changed; the images are not read."""
    digest = hashlib.sha256()
    for index, name in enumerate(images.names):
        digest.update(json.dumps([name, images.stamp(index)]).encode() + b"\n")
    return digest.hexdigest()


def reserve(path: str, size: int) -> None:
    """Makes a file with all its space on the disk.

    Raises:
        UserError: there is no room for it.
    """
    try:
        with open(path, "wb") as file:
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # not on macOS and Windows
                block = bytes(1 << 20)
                for start in range(0, size, len(block)):
                    file.write(block[: size - start])
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = os.path.dirname(os.path.dirname(path))
        raise UserError(
            f"{where}: no room for the {size / 1e6:,.1f} MB of descriptors ({error.strerror}); make room, or choose "
            "another folder"
        ) from None
