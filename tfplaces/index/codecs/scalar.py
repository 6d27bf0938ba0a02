"""Descriptors of which each number has four bits, two or one: as many as tell most, for numbers spread as a sample is.

Each number is rounded to levels that are best for a normal distribution (J. Max, Quantizing for Minimum Distortion,
1960, Table I) of the mean and the standard deviation that this dimension has in the sample. These two of each dimension
are all that is stored beside the codes: 8 bytes a dimension, where a product quantizer keeps a kilobyte.
"""

from __future__ import annotations

import functools
from typing import ClassVar, Self

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.index.codecs.base import check_sample
from tfplaces.index.codecs.lookup import LookupCodec

# The positive half of the levels, by bits, of a normal distribution with standard deviation 1.
_LEVELS = {
    1: (0.7979,),
    2: (0.4528, 1.510),
    4: (0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733),
}
_MIN_SAMPLE = 16


class Scalar(LookupCodec):
    """The base of the three; their numbers stand in a byte from its lowest bits upwards.

    Args:
        dimensions: length of a descriptor.
        means: of each dimension, float32 `[dimensions]`.
        deviations: standard deviations, alike; none negative.

    Attributes:
        bits: of a number.
    """

    bits: ClassVar[int]

    def __init__(self, dimensions: int, means: np.ndarray, deviations: np.ndarray):
        super().__init__(dimensions)
        self._means, self._deviations = means, deviations

    @property
    def code_bytes(self) -> int:
        return -(-self.dimensions * self.bits // 8)

    @classmethod
    def fit(cls, sample: np.ndarray) -> Self:
        check_sample(sample)
        if len(sample) < _MIN_SAMPLE:
            raise UserError(
                f"the codec {cls.name} learns from at least {_MIN_SAMPLE} descriptors, and here are {len(sample)}; "
                "give images to learn from with --codec_dataset, or take --codec=int8"
            )
        means, deviations = sample.mean(axis=0, dtype=np.float64), sample.std(axis=0, dtype=np.float64)
        return cls(sample.shape[1], means.astype(np.float32), deviations.astype(np.float32))

    def state(self) -> bytes:
        return np.concatenate([self._means, self._deviations]).astype("<f4").tobytes()

    @classmethod
    def from_state(cls, state: bytes, dimensions: int) -> Self:
        if len(state) != 8 * dimensions:
            raise UserError(
                f"the codec {cls.name} has a state of {8 * dimensions:,} bytes, and here are {len(state):,}"
            )
        means, deviations = np.frombuffer(state, "<f4").astype(np.float32).reshape(2, dimensions)
        # No number of a descriptor of unit length is larger than 1.
        if not (np.all(np.abs(means) <= 1) and np.all((deviations >= 0) & (deviations <= 1))):
            raise UserError(f"the state of the codec {cls.name} is damaged: its means or deviations are out of range")
        return cls(dimensions, means, deviations)

    @functools.cached_property
    def pieces(self) -> np.ndarray:
        per_byte = 8 // self.bits
        means, deviations = (self._by_byte(numbers) for numbers in (self._means, self._deviations))
        which = np.arange(256)[:, None] >> (self.bits * np.arange(per_byte)) & (2**self.bits - 1)
        return means[:, None] + _levels(self.bits)[which] * deviations[:, None]

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        levels = _levels(self.bits)
        numbers = np.zeros((len(descriptors), self.code_bytes * (8 // self.bits)), np.uint8)
        for bound in (levels[1:] + levels[:-1]) / 2:
            numbers[:, : self.dimensions] += descriptors > self._means + bound * self._deviations
        shifts = self.bits * np.arange(8 // self.bits, dtype=np.uint8)
        shifted = numbers.reshape(len(descriptors), self.code_bytes, -1) << shifts
        return np.bitwise_or.reduce(shifted, axis=2)

    def _by_byte(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of the dimensions by the byte that codes them, `[code_bytes, 8 / bits]`; 0 for what is beyond."""
        padded = np.zeros((self.code_bytes, 8 // self.bits), np.float32)
        padded.reshape(-1)[: self.dimensions] = numbers
        return padded


def _levels(bits: int) -> np.ndarray:
    half = _LEVELS[bits]
    return np.array([*(-level for level in reversed(half)), *half], np.float32)


class Binary(Scalar):
    """One bit a number, whether it is above the mean: 64 bytes for 512 dimensions."""

    name, bits = "binary", 1


class Int2(Scalar):
    """Two bits a number: 128 bytes for 512 dimensions."""

    name, bits = "int2", 2


class Int4(Scalar):
    """Four bits a number: 256 bytes for 512 dimensions."""

    name, bits = "int4", 4
