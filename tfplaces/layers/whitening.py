"""PCA whitening as a dense layer, fitted in bounded memory."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from tfplaces.common.errors import UserError

# Added to the eigenvalues, as in the published networks.
EPSILON = 1e-9
# A final L2 normalisation makes the scale of a whitening free. It is kept at this RMS of the kernel, about that of the
# published networks, so that one threshold of magnitude means the same in every network.
KERNEL_RMS = 0.01
# Vectors or dimensions worked on at a time.
_BLOCK = 2048


@keras.saving.register_keras_serializable(package="tfplaces")
class PCAWhitening(keras.layers.Dense):
    """y = (x − μ) U / sqrt(λ + 1e-9), up to a common scale: kernel RMS 0.01 (with the bias scaled along).

    U and λ are the leading eigenvectors and eigenvalues of the covariance of the vectors given to `adapt`; follow the
    layer with an L2 normalisation. A shorter descriptor is its first d dimensions, then L2 (Jégou and Chum, 2012).

    Input: `[batch, dim]`. Output: `[batch, units]`.

    Args:
        units: output dimensions.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(units, **kwargs)

    def adapt(self, vectors: np.ndarray) -> None:
        """Fits the whitening.

        Memory: one square matrix of min(n, dim) float32 rows beside its eigenvectors, and blocks of 2048 rows or
        columns; `vectors` may be a memory map. With fewer samples than dimensions the eigenvectors come from the
        samples' Gram matrix (dual form).

        Args:
            vectors: float `[n, dim]`.

        Raises:
            ValueError: more output dimensions than n − 1 samples or than dim, vectors of another dimension, or all of
                them alike; a layer without bias, which holds the mean.
        """
        from scipy.linalg import eigh

        if not self.use_bias:
            raise UserError("PCAWhitening: use_bias=False, but the bias is what subtracts the mean")
        n, dim = vectors.shape
        if not self.built:
            self.build((None, dim))
        if dim != self.kernel.shape[0]:
            raise UserError(f"PCAWhitening: vectors of {dim} dimensions, the layer takes {self.kernel.shape[0]}")
        if self.units > min(n - 1, dim):
            raise UserError(
                f"PCAWhitening: {self.units} dimensions from {n} samples of {dim} dimensions; at most "
                f"{max(min(n - 1, dim), 0)} can be fitted: lower the dimensions or give more images"
            )
        mean = _mean(vectors)
        if n > dim:
            variances, kernel = eigh(_covariance(vectors, mean), subset_by_index=(dim - self.units, dim - 1))
        else:
            variances, u = eigh(_gram(vectors, mean), subset_by_index=(n - self.units, n - 1))
            variances = np.maximum(variances, 0)
            kernel = _project(vectors, mean, u) / np.sqrt(np.maximum(variances * (n - 1), 1e-30))
        if not variances[-1] > 0:
            raise UserError(f"PCAWhitening: the {n} vectors are all alike")
        order = np.argsort(variances)[::-1]
        kernel = kernel[:, order] / np.sqrt(np.maximum(variances[order], 0) + EPSILON)
        kernel *= KERNEL_RMS / np.sqrt(np.mean(np.square(kernel, dtype=np.float64)))
        self.kernel.assign(kernel)
        self.bias.assign(-(mean @ kernel))

    def rescale(self) -> None:
        """Brings the kernel, and the bias with it, to the RMS of 0.01 that training may have moved it from.

        Descriptors do not change, as an L2 normalisation follows.
        """
        size = self.kernel.shape[0] * self.kernel.shape[1]
        rms = ops.sqrt(ops.vdot(self.kernel, self.kernel) / size)
        factor = KERNEL_RMS / ops.maximum(rms, 1e-30)
        for weight in self.weights:
            weight.assign(weight * factor)


def _mean(vectors: np.ndarray) -> np.ndarray:
    total = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), _BLOCK):
        total += np.sum(vectors[start : start + _BLOCK], axis=0, dtype=np.float64)
    return (total / len(vectors)).astype(np.float32)


def _covariance(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    total = np.zeros((vectors.shape[1],) * 2, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK] - mean
        total += block.T @ block
    return total / (len(vectors) - 1)


def _gram(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Products of the centred samples over n − 1, `[n, n]`."""
    total = np.zeros((len(vectors),) * 2, np.float32)
    for start in range(0, vectors.shape[1], _BLOCK):
        block = vectors[:, start : start + _BLOCK] - mean[start : start + _BLOCK]
        total += block @ block.T
    return total / (len(vectors) - 1)


def _project(vectors: np.ndarray, mean: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Centred samples transposed times u, `[dim, units]`."""
    out = np.empty((vectors.shape[1], u.shape[1]), np.float32)
    for start in range(0, vectors.shape[1], _BLOCK):
        out[start : start + _BLOCK] = (vectors[:, start : start + _BLOCK] - mean[start : start + _BLOCK]).T @ u
    return out
