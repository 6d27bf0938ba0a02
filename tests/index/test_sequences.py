"""Frames that vote together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfplaces.index.sequences import STEPS, sequence_scores


def test_one_frame_alone_is_as_it_was() -> None:
    scores = np.random.default_rng(0).random((4, 6)).astype(np.float32)
    np.testing.assert_array_equal(sequence_scores(scores, 1), scores)


def test_the_best_way_is_that_of_all_ways() -> None:
    """Against every way tried; places that no way of three frames leads to aside."""
    scores = np.random.default_rng(1).normal(size=(3, 9)).astype(np.float32)
    found = sequence_scores(scores, 3)[2]
    for row in range(4, 9):
        ways = [
            scores[2, row] + scores[1, row - last] + scores[0, row - last - first]
            for first, last in itertools.product(STEPS, STEPS)
        ]
        assert found[row] == pytest.approx(max(ways) / 3, rel=1e-5)


def test_a_walk_is_found_where_single_frames_are_not() -> None:
    """The right place is 2.5 deviations above the others, of which the best of 100 is about as high."""
    scores = np.random.default_rng(2).normal(0, 1, (60, 100)).astype(np.float32)
    right = 20 + np.arange(60)
    scores[np.arange(60), right] += 2.5
    alone, together = (np.mean(sequence_scores(scores, n).argmax(axis=1) == right) for n in (1, 5))
    assert together > alone + 0.15


def test_ways_stay_within_a_group() -> None:
    scores = np.zeros((2, 4), np.float32)
    scores[0, 1] = 1
    assert sequence_scores(scores, 2).tolist()[1] == [0, 0.5, 0.5, 0.5]
    assert sequence_scores(scores, 2, np.array([0, 0, 1, 1])).tolist()[1] == [0, 0.5, 0, 0]


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="0 frames"):
        sequence_scores(np.zeros((1, 1)), 0)
