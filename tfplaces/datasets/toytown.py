"""The town as a data set of places."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from tfplaces.common.errors import UserError
from tfplaces.datasets.base import Images, PlaceDataset
from tfplaces.datasets.decoding import resize
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.toytown.town import SPLITS
from tfplaces.toytown.view import render

DATABASE_VIEWS = (("day", 0), ("day", 1), ("day", 2), ("day", 3))
QUERY_VIEWS = (("dusk", 0), ("rain", 0), ("night", 0))


class TownImages(Images):
    """The same views of every place, place by place; each is drawn when it is read."""

    def __init__(self, places: int, seed: int, split: str, views: Sequence[tuple[str, int]]):
        self.seed, self.split, self.views = seed, split, views
        self.names = [f"place{p:04d}_{condition}_{number}" for p in range(places) for condition, number in views]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"toytown has {len(self)} images, there is no number {index}")
        place, view = divmod(index, len(self.views))
        return resize(Image.fromarray(render(self.seed, self.split, place, *self.views[view])), size)

    def stamp(self, index: int) -> list[int | str]:
        return [self.seed, self.split]


@dataclasses.dataclass(frozen=True)
class Toytown:
    """A generated town: streets of houses photographed by day, to be recognised at dusk, in rain and at night.

    Every place has four database images and three queries. Images are drawn when they are read, at 180 x 240 pixels;
    an image depends on the seed, the split, the place and the view alone.

    Attributes:
        places: how many places there are, at least 2.
        seed: gives the town, at least 0.
        split: `train`, `val` or `test`; they share no street.
    """

    places: int = 60
    seed: int = 0
    split: Literal["train", "val", "test"] = "test"

    def open(self) -> PlaceDataset:
        """Opens the town.

        Raises:
            UserError: an option is out of range.
        """
        if self.places < 2:
            raise UserError(f"toytown: places={self.places}, but at least 2 are needed")
        if self.seed < 0:
            raise UserError(f"toytown: seed={self.seed}, but it must be 0 or more")
        if self.split not in SPLITS:
            raise UserError(f"toytown: split={self.split!r}, but it must be one of {', '.join(SPLITS)}")
        numbers = np.arange(self.places, dtype=np.int64)
        return PlaceDataset(
            spec=f"toytown?places={self.places}&seed={self.seed}&split={self.split}",
            database=TownImages(self.places, self.seed, self.split, DATABASE_VIEWS),
            queries=TownImages(self.places, self.seed, self.split, QUERY_VIEWS),
            truth=GroundTruth.of_labels(np.repeat(numbers, len(QUERY_VIEWS)), np.repeat(numbers, len(DATABASE_VIEWS))),
        )
