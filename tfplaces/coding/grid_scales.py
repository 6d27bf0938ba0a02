"""Scales of numbers that lie on a grid: whole multiples, at most 127, of one float."""

from __future__ import annotations

import numpy as np


def find_scale(values: np.ndarray) -> tuple[np.float32, np.ndarray] | None:
    """A float32 of which all values are whole multiples, at most 127, once rounded to their type; the multiples too.

    Args:
        values: float16 or float32 `[n]`, all different.
    """
    if not np.isfinite(values).all():
        return None
    # Zero times a negative scale is the negative zero that a negated kernel holds.
    sign = -1 if np.signbit(values[values == 0]).any() else 1
    size = np.abs(values.astype(np.float64))
    largest = size.max()
    if not largest:
        return np.float32(sign), np.zeros(len(values), np.int8)
    # What largest / n comes near to enough: within half a unit in the last place of values, or nearly.
    near = largest / np.arange(1, 128)[:, None]
    multiples = np.rint(size / near)
    slack = np.spacing(values.dtype.type(largest)).astype(np.float64)
    fits = (np.abs(size - multiples * near) <= slack).all(axis=1)
    for multiple in multiples[fits]:
        used = multiple > 0
        half = np.spacing(np.abs(values[used])).astype(np.float64) / 2
        least = np.max((size[used] - half) / multiple[used])
        most = np.min((size[used] + half) / multiple[used])
        middle = np.float32((least + most) / 2)
        signed = np.where(np.signbit(values), -sign, sign) * multiple
        for scale in (middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))):
            if products(signed, sign * scale, values.dtype).tobytes() == values.tobytes():
                return sign * scale, signed.astype(np.int8)
    return None


def products(multiples: np.ndarray, scales: np.ndarray | np.float32, dtype: np.dtype) -> np.ndarray:
    """One float32 product, rounded once more where dtype is float16."""
    with np.errstate(all="ignore"):  # a hostile scale may overflow; SHA-256 finds it
        return (multiples.astype(np.float32) * scales).astype(dtype)
