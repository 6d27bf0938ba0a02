"""The cosine distance to given vectors."""

from __future__ import annotations

import keras
import numpy as np

from tfplaces.losses import CosineDistance


def test_the_distance_by_hand() -> None:
    """Cosines 1, 0 and -1 of vectors of any length; the mean over positions is taken for each image."""
    a = np.array([[[3, 0], [0, 2]], [[1, 0], [4, 0]]], np.float32)
    b = np.array([[[5, 0], [1, 0]], [[-1, 0], [-9, 0]]], np.float32)
    np.testing.assert_allclose(CosineDistance(reduction=None)(a, b), [0.5, 2.0], atol=1e-6)
    np.testing.assert_allclose(CosineDistance()(a[:, 0], b[:, 0]), 1.0, atol=1e-6)
    copy = keras.losses.deserialize(keras.losses.serialize(CosineDistance()))
    assert float(copy(a, b)) == float(CosineDistance()(a, b))
