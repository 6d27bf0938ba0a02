"""Principal components of many long vectors, in bounded memory."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfplaces.common.errors import UserError

# A direction counts where its variance is more than this share of the vectors' mean squared length. Copies of one image
# differ by float32's rounding alone, about 1e-14 to 1e-12; distinct images, even neighbouring frames, by 1e-7 and more.
_TOLERANCE = 1e-10
# The largest square matrix that is decomposed whole: 537 MB in float64. With more vectors and more dimensions than
# this, the leading components come from subspace iteration.
_MAX_SQUARE = 8192
# Subspace iteration: directions beyond those asked for, and rounds.
_OVERSAMPLING = 64
_ROUNDS = 3
# Rows or columns of the vectors worked on at a time.
_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class PrincipalComponents:
    """The leading eigenvectors of the covariance of some vectors.

    Attributes:
        mean: mean of the vectors, float64 `[dim]`.
        directions: orthonormal columns in the order of their variance, float32 `[dim, count]`.
        variances: the eigenvalues λ, of the unbiased covariance, float64 `[count]`, positive, descending.
    """

    mean: np.ndarray
    directions: np.ndarray
    variances: np.ndarray

    def weights(self, power: float) -> np.ndarray:
        """(λ / λ₁)^(−power): what each component is multiplied by, float32 `[count]`."""
        return ((self.variances / self.variances[0]) ** -power).astype(np.float32)


def principal_components(vectors: np.ndarray, count: int, seed: int = 0) -> PrincipalComponents:
    """Finds the leading principal components.

    Up to 8192 vectors or dimensions the result is exact: from the covariance, or with fewer vectors than dimensions
    from the vectors' Gram matrix (dual form), either summed in float64. Beyond both it comes from three rounds of
    subspace iteration from a random start (Halko, Martinsson and Tropp 2011, algorithm 4.4), which read the vectors
    five times. Memory: the square matrix with its eigenvectors, or two matrices of dim x (count + 64) float32
    numbers; beside it blocks of 1024 rows or columns. `vectors` may be a memory map.

    Args:
        vectors: float16 or float32 `[n, dim]`.
        count: how many components, at least 1.
        seed: gives the random start.

    Raises:
        UserError: the vectors, copies of one another counted once, do not span so many directions, or are not finite.
    """
    n, dim = vectors.shape
    possible = max(min(n - 1, dim), 0)
    if count > possible:
        raise UserError(
            f"{n} vectors of {dim} dimensions have at most {possible} principal components, not {count}; "
            "lower the dimensions or give more images"
        )
    mean, power = _moments(vectors)
    if not np.isfinite(power):
        raise UserError("the vectors to find principal components of are not finite")
    if min(n, dim) > _MAX_SQUARE:
        directions, variances = _subspace_iteration(vectors, mean, count, seed)
    elif n > dim:
        directions, variances = _leading(_covariance(vectors, mean), count)
    else:
        directions, variances = _leading(_gram(vectors, mean), count)
        directions = _project(vectors, mean, directions / np.sqrt(np.maximum(variances * (n - 1), 1e-300)))
    rank = int(np.sum(variances > _TOLERANCE * power))
    if rank < count:
        raise UserError(
            f"{n} vectors vary in {rank} directions only: at most {rank} principal components, not {count}; copies of "
            "an image count once: lower the dimensions or give more images that differ"
        )
    return PrincipalComponents(mean, directions.astype(np.float32, copy=False), variances)


def _moments(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean, float64 `[dim]`, and the mean squared length."""
    total, squares = np.zeros(vectors.shape[1]), 0.0
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        total += block.sum(axis=0, dtype=np.float64)
        squares += float(np.einsum("ij,ij", block, block, dtype=np.float64))
    return total / len(vectors), squares / len(vectors)


def _leading(square: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors and eigenvalues of a symmetric matrix, the largest first; reads its lower half and overwrites it."""
    from scipy.linalg import eigh

    size = len(square)
    values, columns = eigh(square, subset_by_index=(size - count, size - 1), overwrite_a=True, check_finite=False)
    return columns[:, ::-1], values[::-1]


def _covariance(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The unbiased covariance, float64 `[dim, dim]`; its lower half is filled."""
    total = np.zeros((vectors.shape[1],) * 2, order="F")
    for start in range(0, len(vectors), _BLOCK):
        total = _add_products(total, (vectors[start : start + _BLOCK] - mean).T)
    total /= len(vectors) - 1
    return total


def _gram(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Products of the centred vectors over n − 1, float64 `[n, n]`; its lower half is filled."""
    total = np.zeros((len(vectors),) * 2, order="F")
    for start in range(0, vectors.shape[1], _BLOCK):
        total = _add_products(total, vectors[:, start : start + _BLOCK] - mean[start : start + _BLOCK])
    total /= len(vectors) - 1
    return total


def _add_products(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Adds the products of all pairs of rows to the lower half of a matrix, in place."""
    from scipy.linalg.blas import dsyrk

    return dsyrk(1.0, rows, beta=1.0, c=total, lower=True, overwrite_c=True)


def _project(vectors: np.ndarray, mean: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The centred vectors, transposed, times columns `[n, count]`: float32 `[dim, count]`."""
    out = np.empty((vectors.shape[1], columns.shape[1]), np.float32)
    for start in range(0, vectors.shape[1], _BLOCK):
        block = vectors[:, start : start + _BLOCK] - mean[start : start + _BLOCK]
        out[start : start + _BLOCK] = block.T @ columns
    return out


def _subspace_iteration(vectors: np.ndarray, mean: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors, float32 `[dim, <= count]`, and eigenvalues of the covariance, which is never formed."""
    n, dim = vectors.shape
    size = min(count + _OVERSAMPLING, n - 1, dim)
    centre = mean.astype(np.float32)
    basis = np.random.default_rng(seed).standard_normal((dim, size), np.float32)
    for _ in range(_ROUNDS):
        product = np.zeros_like(basis)
        for start in range(0, n, _BLOCK):
            block = vectors[start : start + _BLOCK] - centre
            projected = block @ basis
            for row in range(0, dim, _BLOCK):
                product[row : row + _BLOCK] += block[:, row : row + _BLOCK].T @ projected
        basis = _orthonormal(product)
    size = basis.shape[1]
    covariance = np.zeros((size, size), order="F")
    for start in range(0, n, _BLOCK):
        projected = (vectors[start : start + _BLOCK] - centre) @ basis
        covariance = _add_products(covariance, projected.T.astype(np.float64))
    columns, variances = _leading(covariance / (n - 1), min(count, size))
    return basis @ columns.astype(np.float32), variances


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what columns `[dim, size]` span, but for directions that are float32's rounding.

    From the eigenvectors of their products in float64, as columns V Λ^(−1/2): some 20 times as fast as LAPACK's QR.
    Overwrites the columns, and returns some of them.
    """
    products = np.zeros((columns.shape[1],) * 2, order="F")
    for start in range(0, len(columns), _BLOCK):
        products = _add_products(products, columns[start : start + _BLOCK].T.astype(np.float64))
    vectors, values = _leading(products, len(products))
    kept = values > 1e-12 * values[0]
    change = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    for start in range(0, len(columns), _BLOCK):
        columns[start : start + _BLOCK, : change.shape[1]] = columns[start : start + _BLOCK] @ change
    return columns[:, : change.shape[1]]
