"""Error feedback: nothing to pass on where inputs are not correlated, and what it gains where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaces.coding.channels import channel_rms
from tfplaces.common.errors import UserError
from tfplaces.compression.quantizers.rate_distortion import DAMPING, feedback_matrix, quantize


def kernel(inputs: int, channels: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.laplace(size=(inputs, channels)) * np.exp(rng.normal(size=channels))).astype(np.float32)


def correlated(n: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(4 * n, n))
    x[:, 1:] += 1.5 * x[:, :-1]
    return (x.T @ x / len(x)).astype(np.float32)


def damped(moment: np.ndarray) -> np.ndarray:
    return moment.astype(np.float64) + DAMPING * np.mean(np.diagonal(moment)) * np.eye(len(moment))


def error(shared, weights: np.ndarray, moment: np.ndarray) -> float:
    """tr(Eᵀ H E) with every channel in units of its step."""
    errors = ((shared.weights() - weights) / shared.scales).astype(np.float64)
    return float(np.sum(errors * (damped(moment) @ errors)))


def rounded(weights: np.ndarray, step: float) -> np.ndarray:
    scales = (step * channel_rms(weights[:, :, None])).astype(np.float32)
    return np.clip(np.rint(weights / scales), -127, 127) * scales


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 300),
    st.sampled_from([0.05, 0.7, 1.3, 5.0]),
    st.integers(0, 9),
)
def test_without_correlation_it_is_plain_rounding(blocks: int, n: int, channels: int, step: float, seed: int) -> None:
    weights = kernel(blocks * n, channels, seed)
    diagonals = np.random.default_rng(seed).uniform(0, 2, (blocks, n)).astype(np.float32)
    shared = quantize(weights, step, np.stack([np.diag(diagonal) for diagonal in diagonals]))
    np.testing.assert_array_equal(shared.weights(), rounded(weights, step))
    assert shared.on_int8_grid and shared.levels[shared.zero] == 0 and np.all(np.diff(shared.levels) > 0)


def test_the_rows_after_are_moved_to_where_least_squares_wants_them() -> None:
    """Oracle: with the errors of the first rows fixed, the optimum of the others by the normal equations."""
    moment = correlated(6)
    matrix = damped(moment)
    feedback = feedback_matrix(moment).astype(np.float64)
    errors = np.random.default_rng(1).normal(size=6)  # aim − rounded, of each row in turn
    # Rounding row k by e_k moves it to aim_k − e_k; what is then best for the rest is −H₂₂⁻¹ H₂₁ (moved so far).
    moved = np.zeros(6)
    for row in range(6):
        aim = -feedback[:row, row] @ errors[:row]
        if row:
            rest = matrix[row:, row:]
            best = -np.linalg.solve(rest, matrix[row:, :row] @ moved[:row])
            assert aim == pytest.approx(best[0], rel=1e-4)
        moved[row] = aim - errors[row]


def test_it_gains_what_brute_force_confirms() -> None:
    """Of 3^5 roundings near the weights: feedback is under half as far from the best as plain rounding."""
    n, channels = 5, 40
    weights, moment = kernel(n, channels, 3), correlated(n, 3)
    shared = quantize(weights, 1.0, moment[None])
    plain = quantize(weights, 1.0, np.diag(np.diagonal(moment))[None])
    targets = weights / shared.scales
    moves = np.stack(np.meshgrid(*[[-1, 0, 1]] * n), -1).reshape(-1, n)
    best = 0.0
    for channel in range(channels):
        errors = np.rint(targets[:, channel]) + moves - targets[:, channel]
        best += np.min(np.einsum("mi,ij,mj->m", errors, damped(moment), errors))
    ours, theirs = error(shared, weights, moment), error(plain, weights, moment)
    assert best <= ours * (1 + 1e-6)
    assert ours - best < 0.5 * (theirs - best)


def test_blocks_do_not_touch_each_other() -> None:
    weights, moments = kernel(12, 7), np.stack([correlated(6, 1), correlated(6, 2)])
    both = quantize(weights, 0.8, moments)
    integers = both.levels[both.indices]
    changed = moments.copy()
    changed[0] = np.eye(6)
    other = quantize(weights, 0.8, changed)
    np.testing.assert_array_equal(other.levels[other.indices][6:], integers[6:])
    assert np.any(other.levels[other.indices][:6] != integers[:6])


def test_inputs_that_are_always_zero_and_weights_that_are() -> None:
    weights = kernel(6, 4)
    weights[:, 2] = 0
    moments = np.stack([np.zeros((3, 3), np.float32), correlated(3)])
    shared = quantize(weights, 0.5, moments)
    np.testing.assert_array_equal(shared.weights()[:3], rounded(weights, 0.5)[:3])
    assert not shared.weights()[:, 2].any() and np.all(shared.scales > 0)


@pytest.mark.parametrize("step", [0, -1.0, float("nan"), float("inf"), True, "1"])
def test_a_step_that_is_none(step) -> None:
    with pytest.raises(UserError, match="step="):
        quantize(kernel(2, 2), step, np.eye(2, dtype=np.float32)[None])


def test_what_is_not_finite() -> None:
    weights, moment = kernel(2, 2), np.eye(2, dtype=np.float32)
    with pytest.raises(UserError, match="weights that are not finite"):
        quantize(np.full_like(weights, np.nan), 1.0, moment[None])
    with pytest.raises(UserError, match="moment is not finite"):
        quantize(weights, 1.0, np.full_like(moment, np.inf)[None])
