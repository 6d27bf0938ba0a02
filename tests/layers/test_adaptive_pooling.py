"""Adaptive average pooling against the rule of its bins, and against plain pooling where the two are the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfplaces.common.errors import UserError
from tfplaces.layers import AdaptiveAveragePooling


def expected(x: np.ndarray, grid: int) -> np.ndarray:
    """Bin i of n rows: ⌊i·n/grid⌋ to ⌈(i+1)·n/grid⌉; channel-major, then row, then column."""

    def bins(n: int) -> list[slice]:
        return [slice(int(np.floor(i * n / grid)), int(np.ceil((i + 1) * n / grid))) for i in range(grid)]

    means = [[x[:, r, c].mean(axis=(1, 2)) for c in bins(x.shape[2])] for r in bins(x.shape[1])]
    return np.transpose(means, (2, 3, 0, 1)).reshape(len(x), -1)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 3), (10, 10)])
@pytest.mark.parametrize("grid", [1, 2, 3])
def test_bins(size: tuple[int, int], grid: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, *size, 5)).astype(np.float32)
    layer = AdaptiveAveragePooling(grid)
    np.testing.assert_allclose(layer(x), expected(x, grid), atol=1e-6)
    inputs = keras.Input((None, None, 5))  # of a size that is known when it runs
    run = tf.function(keras.Model(inputs, layer(inputs)), input_signature=[tf.TensorSpec((None, None, None, 5))])
    np.testing.assert_allclose(run(x), expected(x, grid), atol=1e-6)


def test_even_maps_are_pooled_as_usual() -> None:
    x = np.random.default_rng(1).normal(size=(1, 6, 8, 3)).astype(np.float32)
    usual = np.asarray(keras.layers.AveragePooling2D((3, 4))(x))  # [1, 2, 2, 3]
    np.testing.assert_allclose(AdaptiveAveragePooling(2)(x), usual.transpose(0, 3, 1, 2).reshape(1, -1), atol=1e-6)


def test_refuses_fewer_places_than_bins() -> None:
    with pytest.raises(UserError, match="grid=0"):
        AdaptiveAveragePooling(0)
    with pytest.raises(ValueError, match="a map of 1x4 has no 2x2 bins"):
        AdaptiveAveragePooling(2).compute_output_shape((None, 1, 4, 3))
