"""What a codec is: how descriptors become the bytes of an index, and how queries are compared with these bytes."""

from __future__ import annotations

import abc
from typing import ClassVar, Self

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.evaluation.unit_descriptors import checked_lengths


class Codec(abc.ABC):
    """Turns descriptors of unit length into codes of a fixed number of bytes.

    Args:
        dimensions: length of a descriptor.

    Attributes:
        name: by which an index and `--codec` name it.
        dimensions: length of a descriptor.
    """

    name: ClassVar[str]

    def __init__(self, dimensions: int):
        self.dimensions = dimensions

    @property
    @abc.abstractmethod
    def code_bytes(self) -> int:
        """Bytes of a place's code."""

    @classmethod
    def fit(cls, sample: np.ndarray) -> Self:
        """A codec for descriptors like these. One without training looks at their length only.

        Args:
            sample: descriptors of unit length, float32 `[n, dimensions]`.

        Raises:
            UserError: they are no descriptors, or too few to train this codec.
        """
        check_sample(sample)
        return cls(sample.shape[1])

    def state(self) -> bytes:
        """What training has found, as bytes from which `from_state` makes the codec again; empty without training."""
        return b""

    @classmethod
    def from_state(cls, state: bytes, dimensions: int) -> Self:
        """The codec that has such a state. The bytes may come from a stranger.

        Raises:
            UserError: no codec of this kind has this state.
        """
        if state:
            raise UserError(f"the codec {cls.name} has no state, and here are {len(state):,} bytes of one")
        return cls(dimensions)

    @abc.abstractmethod
    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        """Codes, uint8 `[n, code_bytes]`, of descriptors of unit length, float32 `[n, dimensions]`."""

    @abc.abstractmethod
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The descriptors that codes stand for, about of unit length, float32 `[n, dimensions]`."""

    def scan(self, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The cosine, or its estimate, of each query with each place.

        Args:
            queries: descriptors of unit length, float32 `[q, dimensions]`.
            codes: uint8 `[n, code_bytes]`.

        Returns:
            float32 `[q, n]`, finite whatever the codes are.
        """
        return queries @ self.decode(codes).T


def check_sample(sample: np.ndarray) -> None:
    """Raises UserError unless a sample is float32 `[n, dimensions]`, finite and without zeros."""
    if sample.ndim != 2 or sample.dtype != np.float32 or not sample.shape[1]:
        raise UserError(f"a sample of type {sample.dtype} and shape {list(sample.shape)}; expected float32 [n, dim]")
    checked_lengths(sample, "sample")
