"""Batches are in order, decoded ahead but not too far, and errors come through."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from tfplaces.datasets import Images, batches, read_batch, read_batches


class Numbered(Images):
    """Image i is filled with i; notes what is read, and fails for one of them."""

    def __init__(self, count: int, broken: int | None = None):
        self.names = [f"{i}.png" for i in range(count)]
        self.broken = broken
        self.reads: list[int] = []

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        self.reads.append(index)
        time.sleep(0.002 * (index % 3))  # so that threads do not finish in order
        if index == self.broken:
            raise ValueError(f"{self.names[index]}: broken")
        return np.full((*size, 3), index, np.uint8)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8, 23])
@pytest.mark.parametrize("indices", [None, [9, 3, 3, 0, 22, 1, 7, 2, 8]])
def test_batches_are_in_order(count: int, indices: list[int] | None) -> None:
    images = Numbered(count if indices is None else 23)
    expected = list(range(count)) if indices is None else indices
    parts = list(read_batches(images, (2, 3), 4, indices))
    assert [len(batch) for batch in parts] == [len(expected[i : i + 4]) for i in range(0, len(expected), 4)]
    assert [int(image[0, 0, 0]) for batch in parts for image in batch] == expected
    assert all(batch.shape[1:] == (2, 3, 3) and batch.dtype == np.uint8 for batch in parts)


def test_batches_are_read_a_few_ahead_only() -> None:
    """At most two batches beyond the one that is handed out, and none once nobody wants them."""
    images = Numbered(100)
    parts = read_batches(images, (2, 2), 5)
    assert not images.reads
    for handed_out in range(1, 4):
        next(parts)
        time.sleep(0.1)  # for all that was asked for
        assert len(images.reads) == 5 * (handed_out + 2)
    parts.close()
    read = len(images.reads)
    time.sleep(0.05)
    assert len(images.reads) == read == 25


def test_batches_pass_on_errors() -> None:
    images = Numbered(40, broken=6)
    parts = read_batches(images, (2, 2), 4)
    assert len(next(parts)) == 4
    with pytest.raises(ValueError, match=r"^6\.png: broken"):
        next(parts)
    assert len(images.reads) <= 16


def test_a_batch_in_any_order() -> None:
    batch = read_batch(Numbered(9), np.array([7, 0, 7, 2]), (2, 3))
    assert batch.shape == (4, 2, 3, 3) and batch.dtype == np.uint8
    assert batch[:, 0, 0, 0].tolist() == [7, 0, 7, 2]
    with pytest.raises(ValueError, match=r"^6\.png: broken"):
        read_batch(Numbered(9, broken=6), range(9), (2, 3))


def test_as_many_threads_as_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images wait for each other, so three are read at once; a fourth at the same time breaks the barrier."""
    monkeypatch.setattr(batches, "usable_processors", lambda: 3)
    together, reading, most = threading.Barrier(3, timeout=30), [], []

    class Waiting(Numbered):
        def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
            reading.append(index)
            most.append(len(reading))
            together.wait()
            reading.remove(index)
            together.wait()
            return super().read(index, size)

    assert len(read_batch(Waiting(6), range(6), (2, 2))) == 6
    assert max(most) == 3
