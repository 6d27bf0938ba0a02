"""Pickles as data: lists, dictionaries, numbers, texts and numpy arrays. Nothing in them is imported, called or made.

A pickle is a program for a small stack machine, and Python's own machine runs whatever functions it names. This one
knows the handful of names that numpy writes, as marks, and builds what they stand for itself, once every size is
checked; any other name is refused. `pickletools` decodes the instructions.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name

# An instruction makes at most an empty container; a row of a ground truth takes a dozen.
_MAX_INSTRUCTIONS = 10_000_000
_MAX_DEPTH = 40
_TYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}|O8?)")

# What each name stands for: a mark that REDUCE understands.
_NAMES = {
    f"{module} {name}": mark
    for modules, name, mark in (
        (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", "array"),
        (("numpy.core.multiarray", "numpy._core.multiarray"), "scalar", "scalar"),
        (("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer", "buffer"),
        (("numpy",), "ndarray", "ndarray"),
        (("numpy",), "dtype", "dtype"),
        (("_codecs",), "encode", "encode"),
        (("__builtin__", "builtins"), "bytes", "bytes"),
        (("collections",), "OrderedDict", "dict"),
    )
    for module in modules
}


class _Malformed(Exception):
    """What is wrong with a pickle."""


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
    try:
        machine = _Machine()
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MAX_INSTRUCTIONS:
                raise _Malformed(f"more than {_MAX_INSTRUCTIONS:,} instructions")
            machine.step(operation.name, argument)
        return _Plain()(machine.result)
    except _Malformed as error:
        raise UserError(f"{source}: a pickle that is not read: {error}") from None
    # What pickletools raises for damage, and what the machine does for an empty stack or a wrong type.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        detail = printable_name(str(error))[:120]
        raise UserError(f"{source}: damaged: no sound pickle ({type(error).__name__}: {detail})") from None


class _Mark:
    """A name that numpy writes."""

    def __init__(self, meaning: str):
        self.meaning = meaning


class _Type:
    """A numpy type that is not yet complete: its byte order follows."""

    def __init__(self, code: Any):
        if not isinstance(code, str) or not _TYPE.fullmatch(code):
            raise _Malformed(f"an array of type {printable_name(str(code))[:40]}")
        self.code, self.order = code.lstrip("<>|="), code[0] if code[0] in "<>" else "|"

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or state[1] not in ("<", ">", "|", "="):
            raise _Malformed("damaged: a type of numpy")
        self.order = "<" if state[1] == "=" else state[1]

    def dtype(self) -> np.dtype:
        return np.dtype(object) if self.code.startswith("O") else np.dtype(self.order + self.code)


class _Array:
    """A numpy array that is not yet complete: its content follows."""

    def __init__(self, shape: Any = (), kind: _Type | None = None, fortran: bool = False, content: Any = None):
        self.shape, self.kind, self.fortran, self.content = shape, kind, fortran, content

    def build(self, state: Any) -> None:
        _, self.shape, self.kind, self.fortran, self.content = state

    def array(self, plain: Callable[[Any], Any]) -> np.ndarray:
        """The array; its members, where it holds objects, are made plain by the function given."""
        if not isinstance(self.kind, _Type) or not isinstance(self.shape, tuple) or len(self.shape) > 8:
            raise _Malformed("damaged: an array without a type or a shape")
        if not all(type(side) is int and side >= 0 for side in self.shape):
            raise _Malformed("damaged: the shape of an array")
        dtype, count = self.kind.dtype(), math.prod(self.shape)
        if dtype.hasobject:
            if not isinstance(self.content, list) or len(self.content) != count:
                raise _Malformed(f"damaged: an array of shape {self.shape} with other members")
            array = np.empty(count, object)
            for k, member in enumerate(self.content):
                array[k] = plain(member)
        else:
            content = _bytes(self.content)
            if len(content) != count * dtype.itemsize:
                raise _Malformed(f"damaged: {len(content):,} bytes for an array of shape {self.shape}")
            array = np.frombuffer(content, dtype)
        return array.reshape(self.shape, order="F" if self.fortran else "C")


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):  # as Python 2 wrote them
        return content.encode("latin-1")
    if not isinstance(content, (bytes, bytearray)):
        raise _Malformed("damaged: the content of an array")
    return bytes(content)


class _Machine:
    """The stack machine."""

    def __init__(self) -> None:
        self.result: Any = None
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # what lies under each mark
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carries out one instruction."""
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _PUSHES:
            stack.append(argument)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name == "STOP":
            self.result = stack.pop()
        elif name == "POP":
            stack.pop()
        elif name == "MARK":
            self._below.append(stack)
            self._stack = []
        elif name in _OF_MARKED:
            marked = self._pop_marked()
            self._stack.append(_OF_MARKED[name](marked))
        elif name in ("APPEND", "APPENDS"):
            members = [stack.pop()] if name == "APPEND" else self._pop_marked()
            self._expect(self._stack[-1], list).extend(members)
        elif name in ("SETITEM", "SETITEMS"):
            pairs = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._pop_marked()
            self._expect(self._stack[-1], dict).update(_dictionary(pairs))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            if len(stack) < size:
                raise _Malformed("damaged: a tuple of more than there is")
            stack[-size:] = [tuple(stack[-size:])]
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                argument = f"{stack.pop(-2)} {stack.pop()}"
            if argument not in _NAMES:
                raise _Malformed(f"it would import {printable_name(argument.replace(' ', '.'))[:80]}")
            stack.append(_Mark(_NAMES[argument]))
        elif name == "REDUCE":
            arguments = self._expect(stack.pop(), tuple)
            stack.append(_reduced(self._expect(stack.pop(), _Mark).meaning, arguments))
        elif name == "BUILD":
            state = stack.pop()
            self._expect(stack[-1], (_Array, _Type)).build(state)
        else:
            raise _Malformed(f"it holds more than plain data (instruction {name})")

    def _pop_marked(self) -> list[Any]:
        marked, self._stack = self._stack, self._below.pop()
        return marked

    @staticmethod
    def _expect(value: Any, kinds: Any) -> Any:
        if not isinstance(value, kinds):
            raise _Malformed("it holds more than plain data, or is damaged")
        return value


