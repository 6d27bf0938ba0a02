"""Pickles as data: lists, dictionaries, numbers, texts and numpy arrays. Nothing in them is imported, called or made.

The names that numpy writes stand for arrays, which are built here once every size is checked; any other name is
refused.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.pickle_machine import Buildable, Malformed, Name, dictionary_of, run_pickle
from tfplaces.common.text import printable_name

_MAX_DEPTH = 40
_TYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}|O8?)")


def read_pickle(data: bytes, source: str) -> Any:
    """Reads a pickle of any protocol that holds plain data.

    Args:
        data: the pickle, bounded by the caller.
        source: the file that it comes from, for messages.

    Returns:
        Dictionaries, lists, tuples, numbers, texts, bytes, None, and numpy arrays of numbers, texts or these (dtype
        object). What the pickle holds twice is one object.

    Raises:
        UserError: it is damaged or too large, or holds anything else.
    """
    names = NumpyNames(len(data))
    value = run_pickle(io.BytesIO(data), source, names, max_bytes=len(data))
    try:
        return _Plain()(value)
    except Malformed as error:
        raise UserError(f"{source}: a pickle that is not read: {error}") from None
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError) as error:
        detail = printable_name(str(error))[:120]
        raise UserError(f"{source}: damaged: no sound pickle ({type(error).__name__}: {detail})") from None


class NumpyNames:
    """What stands for the names that numpy and plain data need, as `run_pickle` asks for it.

    Args:
        most: how many bytes may be made of texts, in which older pickles keep them: no more than the pickle has.
    """

    def __init__(self, most: int):
        self._left = most
        array: dict[str, Callable[..., Any]] = {
            "_reconstruct": lambda *_: PickledArray(self._encoded),
            "scalar": lambda kind, content: PickledArray(self._encoded, (), kind, False, content),
        }
        self.known: dict[tuple[str, str], Callable[..., Any]] = {
            **{(f"numpy.{core}.multiarray", name): make for core in ("core", "_core") for name, make in array.items()},
            **{(f"numpy.{core}.numeric", "_frombuffer"): self._of_buffer for core in ("core", "_core")},
            ("numpy", "ndarray"): _nothing,
            ("numpy", "dtype"): lambda code, *_: _Type(code),
            ("_codecs", "encode"): self._encode,
            ("__builtin__", "bytes"): bytes_of_nothing,
            ("builtins", "bytes"): bytes_of_nothing,
            ("collections", "OrderedDict"): dictionary_of,
        }

    def __call__(self, name: str) -> Name:
        """What stands for a name.

        Raises:
            Malformed: it is none of those known.
        """
        module, _, member = name.partition(" ")
        shown = printable_name(name.replace(" ", ".", 1))[:80]
        if (module, member) not in self.known:
            raise Malformed(f"it would import {shown}")
        return Name(shown, self.known[module, member])

    def _of_buffer(self, content: Any, kind: Any, shape: Any, order: Any) -> PickledArray:
        return PickledArray(self._encoded, shape, kind, isinstance(order, str) and order == "F", content)

    def _encode(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or not isinstance(encoding, str) or encoding not in ("latin1", "latin-1"):
            raise Malformed("damaged: bytes of a text")
        return self._encoded(text)

    def _encoded(self, text: str) -> bytes:
        self._left -= len(text)
        if self._left < 0:
            raise Malformed("it makes more bytes than it has")
        return text.encode("latin-1")


def _nothing(*_: Any) -> Any:
    raise Malformed("damaged: a call of a class that is only named")


def bytes_of_nothing(*arguments: Any) -> bytes:
    """The call by which older pickles write no bytes."""
    if arguments:
        raise Malformed("damaged: bytes")
    return b""


class _Type(Buildable):
    """A numpy type that is not yet complete: its byte order follows."""

    def __init__(self, code: Any):
        if not isinstance(code, str) or not _TYPE.fullmatch(code):
            shown = printable_name(code[:40]) if isinstance(code, str) else "that is none"
            raise Malformed(f"an array of type {shown}")
        self.code, self.order = code.lstrip("<>|="), code[0] if code[0] in "<>" else "|"

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or state[1] not in ("<", ">", "|", "="):
            raise Malformed("damaged: a type of numpy")
        self.order = "<" if state[1] == "=" else state[1]

    def dtype(self) -> np.dtype:
        return np.dtype(object) if self.code.startswith("O") else np.dtype(self.order + self.code)


class PickledArray(Buildable):
    """A numpy array, or a number of numpy's, as a pickle describes it; its content may follow."""

    def __init__(
        self,
        encoded: Callable[[str], bytes],
        shape: Any = (),
        kind: Any = None,
        fortran: Any = False,
        content: Any = None,
    ):
        self._encoded, self._shape, self._kind, self._fortran, self._content = encoded, shape, kind, fortran, content

    def build(self, state: Any) -> None:
        _, self._shape, self._kind, self._fortran, self._content = state

    def array(self, plain: Callable[[Any], Any]) -> np.ndarray:
        """The array; its members, where it holds objects, are made plain by the function given.

        Raises:
            Malformed: it is damaged.
        """
        if not isinstance(self._kind, _Type) or not isinstance(self._shape, tuple) or len(self._shape) > 8:
            raise Malformed("damaged: an array without a type or a shape")
        if not all(type(side) is int and 0 <= side < 2**63 for side in self._shape):
            raise Malformed("damaged: the shape of an array")
        dtype, count = self._kind.dtype(), math.prod(self._shape)
        if dtype.hasobject:
            if not isinstance(self._content, list) or len(self._content) != count:
                raise Malformed(f"damaged: an array of shape {self._shape} with other members")
            array = np.empty(count, object)
            for k, member in enumerate(self._content):
                array[k] = plain(member)
        else:
            content = self._bytes()
            if len(content) != count * dtype.itemsize:
                raise Malformed(f"damaged: {len(content):,} bytes for an array of shape {self._shape}")
            array = np.frombuffer(content, dtype)
        return array.reshape(self._shape, order="F" if self._fortran is True else "C")

    def _bytes(self) -> bytes | bytearray:
        if isinstance(self._content, str):  # as Python 2 wrote them
            return self._encoded(self._content)
        if not isinstance(self._content, (bytes, bytearray)):
            raise Malformed("damaged: the content of an array")
        return self._content


class _Plain:
    """Makes what the machine built into plain values, each object once."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._depth = 0

    def __call__(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if id(value) not in self._made:
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise Malformed("its members hold each other, or are nested too deeply")
            self._made[id(value)] = self._of(value)
            self._depth -= 1
        return self._made[id(value)]

    def _of(self, value: Any) -> Any:
        if isinstance(value, bytearray):
            return bytes(value)
        if isinstance(value, PickledArray):
            array = value.array(self)
            return array[()] if array.ndim == 0 and not array.dtype.hasobject else array
        if isinstance(value, (list, tuple)):
            return type(value)(self(member) for member in value)
        if isinstance(value, dict):
            return {key: self(member) for key, member in value.items()}
        raise Malformed("it holds more than plain data")
