"""Bytes of a file, plain or deflated, read at any place without all of them in memory."""

from __future__ import annotations

import abc
import bisect
import zlib
from typing import BinaryIO

import numpy as np

from tfplaces.common.errors import UserError

_BLOCK, _PIECE = 2**16, 2**20
# The state of the inflater, which has 40 kB, is kept so often.
_BETWEEN_STATES = 2**22


class Stretch(abc.ABC):
    """A row of bytes, of which one block is remembered for what reads many small pieces."""

    def __init__(self) -> None:
        self._block, self._block_at = b"", 0

    @abc.abstractmethod
    def _fetch(self, at: int, size: int) -> bytes:
        """As many bytes from a place on; fewer where they end."""

    def read(self, at: int, size: int) -> bytes:
        """The bytes from a place on.

        Raises:
            UserError: they end before, or are damaged.
        """
        first = at - self._block_at
        if first >= 0 and first + size <= len(self._block):
            return self._block[first : first + size]
        known = self._known(at)
        if size > len(known):
            known += self._fetch(at + len(known), max(size - len(known), _BLOCK))
            self._block, self._block_at = known, at
        if size > len(known):
            raise UserError("damaged: it is cut off")
        return known[:size]

    def read_into(self, at: int, array: np.ndarray) -> None:
        """Fills an array of bytes, piece by piece: nothing as large is made beside it.

        Raises:
            UserError: the bytes end before, or are damaged.
        """
        piece, done = self._known(at)[: len(array)], 0
        while done < len(array):
            piece = piece or self._fetch(at + done, min(_PIECE, len(array) - done))
            if not piece:
                raise UserError("damaged: it is cut off")
            array[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
            piece = b""

    def _known(self, at: int) -> bytes:
        """What of the bytes from a place on is in the block that was read last."""
        first = at - self._block_at
        return self._block[first:] if 0 <= first < len(self._block) else b""


class PlainStretch(Stretch):
    """A part of a file as it is.

    Args:
        file: the open file.
        start, end: its bytes from one to before the other.
    """

    def __init__(self, file: BinaryIO, start: int, end: int):
        super().__init__()
        self._file, self._start, self._end = file, start, end

    def _fetch(self, at: int, size: int) -> bytes:
        self._file.seek(self._start + at)
        return self._file.read(max(min(size, self._end - self._start - at), 0))


class DeflatedStretch(Stretch):
    """What a part of a file inflates to, which is compressed as zlib does it.

    Reading onwards inflates onwards; for going back, and on again, the inflater's state is remembered every 4 MB.

    Args:
        file: the open file.
        start, end: its bytes from one to before the other.
        most: how many bytes they may inflate to.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, most: int):
        super().__init__()
        self._file, self._end, self._most = file, end, most
        self._inflater, self._from, self._at = zlib.decompressobj(), start, 0
        self._states = [(0, self._inflater.copy(), start)]

    def check_end(self, at: int) -> None:
        """Inflates what follows a place; the checksum at the end covers everything.

        Raises:
            UserError: the bytes are damaged, or inflate to more than they may.
        """
        while data := self._fetch(at, _PIECE):
            at += len(data)

    def _fetch(self, at: int, size: int) -> bytes:
        known_at, inflater, source_at = self._states[bisect.bisect(self._states, at, key=lambda state: state[0]) - 1]
        if at < self._at or known_at > self._at:
            self._at, self._inflater, self._from = known_at, inflater.copy(), source_at
        while self._at < at and self._next(min(at - self._at, _PIECE)):
            pass
        pieces: list[bytes] = []
        left = size if self._at == at else 0
        while left and (piece := self._next(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _next(self, most: int) -> bytes:
        """The next bytes, at least one and at most so many; none at the end."""
        data = b""
        while not data and not self._inflater.eof:
            compressed = self._inflater.unconsumed_tail
            if not compressed:
                self._file.seek(self._from)
                compressed = self._file.read(max(min(_BLOCK, self._end - self._from), 0))
                self._from += len(compressed)
                if not compressed:
                    raise UserError("damaged: it ends in the middle of compressed data")
            try:
                data = self._inflater.decompress(compressed, most)
            except zlib.error as error:
                raise UserError(f"damaged: {error}") from None
        self._at += len(data)
        if self._at > self._most:
            raise UserError(f"inflates to more than {self._most:,} bytes")
        if self._at >= self._states[-1][0] + _BETWEEN_STATES:
            self._states.append((self._at, self._inflater.copy(), self._from))
        return data
