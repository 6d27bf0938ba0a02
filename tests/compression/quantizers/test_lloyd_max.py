"""One-dimensional k-means against exact dynamic programmes and scikit-learn."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.cluster import KMeans

from tfplaces.compression.quantizers import lloyd_max
from tfplaces.compression.quantizers.lloyd_max import kmeans_1d

DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "gaussian": lambda rng, n: rng.normal(size=n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "bimodal": lambda rng, n: 0.1 * rng.normal(size=n) + rng.choice([-1, 1], n),
    "heavy-tailed": lambda rng, n: rng.standard_t(2, n),
    "far from zero": lambda rng, n: 1000 + rng.normal(size=n),
    "one outlier": lambda rng, n: np.append(rng.normal(size=n - 1), 1000),
    "pruned": lambda rng, n: np.sign(x := rng.normal(size=n)) * np.sqrt(x * x + 1.645**2),
    "two clusters": lambda rng, n: np.append(rng.normal(0, 0.001, n // 2), rng.normal(1, 0.01, n - n // 2)),
    "many magnitudes": lambda rng, n: rng.choice([-1, 1], n) * rng.lognormal(0, 3, n),
}


def sample(name: str, n: int, seed: int = 0) -> np.ndarray:
    return DISTRIBUTIONS[name](np.random.default_rng(seed), n).astype(np.float32)


def squared_error(values: np.ndarray, levels: np.ndarray) -> float:
    """Of every value to its nearest level."""
    values, levels = values.astype(np.float64), np.sort(levels.astype(np.float64))
    above = np.searchsorted(levels, values).clip(1, len(levels) - 1) if len(levels) > 1 else np.zeros(len(values), int)
    return float(np.sum(np.minimum((values - levels[above]) ** 2, (values - levels[above - 1]) ** 2)))


def least_error(values: np.ndarray, k: int, keep_zero: bool) -> float:
    """The optimum by the textbook programme over all O(n²) runs: error[k, b] = min over a of error[k − 1, a] + cost."""
    x = np.sort(values.astype(np.float64))
    n = len(x)
    total, square, i = np.append(0, np.cumsum(x)), np.append(0, np.cumsum(x * x)), np.arange(n + 1)
    at_zero = np.where(i[None] >= i[:, None], square[None] - square[:, None], np.inf)
    mean = at_zero - (total[None] - total[:, None]) ** 2 / np.maximum(i[None] - i[:, None], 1)
    free, with_zero = np.full((2, n + 1), np.inf)
    free[0] = 0
    for _ in range(k):
        with_zero = np.minimum(np.min(with_zero[:, None] + mean, 0), np.min(free[:, None] + at_zero, 0))
        free = np.min(free[:, None] + mean, 0)
    return float((with_zero if keep_zero else free)[n])


@pytest.mark.parametrize("keep_zero", [False, True])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_small_cases_are_optimal(name: str, keep_zero: bool) -> None:
    for n, k, seed in [(300, 2, 0), (300, 3, 1), (300, 8, 2), (300, 32, 3), (300, 100, 4), (400, 256, 5)]:
        values = sample(name, n, seed)
        levels = kmeans_1d(values, k, keep_zero)
        assert levels.dtype == np.float32 and len(levels) <= k and np.all(np.diff(levels) > 0)
        assert not keep_zero or 0 in levels
        best = least_error(values, k, keep_zero)
        # Beside 0.1 %, what float32 levels cannot help.
        rounding = n * float(np.spacing(np.float32(np.abs(values).max()))) ** 2
        assert squared_error(values, levels) <= 1.001 * best + rounding, (n, k)


@pytest.mark.parametrize("keep_zero", [False, True])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_large_cases_are_within_a_thousandth_of_the_optimum(name: str, keep_zero: bool, monkeypatch) -> None:
    """Of the same programme on all values instead of groups of them, which the test above shows to be exact."""
    values = sample(name, 8_000)
    for k in (16, 256):
        ours = {
            "values": kmeans_1d(values, k, keep_zero),
            "histogram": kmeans_1d(np.tile(values, 9), k, keep_zero),  # more values than bins
        }
        with monkeypatch.context() as patch:
            patch.setattr(lloyd_max, "_ATOMS", len(values))
            best = squared_error(values, kmeans_1d(values, k, keep_zero))
        for way, levels in ours.items():
            assert squared_error(values, levels) <= 1.001 * best, (k, way)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_large_cases_are_not_worse_than_scikit_learn(name: str) -> None:
    values = sample(name, 6_000)
    for k in (4, 256):
        ours = squared_error(values, kmeans_1d(values, k))
        centres = KMeans(k, n_init=2, random_state=0).fit(values[:, None]).cluster_centers_.ravel()
        assert ours <= 1.001 * squared_error(values, centres), k
        # The level that has to be zero costs no more than one level of the others.
        with_zero = squared_error(values, kmeans_1d(values, k, True))
        assert with_zero <= 1.001 * squared_error(values, np.append(kmeans_1d(values, k - 1), 0)), k


def test_blocks_give_the_same_levels_in_little_memory() -> None:
    blocks = [sample("laplace", 1_000_000, seed).reshape(1000, 1000) for seed in range(8)]
    expected = kmeans_1d(np.stack(blocks), 32, True)
    calls = []

    def give():
        calls.append(True)
        return iter(blocks)

    tracemalloc.start()
    levels = kmeans_1d(give, 32, True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(levels, expected)
    assert len(calls) == 2
    # The first pass's table of a million bins, whatever the number of values; a float64 copy of them takes 64 MB.
    assert peak < 60e6


def test_zeros_do_not_matter_where_zero_is_kept() -> None:
    values = sample("gaussian", 100_000)
    padded = np.append(values, np.zeros(300_000, np.float32))
    np.testing.assert_allclose(kmeans_1d(padded, 32, True), kmeans_1d(values, 32, True), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [10, 100_000])
def test_values_that_are_not_finite(value: float, count: int) -> None:
    with pytest.raises(ValueError, match="not finite"):
        kmeans_1d(np.append(sample("gaussian", count), np.float32(value)), 4)


def test_more_values_than_bins_agree_with_panter_and_dite() -> None:
    """A million Gaussian values: the error of 64 levels is √3 π / 2 / 64² = 6.64e-4 asymptotically."""
    values = sample("gaussian", 1_000_000)
    assert squared_error(values, kmeans_1d(values, 64)) / len(values) == pytest.approx(6.64e-4, rel=0.05)


@pytest.mark.parametrize(
    "values, k, keep_zero, expected",
    [
        ([3, 3, 3], 1, False, [3]),
        ([3, 3, 3], 4, False, [3]),
        ([3, 3, 3], 4, True, [0, 3]),
        ([0, 0], 4, True, [0]),
        ([5], 1, True, [0]),
        ([1, 2, 2, 7], 3, False, [1, 2, 7]),
        ([-1, 0, 2], 3, True, [-1, 0, 2]),
        ([1, 2, 9], 2, False, [1.5, 9]),
        ([1, 2, 9], 2, True, [0, 9]),  # {1, 2} to zero costs 5; zero alone and one level of mean 4 costs 38
        ([-9, -8, 1], 2, True, [-8.5, 0]),
        ([1, 2, 3], 1, False, [2]),
    ],
)
def test_small_sets_by_hand(values: list[float], k: int, keep_zero: bool, expected: list[float]) -> None:
    np.testing.assert_array_equal(kmeans_1d(np.array(values, np.float32), k, keep_zero), np.float32(expected))


def test_a_constant_of_more_values_than_bins() -> None:
    np.testing.assert_array_equal(kmeans_1d(np.full(70_000, 0.1, np.float32), 16), np.float32([0.1]))
    np.testing.assert_array_equal(kmeans_1d(np.full(70_000, 0.1, np.float32), 16, True), np.float32([0, 0.1]))


def test_a_lone_outlier_gets_its_level() -> None:
    values = np.append(sample("gaussian", 100_000), np.float32(1e4))
    assert kmeans_1d(values, 8)[-1] == np.float32(1e4)
