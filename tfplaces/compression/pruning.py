"""Pruning by magnitude: which weights become, and stay, zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfplaces.compression.kernels import Kernel


def prune(kernels: Sequence[Kernel], threshold: float) -> dict[str, np.ndarray]:
    """Zeroes all weights whose magnitude is below a threshold.

    Args:
        kernels: changed in place.
        threshold: magnitude; a weight of exactly this magnitude survives.

    Returns:
        for each kernel by name the mask of the survivors, bool of its shape.

    Raises:
        ValueError: nothing would survive in some kernel.
    """
    masks = {}
    for kernel in kernels:
        weights = kernel.variable.numpy()
        masks[kernel.name] = np.abs(weights) >= threshold
        if not masks[kernel.name].any():
            raise ValueError(
                f"pruning below {threshold:g} leaves nothing of {kernel.name} (largest magnitude "
                f"{np.max(np.abs(weights)):g}): lower the threshold or the share"
            )
    for kernel in kernels:
        kernel.variable.assign(kernel.variable.numpy() * masks[kernel.name])
    return masks


def magnitude_quantile(arrays: Iterable[np.ndarray], count: int) -> float:
    """The smallest threshold below which at least `count` magnitudes lie, found without sorting or copying all.

    Magnitudes of float32 order like their bit patterns, so the upper and then the lower 16 bits are counted.

    Args:
        arrays: float32, of any shapes; gone through twice.
        count: 0 to the number of values.
    """
    arrays = list(arrays)
    if count <= 0:
        return 0.0
    high = _histogram(bits >> 16 for bits in map(_magnitude_bits, arrays))
    prefix = int(np.searchsorted(np.cumsum(high), count))
    below = int(high[:prefix].sum())
    low = _histogram(bits[bits >> 16 == prefix] & 0xFFFF for bits in map(_magnitude_bits, arrays))
    suffix = int(np.searchsorted(np.cumsum(low), count - below))
    # The next float above the count-th smallest magnitude.
    return float(np.uint32((prefix << 16) + suffix + 1).view(np.float32))


def _magnitude_bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32) & np.uint32(0x7FFFFFFF)


def _histogram(parts: Iterable[np.ndarray]) -> np.ndarray:
    counts = np.zeros(2**16, np.int64)
    for part in parts:
        counts += np.bincount(part, minlength=2**16)
    return counts
