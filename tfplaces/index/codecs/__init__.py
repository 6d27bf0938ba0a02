"""Codecs: how the descriptors of an index are written. To add one: a file with its class, and a line in `CODECS`."""

from __future__ import annotations

from tfplaces.index.codecs.base import Codec, check_sample
from tfplaces.index.codecs.float16 import Float16
from tfplaces.index.codecs.int8 import Int8
from tfplaces.index.codecs.scalar import Binary, Int2, Int4

CODECS: dict[str, type[Codec]] = {
    "float16": Float16,
    "int8": Int8,
    "int4": Int4,
    "int2": Int2,
    "binary": Binary,
}

__all__ = ["CODECS", "Binary", "Codec", "Float16", "Int2", "Int4", "Int8", "check_sample"]
