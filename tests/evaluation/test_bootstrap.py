"""The interval of a drop: against the normal approximation, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from tfplaces.evaluation.bootstrap import drop_interval, mean_drop_interval, mean_intervals


def test_like_the_normal_approximation_on_many_queries() -> None:
    """Mean ± 1.96 standard errors of the differences, which is right for many of them."""
    rng = np.random.default_rng(0)
    base, noise = rng.uniform(0, 100, 2000), rng.normal(1, 10, 2000)
    error = np.std(noise, ddof=1) / np.sqrt(2000)
    low, high = drop_interval(base, base - noise)
    assert low == pytest.approx(np.mean(noise) - 1.96 * error, abs=0.03)
    assert high == pytest.approx(np.mean(noise) + 1.96 * error, abs=0.03)


def test_it_is_paired() -> None:
    """Queries differ by a hundred points, the models by one: the interval knows that one, whatever is drawn."""
    base = np.linspace(0, 100, 50)
    assert drop_interval(base, base - 1) == pytest.approx((1, 1))
    assert drop_interval(base, base) == (0, 0)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    """200 samples of 100 queries each: 95 % of the intervals hold the true drop; 87 to 99 % is within chance."""
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        drops = rng.normal(0.5, 8, 100)
        low, high = drop_interval(drops, np.zeros(100), seed=seed)
        held += low <= 0.5 <= high
    assert 174 <= held <= 198


@pytest.mark.parametrize("other", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]])
def test_other_queries_are_refused(other) -> None:
    with pytest.raises(ValueError, match="not of the same queries"):
        drop_interval(np.array([1.0, 2.0]), np.array(other))
    with pytest.raises(ValueError, match="not of the same queries"):
        drop_interval(np.array([]), np.array([]))


def test_the_mean_of_several_data_sets() -> None:
    """Two sets are drawn apart: the variance of their mean is a quarter of both together. Of one it is the plain."""
    rng = np.random.default_rng(1)
    bases = [rng.normal(60, 10, 400), rng.normal(40, 20, 100)]
    others = [base - rng.normal(2, 5, len(base)) for base in bases]
    low, high = mean_drop_interval(bases, others)
    errors = [np.std(base - other) / np.sqrt(len(base)) for base, other in zip(bases, others, strict=True)]
    assert high - low == pytest.approx(2 * 1.96 * np.hypot(*errors) / 2, rel=0.05)
    middle = np.mean([np.mean(base - other) for base, other in zip(bases, others, strict=True)])
    assert (low + high) / 2 == pytest.approx(middle, abs=0.05)
    assert mean_drop_interval(bases[:1], others[:1]) == drop_interval(bases[0], others[0])
    with pytest.raises(ValueError, match="not of the same queries"):
        mean_drop_interval(bases, others[::-1])


def test_intervals_of_means_are_like_the_normal_approximation() -> None:
    """Two figures of 2000 queries: mean ± 1.96 standard errors of each."""
    values = np.random.default_rng(0).normal([50, 10], [20, 5], (2000, 2))
    found = mean_intervals(values)
    error = np.std(values, axis=0, ddof=1) / np.sqrt(2000)
    np.testing.assert_allclose(found, (values.mean(0) + np.array([[-1.96], [1.96]]) * error).T, atol=0.06)


def test_frames_of_a_drive_tell_no_more_than_the_drive() -> None:
    """Each of 100 drives is found as a whole or not at all: 30 frames of each are as good as one."""
    rng = np.random.default_rng(0)
    drives = rng.choice([0.0, 100.0], 100)
    labels = np.repeat(np.array([f"drive {i}" for i in range(100)]), 30)
    frames = np.repeat(drives, 30)[:, None]
    order = rng.permutation(3000)
    (low, high), (one_low, one_high) = (
        mean_intervals(frames[order], labels[order])[0],
        mean_intervals(drives[:, None])[0],
    )
    assert (low, high) == pytest.approx((one_low, one_high), abs=1.5) and high - low == pytest.approx(2 * 9.8, abs=1.5)
    careless_low, careless_high = mean_intervals(frames)[0]
    assert (high - low) / (careless_high - careless_low) == pytest.approx(np.sqrt(30), rel=0.1)


def test_drives_of_different_lengths_count_by_their_queries() -> None:
    """A drive of 9 queries at 0 and one of a single query at 100: half of the draws have both, and a mean of 10."""
    found = mean_intervals(np.array([[0.0]] * 9 + [[100.0]]), np.array([0] * 9 + [1]), level=0.4)
    assert found.tolist() == [[10, 10]]


@pytest.mark.parametrize("values", [np.zeros((0, 2)), np.zeros((1, 2))])
def test_one_query_has_no_interval(values: np.ndarray) -> None:
    assert mean_intervals(values) is None
    assert mean_intervals(np.zeros((3, 2)), np.array(["a", "a", "a"])) is None
