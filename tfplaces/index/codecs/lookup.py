"""Codecs each byte of which stands for a few numbers of a descriptor: a query is compared with them by looking up."""

from __future__ import annotations

import abc
import functools

import numpy as np

from tfplaces.index.codecs.base import Codec


class LookupCodec(Codec):
    """The base of codecs whose every byte chooses one of 256 pieces, which side by side approximate the descriptor.

    The estimate of the cosine is 1 − |q − x|² / 2, where q is the query, which is not rounded, and x what the code
    stands for: exact where x is the place's descriptor. It is a sum of one number for each byte, of which there are
    only 256: they are computed once for a query and looked up for each place (asymmetric distance computation:
    H. Jégou et al., Product Quantization for Nearest Neighbor Search, 2011, section III).
    """

    @functools.cached_property
    @abc.abstractmethod
    def pieces(self) -> np.ndarray:
        """What each byte of a code may stand for, float32 `[code_bytes, 256, numbers]`."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        numbers = self.pieces[np.arange(self.code_bytes), codes].reshape(len(codes), -1)
        return np.ascontiguousarray(numbers[:, : self.dimensions])

    def scan(self, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
        found = np.empty((len(queries), len(codes)), np.float32)
        columns = np.ascontiguousarray(codes.T)
        for query, row in zip(queries, found, strict=True):
            row[:] = 0.5
            for table, column in zip(self.tables(query), columns, strict=True):
                row += table[column]
        return found

    def tables(self, query: np.ndarray) -> np.ndarray:
        """What each byte of a code adds to the estimate, float32 `[code_bytes, 256]`; 0.5 comes on top of the sum."""
        padded = np.zeros((self.code_bytes, self.pieces.shape[2], 1), np.float32)
        padded.reshape(-1)[: self.dimensions] = query
        return np.matmul(self.pieces, padded)[..., 0] - self._half_squares

    @functools.cached_property
    def _half_squares(self) -> np.ndarray:
        return np.einsum("bvn,bvn->bv", self.pieces, self.pieces) / 2
