"""Queries and database described by two networks whose every descriptor is known."""

from __future__ import annotations

import numpy as np
import pytest

from tfplaces.datasets import Images, PlaceDataset
from tfplaces.evaluation import evaluate, evaluate_pairings


class Numbered(Images):
    """Image i is filled with first + i."""

    def __init__(self, count: int, first: int):
        self.names, self._first = [str(i) for i in range(count)], first

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return np.full((*size, 3), self._first + index, np.uint8)


class Table:
    """Describes an image by the row of a table that its pixels number; of an input size of its own."""

    def __init__(self, rows: np.ndarray, size: tuple[int, int]):
        self._rows, self.input_size, self.descriptor_dim = np.asarray(rows, np.float32), size, np.shape(rows)[1]

    def describe(self, images: np.ndarray) -> np.ndarray:
        assert images.shape[1:3] == self.input_size
        return self._rows[images[:, 0, 0, 0]]


# Four database images and four queries, each query of one place.
SET = PlaceDataset("mine", Numbered(4, 0), Numbered(4, 4), [np.array([i]) for i in range(4)])
TEACHER = np.concatenate([np.eye(4), np.eye(4)])
# The student finds what the teacher described of three queries; its own database images are all but the same.
STUDENT = np.array([[1, 0.1, 0, 0], [1, 0.11, 0, 0], [1, 0, 0.12, 0], [1, 0, 0, 0.13],
                    [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0.5]])  # fmt: skip


def test_each_pairing_has_the_figures_of_its_descriptors() -> None:
    """A network alone is what `evaluate` says of it."""
    student, teacher = Table(STUDENT, (4, 6)), Table(TEACHER, (8, 8))
    found = evaluate_pairings(student, teacher, SET)
    assert found.first == evaluate(student, SET) and found.second == evaluate(teacher, SET)
    assert found.second.map == 100 and found.first.recall[1] == 75
    # The fourth query has its place second: 1, 1, 1 and 1/2.
    assert found.together.map == pytest.approx(100 * 3.5 / 4) and found.together.recall[1] == 75
    np.testing.assert_array_equal(found.database, TEACHER[:4])
    cosines = (STUDENT[:4] / np.linalg.norm(STUDENT[:4], axis=1, keepdims=True)) @ TEACHER[:4].T
    assert found.agreement == pytest.approx(np.trace(cosines) / 4)
    assert found.chance == pytest.approx((cosines.sum() - np.trace(cosines)) / 12)


@pytest.mark.parametrize("taught", [False, True])
def test_networks_that_know_nothing_of_each_other_are_told_of(taught: bool) -> None:
    """Random descriptors with a large common part: a cosine of 0.8 alone says nothing."""
    rng = np.random.default_rng(0)
    teacher = rng.normal(0, 1, (8, 64)) + 2
    student = teacher + rng.normal(0, 0.5, (8, 64)) if taught else rng.normal(0, 1, (8, 64)) + 2
    found = evaluate_pairings(Table(student, (4, 4)), Table(teacher, (4, 4)), SET)
    assert found.agreement > 0.7
    notes = [note for note in found.together.notes if "hardly agree" in note]
    assert len(notes) == (not taught) and not any("agree" in note for note in found.first.notes)


def test_descriptors_of_two_lengths_are_refused_before_anything_is_described() -> None:
    class Unread(Table):
        def describe(self, images: np.ndarray) -> np.ndarray:
            raise AssertionError("described")

    with pytest.raises(ValueError, match="descriptors of 4 numbers and the database's of 3: they cannot be compared"):
        evaluate_pairings(Unread(STUDENT, (4, 6)), Unread(TEACHER[:, :3], (4, 6)), SET)
