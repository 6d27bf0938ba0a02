"""The sheet of a ground truth: which pictures it shows, in which frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfplaces.datasets import GroundTruth, ImageFiles, IndexLists, PlaceDataset
from tfplaces.report.truth_sheet import truth_sheet

BLUE, GREEN, RED, WHITE = (40, 90, 200), (20, 150, 60), (200, 40, 40), (255, 255, 255)


def test_frames(write_photos: Callable[..., Path]) -> None:
    """A query at 0 m; images at 10, 20, 30 and 40 m, of which the first two show its place and one cannot be read."""
    names = ["q.png", "d0.png", "d1.png", "d2.png", "d3.png"]
    root = write_photos(*names)
    (root / "d1.png").write_text("no image")
    positions = np.array([[0.0, 0], [10, 0], [20, 0], [30, 0], [40, 0]])
    truth = GroundTruth(
        IndexLists.of([[0, 1]]), query_positions=positions[:1], database_positions=positions[1:], radius=25.0
    )
    dataset = PlaceDataset("x", ImageFiles(str(root), names[1:]), ImageFiles(str(root), names[:1]), truth)

    def frames(dataset: PlaceDataset) -> list[tuple[int, ...]]:
        sheet = truth_sheet(dataset)
        # The left edge of each picture, 208 pixels apart, in the middle of its height.
        return [sheet.getpixel((9 + x, 100)) for x in range(0, sheet.width - 9, 208)]

    assert frames(dataset) == [BLUE, GREEN, GREEN, WHITE, RED, RED, WHITE]
    # Without positions there are no nearest negatives.
    assert frames(dataclasses.replace(dataset, truth=GroundTruth(truth.positives))) == [BLUE, GREEN, GREEN, WHITE]
    assert frames(dataclasses.replace(dataset, truth=GroundTruth(IndexLists.of([[]])))) == [BLUE] + [WHITE] * 3
