"""Weight sharing of one kernel: what the levels, indices and scales promise, and its error beside a plain quantizer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfplaces.coding import channels
from tfplaces.compression.quantizers.kmeans import GRIDS, SharedKernel, share

weights_of_any_kind = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=6),
    elements=st.sampled_from([0.0, 1.0, -1.0, 1e-40, -1e-45, 1e30]) | st.floats(-2, 2, width=32),
)


def kernel(shape: tuple[int, ...], seed: int = 0, zeros: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.laplace(size=shape) * np.exp(rng.normal(size=shape[-1]))
    return np.where(rng.random(shape) < zeros, 0, weights).astype(np.float32)


def check(weights: np.ndarray, shared: SharedKernel, axis: int, bits: int, grid: str) -> None:
    assert shared.levels.dtype == np.float32 and 1 <= len(shared.levels) <= 2**bits
    assert np.all(np.diff(shared.levels) > 0) and shared.levels[shared.zero] == 0
    assert not np.signbit(shared.levels[shared.zero])
    if grid == "int8":
        assert shared.on_int8_grid and len(shared.levels) <= 255
        np.testing.assert_array_equal(shared.levels.astype(np.int8), shared.levels)
        assert np.abs(shared.levels).max() <= 127
    assert shared.indices.dtype == np.uint8 and shared.indices.shape == weights.shape
    assert shared.scales.dtype == np.float32 and shared.scales.shape == (weights.shape[axis],)
    assert np.all(shared.scales > 0)
    assert np.all(shared.indices[weights == 0] == shared.zero)
    # Written out, weight by weight.
    expected = np.array(
        [shared.levels[i] * shared.scales[at[axis]] for at, i in np.ndenumerate(shared.indices)], np.float32
    ).reshape(weights.shape)
    np.testing.assert_array_equal(shared.weights(), expected)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("zeros", [0.0, 0.7])
@pytest.mark.parametrize("shape, axis", [((3, 3, 20, 30), 3), ((3, 3, 40, 1), 2), ((200, 50), 1)])
def test_each_weight_has_the_level_nearest_to_it(shape, axis: int, zeros: float, bits: int, grid: str) -> None:
    weights = kernel(shape, zeros=zeros)
    shared = share(weights, axis, bits, grid)
    check(weights, shared, axis, bits, grid)
    scaled = np.moveaxis(weights, axis, -1) / shared.scales
    chosen = np.abs(scaled - shared.levels[np.moveaxis(shared.indices, axis, -1)])
    nearest = np.min(np.abs(scaled[..., None] - shared.levels), -1)
    np.testing.assert_allclose(chosen, nearest, atol=1e-6 * np.abs(shared.levels).max())


@settings(max_examples=100, deadline=None)
@given(weights_of_any_kind, st.integers(2, 8), st.sampled_from(GRIDS), st.data())
def test_any_kernel(weights: np.ndarray, bits: int, grid: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, weights.ndim - 1))
    before = weights.copy()
    check(weights, share(weights, axis, bits, grid), axis, bits, grid)
    np.testing.assert_array_equal(weights, before)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_channel_of_zeros_and_a_kernel_of_zeros(grid: str) -> None:
    weights = kernel((3, 3, 4, 5))
    weights[..., 2] = 0
    shared = share(weights, 3, 8, grid)
    check(weights, shared, 3, 8, grid)
    assert not shared.weights()[..., 2].any()
    nothing = share(np.zeros((2, 3), np.float32), 1, 4, grid)
    np.testing.assert_array_equal(nothing.weights(), 0)
    assert len(nothing.levels) == 1


def test_few_values_are_kept() -> None:
    """Two channels of one pattern, 1 and 4 times: four levels hold it."""
    pattern = np.array([1, -0.5, 0, 0.25, 1, -0.5], np.float32)
    weights = np.stack([pattern, 4 * pattern], 1)
    np.testing.assert_allclose(share(weights, 1, 2, "none").weights(), weights, rtol=1e-6)
    # On the grid a half and a quarter of 127 are rounded: by half a step at most.
    error = np.abs(share(weights, 1, 2).weights() - weights)
    assert np.all(error <= np.float32([1, 4]) / 127 / 2 * 1.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(bad: float) -> None:
    weights = kernel((5, 5))
    weights[1, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        share(weights, 1, 8)


@pytest.mark.parametrize("bits", [0, 1, 9])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match=f"bits={bits}: a whole number from 2 to 8"):
        share(kernel((5, 5)), 1, bits)


def test_an_unknown_grid() -> None:
    with pytest.raises(ValueError, match="grid 'int4': int8 or none"):
        share(kernel((5, 5)), 1, 8, "int4")


def relative_error(ours: np.ndarray, weights: np.ndarray) -> float:
    """Squared error over the channel's energy: channels count alike."""
    axes = tuple(range(weights.ndim - 1))
    return float(np.mean(np.mean((ours - weights) ** 2, axes) / np.mean(weights**2, axes)))


@pytest.mark.parametrize("zeros", [0.0, 0.5])
@pytest.mark.parametrize(
    "grid, bits, share_of", [("none", 8, 0.5), ("int8", 8, 1.001), ("none", 4, 0.45), ("int8", 4, 0.45)]
)
def test_the_error_beside_that_of_a_uniform_quantizer(grid: str, bits: int, share_of: float, zeros: float) -> None:
    """Symmetric, with a scale per channel, as TFLite has it; at 8 bits the int8 grid is just that."""
    weights = kernel((3, 3, 64, 64), zeros=zeros)
    most = 2 ** (bits - 1) - 1
    scale = np.abs(weights).max((0, 1, 2)) / most
    uniform = np.round(weights / scale) * scale
    assert relative_error(share(weights, 3, bits, grid).weights(), weights) < share_of * relative_error(
        uniform, weights
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_a_large_kernel_is_shared_in_blocks(grid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in one piece."""
    weights = kernel((300, 10), zeros=0.3)
    whole = share(weights, 1, 4, grid)
    monkeypatch.setattr(channels, "BLOCK", 70)
    parts = share(weights, 1, 4, grid)
    np.testing.assert_allclose(parts.weights(), whole.weights(), rtol=1e-6)
    np.testing.assert_array_equal(parts.indices, whole.indices)


def test_a_kernel_is_fitted_on_a_sample_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is not in the sample is held nearly as well."""
    weights = kernel((4000, 8))
    errors = []
    for sample in (2**20, 2000):
        monkeypatch.setattr("tfplaces.compression.quantizers.kmeans._SAMPLE", sample)
        errors.append(relative_error(share(weights, 1, 5).weights(), weights))
    assert errors[0] < errors[1] < 1.3 * errors[0]
