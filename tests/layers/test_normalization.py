"""L2 and local response normalisation against loops over single values."""

import numpy as np
import pytest

from tfplaces.layers import L2Normalization, LocalResponseNormalization

RNG = np.random.default_rng(0)


def caffe_lrn(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    """Across channels, as Caffe's lrn_layer.cpp: x_i / (k + α/size · Σ x_j²)^β, j over the neighbours that exist."""
    out = np.empty(x.shape)
    for i in range(x.shape[-1]):
        window = x[..., max(0, i - size // 2) : i + size // 2 + 1].astype(np.float64)
        out[..., i] = x[..., i] / (k + alpha / size * np.square(window).sum(-1)) ** beta
    return out


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize(("alpha", "beta", "k"), [(1e-4, 0.75, 1.0), (0.5, 0.4, 2.0)])
def test_lrn_equals_caffes(size: int, alpha: float, beta: float, k: float) -> None:
    x = RNG.normal(size=(2, 3, 4, 7)).astype(np.float32) * 30
    layer = LocalResponseNormalization(size, alpha, beta, k)
    np.testing.assert_allclose(layer(x), caffe_lrn(x, size, alpha, beta, k), rtol=1e-4)
    assert layer.compute_output_shape(x.shape) == x.shape


def test_lrn_defaults_are_alexnets() -> None:
    x = RNG.normal(size=(1, 2, 2, 8)).astype(np.float32) * 100
    np.testing.assert_allclose(LocalResponseNormalization()(x), caffe_lrn(x, 5, 1e-4, 0.75, 1.0), rtol=1e-4)


@pytest.mark.parametrize("size", [0, 2, -3])
def test_lrn_refuses_even_sizes(size: int) -> None:
    with pytest.raises(ValueError, match=f"size={size}"):
        LocalResponseNormalization(size)


@pytest.mark.parametrize("axis", [-1, 1])
def test_l2(axis: int) -> None:
    x = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    x[0, 0] = 0
    norms = np.linalg.norm(x, axis=axis, keepdims=True)
    layer = L2Normalization(axis)
    np.testing.assert_allclose(layer(x), x / np.where(norms, norms, 1), atol=1e-6)
    assert layer.compute_output_shape(x.shape) == x.shape


def test_l2_of_short_vectors() -> None:
    """Those shorter than 1e-6 are divided by 1e-6, as TFLite's L2_NORMALIZATION does: (3e-7, 4e-7) is (0.3, 0.4)."""
    np.testing.assert_allclose(L2Normalization()(np.array([[3e-7, 4e-7]], np.float32)), [[0.3, 0.4]], rtol=1e-5)
    np.testing.assert_allclose(L2Normalization()(np.array([[3e-5, 4e-5]], np.float32)), [[0.6, 0.8]], rtol=1e-5)
