"""Options as people write them, `key=value&key=value`, as values of the types that a dataclass declares."""

from __future__ import annotations

import types
import typing
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def split_options(spec: str, kind: str, query: str, known: Sequence[str]) -> dict[str, str]:
    """The options of a spec by name, as text with its percent escapes read.

    Args:
        spec: the whole spec, for messages.
        kind: what has the options, for messages.
        query: the options, `key=value` separated by `&`; empty for none.
        known: the names that there are.

    Raises:
        UserError: it is not written so, or an option is unknown or given twice.
    """
    options: dict[str, str] = {}
    for part in query.split("&") if query else []:
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UserError(f"{printable_name(spec)}: options are key=value, separated by &")
        if key not in known:
            raise UserError(f"{printable_name(spec)}: unknown option {key!r}; {kind} has {', '.join(known) or 'none'}")
        if key in options:
            raise UserError(f"{printable_name(spec)}: the option {key} is given twice")
        options[key] = urllib.parse.unquote_plus(value, errors="surrogateescape")
    return options


def typed_options(spec: str, options: Mapping[str, str], kind: Any) -> dict[str, Any]:
    """Options as values of the types that a dataclass declares its fields, or a function its arguments, to have.

    Raises:
        UserError: the text of one is no value of its type.
    """
    types_of = typing.get_type_hints(kind)
    return {key: _value(spec, key, text, types_of[key]) for key, text in options.items()}


def _value(spec: str, key: str, text: str, kind: Any) -> Any:
    """An option's text as what its field is declared to be."""
    choices = typing.get_args(kind)
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:  # None is what it is by default
        (kind,) = (choice for choice in choices if choice is not type(None))
        return _value(spec, key, text, kind)
    expected = ""
    if typing.get_origin(kind) is typing.Literal:
        if text in choices:
            return text
        expected = f"one of {', '.join(choices)}"
    elif kind is bool:
        if text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        expected = "true or false"
    elif kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            number = float("nan")
        if number - number == 0:  # neither infinite nor no number
            return number
        expected = "a whole number" if kind is int else "a number"
    else:
        return text
    raise UserError(f"{printable_name(spec)}: {key}={printable_name(text)} is not {expected}")
