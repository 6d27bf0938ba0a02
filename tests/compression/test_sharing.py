"""Weight sharing of one kernel: what the levels, indices and scales promise, and its error beside a plain quantizer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfplaces.compression.sharing import SharedKernel, share

weights_of_any_kind = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=6),
    elements=st.sampled_from([0.0, 1.0, -1.0, 1e-40, -1e-45, 1e30]) | st.floats(-2, 2, width=32),
)


def kernel(shape: tuple[int, ...], seed: int = 0, zeros: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.laplace(size=shape) * np.exp(rng.normal(size=shape[-1]))
    return np.where(rng.random(shape) < zeros, 0, weights).astype(np.float32)


def check(weights: np.ndarray, shared: SharedKernel, axis: int, bits: int) -> None:
    assert shared.levels.dtype == np.float32 and 1 <= len(shared.levels) <= 2**bits
    assert np.all(np.diff(shared.levels) > 0) and shared.levels[shared.zero] == 0
    assert shared.indices.dtype == np.uint8 and shared.indices.shape == weights.shape
    assert shared.scales.dtype == np.float32 and shared.scales.shape == (weights.shape[axis],)
    assert np.all(shared.scales > 0)
    assert np.all(shared.indices[weights == 0] == shared.zero)
    # Written out, weight by weight.
    expected = np.array(
        [shared.levels[i] * shared.scales[at[axis]] for at, i in np.ndenumerate(shared.indices)], np.float32
    ).reshape(weights.shape)
    np.testing.assert_array_equal(shared.weights(), expected)


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("zeros", [0.0, 0.7])
@pytest.mark.parametrize("shape, axis", [((3, 3, 20, 30), 3), ((3, 3, 40, 1), 2), ((200, 50), 1)])
def test_kernels(shape: tuple[int, ...], axis: int, zeros: float, bits: int) -> None:
    weights = kernel(shape, zeros=zeros)
    shared = share(weights, axis, bits)
    check(weights, shared, axis, bits)
    scaled = np.moveaxis(weights, axis, -1) / shared.scales
    chosen = np.abs(scaled - shared.levels[np.moveaxis(shared.indices, axis, -1)])
    nearest = np.min(np.abs(scaled[..., None] - shared.levels), -1)
    np.testing.assert_allclose(chosen, nearest, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(weights_of_any_kind, st.integers(2, 8), st.data())
def test_any_kernel(weights: np.ndarray, bits: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, weights.ndim - 1))
    before = weights.copy()
    check(weights, share(weights, axis, bits), axis, bits)
    np.testing.assert_array_equal(weights, before)


def test_a_channel_of_zeros_and_a_kernel_of_zeros() -> None:
    weights = kernel((3, 3, 4, 5))
    weights[..., 2] = 0
    shared = share(weights, 3, 8)
    check(weights, shared, 3, 8)
    assert shared.scales[2] == 1 and not shared.weights()[..., 2].any()
    nothing = share(np.zeros((2, 3), np.float32), 1, 4)
    np.testing.assert_array_equal(nothing.weights(), 0)
    assert len(nothing.levels) == 1


def test_few_values_are_kept_exactly() -> None:
    weights = np.array([[1, -4], [-0.5, 2], [0, 1]], np.float32)
    shared = share(weights, 1, 3)  # divided by 1 and 4: the levels -1, -0.5, 0, 0.25, 0.5, 1
    np.testing.assert_array_equal(shared.levels, np.float32([-1, -0.5, 0, 0.25, 0.5, 1]))
    np.testing.assert_array_equal(shared.scales, np.float32([1, 4]))
    np.testing.assert_array_equal(shared.weights(), weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(bad: float) -> None:
    weights = kernel((5, 5))
    weights[1, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        share(weights, 1, 8)


@pytest.mark.parametrize("bits", [0, 1, 9])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match=f"bits={bits}: 2 to 8"):
        share(kernel((5, 5)), 1, bits)


@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_the_error_is_lower_than_that_of_a_uniform_int8_quantizer(zeros: float) -> None:
    weights = kernel((3, 3, 64, 64), zeros=zeros)
    scale = np.abs(weights).max((0, 1, 2)) / 127  # per channel, symmetric, as TFLite has it
    uniform = np.round(weights / scale) * scale
    assert np.mean((share(weights, 3, 8).weights() - weights) ** 2) < 0.7 * np.mean((uniform - weights) ** 2)
