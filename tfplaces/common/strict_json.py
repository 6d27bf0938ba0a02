"""Reading JSON that someone else wrote, so that what could be meant in two ways is refused."""

from __future__ import annotations

import collections
import json
import math
import os
from typing import Any

from tfplaces.common.errors import UserError
from tfplaces.common.files import read_regular
from tfplaces.common.text import printable_name

# A ground truth of 300,000 images with long names and 50 positives each is a third of it.
MAX_JSON_BYTES = 2**28
# Numbers of nanoseconds have 19; Python itself refuses thousands, with advice for programmers.
_MAX_DIGITS = 100


def read_json(path: str | os.PathLike, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Reads a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark, as any system writes it.

    Args:
        path: a regular file.
        max_bytes: a larger file is refused before it is read.

    Raises:
        UserError: the file is missing, no regular file, too large or no JSON (with line and column); or an object has
            a key twice, or a number is not finite, which JSON leaves open and other readers take otherwise.
    """
    return parse_json(read_regular(path, max_bytes), printable_name(os.fspath(path)))


def parse_json(data: bytes, name: str) -> Any:
    """Reads JSON as `read_json` does from a file.

    Args:
        data: the JSON, bounded by the caller.
        name: the file that it comes from, for messages.

    Raises:
        UserError: as `read_json` does.
    """
    try:
        return json.loads(
            data.decode(json.detect_encoding(data)),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except json.JSONDecodeError as error:
        raise UserError(f"{name}: no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: no JSON: byte {error.start} is no {error.encoding}; save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"{name}: its lists or objects are nested too deeply") from None
    except UserError as error:  # of the hooks below
        raise UserError(f"{name}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = next(key for key, count in collections.Counter(key for key, _ in pairs).items() if count > 1)
        raise UserError(
            f"the key {printable_name(json.dumps(twice, ensure_ascii=False))} is there twice; keep one of them"
        )
    return result


def _refuse_constant(text: str) -> float:
    raise UserError(f"{text} is no number that JSON has; write a finite one")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise UserError(f"the number {text[:20]} is too large")
    return value


def _bounded(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise UserError(f"the number {text[:20]}... has {len(text)} digits")
    return int(text)
