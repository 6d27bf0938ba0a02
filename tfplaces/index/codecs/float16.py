"""Descriptors in half precision: two bytes a dimension, and nothing lost that a ranking shows."""

from __future__ import annotations

import numpy as np

from tfplaces.index.codecs.base import Codec


class Float16(Codec):
    """IEEE 754 half precision, little-endian."""

    name = "float16"

    @property
    def code_bytes(self) -> int:
        return 2 * self.dimensions

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(descriptors, "<f2").view(np.uint8)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        descriptors = np.ascontiguousarray(codes).view("<f2").astype(np.float32)
        # A damaged code may hold infinities and NaN; no code of a unit vector holds a number above 1.
        return np.clip(np.nan_to_num(descriptors, copy=False, posinf=0, neginf=0), -1, 1, out=descriptors)
