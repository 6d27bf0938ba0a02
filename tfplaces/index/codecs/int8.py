"""Descriptors as whole numbers of one byte: a quarter of float32's size."""

from __future__ import annotations

import numpy as np

from tfplaces.index.codecs.base import Codec


class Int8(Codec):
    """Each descriptor divided by a 127th of its largest magnitude, and rounded.

    No scale is stored: descriptors have unit length, so the code's own length gives it back, and the cosine of two
    codes is that of the descriptors but for the rounding.
    """

    name = "int8"

    @property
    def code_bytes(self) -> int:
        return self.dimensions

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        largest = np.abs(descriptors).max(axis=1, keepdims=True)
        return np.rint(descriptors * (127 / largest)).astype(np.int8).view(np.uint8)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        numbers = codes.view(np.int8).astype(np.float32)
        return numbers / _lengths(numbers)[:, None]

    def scan(self, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
        numbers = codes.view(np.int8).astype(np.float32)
        return (queries @ numbers.T) / _lengths(numbers)


def _lengths(numbers: np.ndarray) -> np.ndarray:
    """The lengths of codes, `[n]`; 1 for a code of zeros, which no descriptor has."""
    lengths = np.sqrt(np.einsum("ij,ij->i", numbers, numbers))
    lengths[lengths == 0] = 1
    return lengths
