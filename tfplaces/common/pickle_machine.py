"""The stack machine of pickles, which reads them as data: it imports, calls and makes nothing of Python's.

A pickle is a program for a small stack machine, and Python's own machine runs whatever functions it names. This one
asks its user about every name, who answers with what stands for it here, or refuses it. `pickletools` decodes the
instructions. Bytes, instructions and sizes are bounded.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name

# An instruction makes at most an empty container; a row of a ground truth takes a dozen.
_MAX_INSTRUCTIONS = 10_000_000
# Python's hash of an integer below this is the integer: no two keys of a dictionary are made to collide.
_MAX_KEY = 2**61 - 1


class Malformed(Exception):
    """What is wrong with a pickle, or why it is refused."""


class Name:
    """A name of the pickle's that its reader knows, or leaves alone.

    Args:
        name: as in `collections.OrderedDict`, for messages.
        make: makes what a call of it stands for from the call's arguments; of a class, from those of its instances.
    """

    def __init__(self, name: str, make: Callable[..., Any]):
        self.name, self._make = name, make

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """What a call of the name stands for."""
        return self._make(*arguments)

    def instance(self, arguments: tuple[Any, ...]) -> Any:
        """What an instance of the class of this name stands for."""
        return self._make(*arguments)


class Buildable:
    """What a pickle completes after it has made it."""

    def build(self, state: Any) -> None:
        """Takes the state."""
        raise NotImplementedError


def run_pickle(
    file: BinaryIO,
    source: str,
    find: Callable[[str], Any],
    *,
    max_bytes: int,
    max_instructions: int = _MAX_INSTRUCTIONS,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle of any protocol; the file is then behind it.

    Args:
        file: where it begins.
        source: the file that it comes from, for messages.
        find: gives what stands for a name such as `collections OrderedDict` (module, space, name in it), or raises
            Malformed.
        max_bytes: a longer pickle is refused.
        max_instructions: one of more instructions is refused.
        persistent: gives what stands for a persistent identifier, by which a pickle names what lies outside of it;
            None where there must be none.

    Returns:
        What the pickle holds, of None, numbers, texts, bytes, lists, tuples, sets, dictionaries and what `find` gave.

    Raises:
        UserError: it is damaged or too large, or `find` or `persistent` refused what it names.
    """
    try:
        machine = _Machine(find, persistent)
        bounded = cast(BinaryIO, _Bounded(file, max_bytes))  # what pickletools asks of a file
        for count, (operation, argument, _) in enumerate(pickletools.genops(bounded)):
            if count > max_instructions:
                raise Malformed(f"more than {max_instructions:,} instructions")
            machine.step(operation.name, argument)
        return machine.result
    except Malformed as error:
        raise UserError(f"{source}: a pickle that is not read: {error}") from None
    # What pickletools raises for damage, and what the machine does for an empty stack or a wrong type.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        detail = printable_name(str(error))[:120]
        raise UserError(f"{source}: damaged: no sound pickle ({type(error).__name__}: {detail})") from None


class _Bounded:
    """A stretch of a file, for pickletools: sizes are looked at before anything is read."""

    def __init__(self, file: BinaryIO, most: int):
        self._file, self._most, self._left = file, most, most

    def read(self, size: int) -> bytes:
        # A buffered file allocates what it is asked for.
        return self._taken(self._file.read(min(size, self._left)), size)

    def readline(self) -> bytes:
        return self._taken(self._file.readline(self._left), self._left)

    def _taken(self, data: bytes, asked: int) -> bytes:
        self._left -= len(data)
        if asked > len(data) and not self._left and self._file.read(1):
            raise Malformed(f"it has more than {self._most:,} bytes")
        return data


class _Machine:
    """The stack machine."""

    def __init__(self, find: Callable[[str], Any], persistent: Callable[[Any], Any] | None) -> None:
        self.result: Any = None
        self._find, self._persistent = find, persistent
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
            _expect(self._stack[-1], list).extend(members)
        elif name == "ADDITEMS":
            members = self._pop_marked()
            _expect(self._stack[-1], set).update(members_of_set(members))
        elif name in ("SETITEM", "SETITEMS"):
            pairs = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._pop_marked()
            _expect(self._stack[-1], dict).update(_dictionary(pairs))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            if len(stack) < size:
                raise Malformed("damaged: a tuple of more than there is")
            stack[-size:] = [tuple(stack[-size:])]
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                argument = f"{_expect(stack.pop(-2), str)} {_expect(stack.pop(), str)}"
            stack.append(self._find(argument))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = _expect(stack.pop(), tuple)
            found = _expect(stack.pop(), Name)
            stack.append(found.call(arguments) if name == "REDUCE" else found.instance(arguments))
        elif name == "BUILD":
            state = stack.pop()
            _expect(stack[-1], Buildable).build(state)
        elif name in ("PERSID", "BINPERSID") and self._persistent is not None:
            stack.append(self._persistent(argument if name == "PERSID" else stack.pop()))
        else:
            raise Malformed(f"it holds more than plain data (instruction {name})")

    def _pop_marked(self) -> list[Any]:
        marked, self._stack = self._stack, self._below.pop()
        return marked


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Malformed("it holds more than plain data, or is damaged")
    return value


def _check_keys(keys: list[Any]) -> None:
    for key in keys:
        # Nested tuples would be hashed without end.
        if not isinstance(key, (str, int, float, bytes)) and key is not None:
            raise Malformed("a dictionary or set of other things than texts and numbers")
        if isinstance(key, int) and abs(key) >= _MAX_KEY:
            raise Malformed("a dictionary or set of numbers without bounds")


def _dictionary(pairs: list[Any]) -> dict[Any, Any]:
    if len(pairs) % 2:
        raise Malformed("damaged: a dictionary")
    _check_keys(pairs[::2])
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def dictionary_of(pairs: Any = ()) -> dict[Any, Any]:
    """The dictionary of a list of pairs, as older pickles give them to its class."""
    if not isinstance(pairs, (list, tuple)) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs):
        raise Malformed("damaged: a dictionary")
    return _dictionary([member for pair in pairs for member in pair])


def members_of_set(members: Any = ()) -> set[Any]:
    """The set of a list's members."""
    _check_keys(list(_expect(members, (list, tuple))))  # type: ignore[arg-type]
    return set(members)


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set,
}  # fmt: skip
_OF_MARKED: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple, "LIST": list, "DICT": _dictionary, "FROZENSET": members_of_set,
}  # fmt: skip
_PUSHES = frozenset((
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
))  # fmt: skip