def _dictionary(pairs: list[Any]) -> dict[Any, Any]:
    keys = pairs[::2]
    if len(pairs) % 2 or not all(isinstance(key, (str, int, float, bytes)) for key in keys):
        raise _Malformed("damaged: a dictionary")
    return dict(zip(keys, pairs[1::2], strict=True))


def _reduced(meaning: str, arguments: tuple[Any, ...]) -> Any:
    """What the call of a name makes."""
    if meaning == "array":
        return _Array()
    if meaning == "dtype":
        return _Type(arguments[0])
    if meaning == "buffer":
        content, kind, shape, order = arguments
        return _Array(shape, kind, order == "F", content)
    if meaning == "scalar":
        kind, content = arguments
        return _Array((), kind, False, content)
    if meaning == "encode" and arguments[1:] == ("latin1",):
        return arguments[0].encode("latin-1")
    if meaning == "bytes" and not arguments:
        return b""
    if meaning == "dict" and not arguments:
        return {}
    raise _Malformed(f"damaged: a call of {meaning}")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_OF_MARKED: dict[str, Callable[[list[Any]], Any]] = {"TUPLE": tuple, "LIST": list, "DICT": _dictionary}
_PUSHES = frozenset((
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
))  # fmt: skip


class _Plain:
    """Makes what the machine built into plain values, each object once."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._depth = 0

    def __call__(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if isinstance(value, bytearray):
            return bytes(value)
        if id(value) not in self._made:
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise _Malformed("its members hold each other, or are nested too deeply")
            self._made[id(value)] = self._of(value)
            self._depth -= 1
        return self._made[id(value)]

    def _of(self, value: Any) -> Any:
        if isinstance(value, _Array):
            array = value.array(self)
            return array[()] if array.ndim == 0 and not array.dtype.hasobject else array
        if isinstance(value, (list, tuple)):
            return type(value)(self(member) for member in value)
        if isinstance(value, dict):
            return {key: self(member) for key, member in value.items()}
        raise _Malformed("it holds more than plain data")
