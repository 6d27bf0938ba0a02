"""Batches of several images each of many places (Ali-bey et al., GSV-Cities, Neurocomputing 2022)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceList
from tfplaces.training.augmentation import Augmentation
from tfplaces.training.batches import ImageBatches


class PlaceBatches(ImageBatches):
    """Batches of places drawn at random, with several images of each.

    An epoch draws each place about once. Places that overlap never come into one batch, as they would be taken for
    different places, so a batch may have fewer places than asked for. What comes in an epoch depends on nothing but the
    places, the seed and the number of the epoch.

    Targets are the number of the place within its batch, int64 `[places · images]`.

    Args:
        places: what batches are made of.
        size: (height, width) in pixels that images are read at.
        places_in_batch: places in a batch, at least 2.
        images_of_place: images of each, at least 2, drawn without repetition from a place that has as many.
        min_images: places with fewer are left out; those with fewer than `images_of_place` are drawn from with
            repetition. By default none are.
        beside: whether the places that lie beside one come into its batch, as long as there is room. They are hard to
            tell from it, and training on them pushes the headings of a spot apart: that suits a truth of the same
            heading, and may cost average precision where any heading within the radius is right.
        augmentation: see `ImageBatches`.
        seed: gives all that is drawn.

    Attributes:
        usable: how many places batches are made of.

    Raises:
        UserError: a number is out of range, or fewer than two places are left.
    """

    def __init__(
        self,
        places: PlaceList,
        size: tuple[int, int],
        *,
        places_in_batch: int = 30,
        images_of_place: int = 4,
        min_images: int | None = None,
        beside: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        if min(places_in_batch, images_of_place) < 2:
            raise UserError(
                f"batches of {places_in_batch} places of {images_of_place} images: at least 2 of each, as there is "
                "nothing to tell apart, or nothing to draw together, otherwise"
            )
        fewest = images_of_place if min_images is None else min_images
        self._places = places
        self._places_in_batch, self._images_of_place = places_in_batch, images_of_place
        self._beside = beside
        self._usable = np.flatnonzero(places.members.lengths >= max(fewest, 2))
        if len(self._usable) < 2:
            raise UserError(
                f"{places.spec}: {len(self._usable)} of {len(places)} places have {fewest} images or more, but "
                "training takes at least two"
            )
        if not any(len(np.setdiff1d(self._usable, places.overlapping[place])) for place in self._usable.tolist()):
            raise UserError(
                f"{places.spec}: all its {len(self._usable)} places overlap, there is nothing to tell apart"
            )
        self.usable = len(self._usable)
        steps = -(-self.usable // places_in_batch)
        super().__init__(places.images, size, steps, augmentation=augmentation, seed=seed)

    def choose(self, epoch: int) -> Iterator[list[np.ndarray]]:
        rng = np.random.default_rng([self._seed, epoch])
        waiting = rng.permutation(self._usable)
        batches: list[np.ndarray] = []
        while len(batches) < len(self):
            # Once only such places wait that overlap with the batch, it is filled up with others drawn anew.
            taken = self._taken(itertools.chain(waiting, rng.permutation(self._usable)), rng)
            waiting = waiting[~np.isin(waiting, taken)]
            if not len(waiting):
                waiting = rng.permutation(self._usable)
            if len(taken) > 1:
                batches.append(np.stack([self._drawn(place, rng) for place in taken]))
        yield batches

    def _taken(self, candidates: Iterable[int], rng: np.random.Generator) -> list[int]:
        """The first places, with those beside them if wanted, as many as make a batch, of which none overlap."""
        taken: list[int] = []
        barred = np.ones(len(self._places), bool)
        barred[self._usable] = False
        for candidate in candidates:
            if barred[candidate]:
                continue
            beside = rng.permutation(self._places.beside[candidate].tolist()) if self._beside else ()
            for place in (candidate, *beside):
                if not barred[place]:
                    taken.append(place)
                    barred[self._places.overlapping[place]] = True
                if len(taken) == self._places_in_batch:
                    return taken
        return taken

    def used(self) -> np.ndarray:
        return np.unique(np.concatenate([self._places.members[place] for place in self._usable.tolist()]))

    def targets(self, batch: np.ndarray, images: np.ndarray) -> np.ndarray:
        return np.repeat(np.arange(len(batch)), batch.shape[1])

    def _drawn(self, place: int, rng: np.random.Generator) -> np.ndarray:
        members = self._places.members[place]
        return rng.choice(members, self._images_of_place, replace=len(members) < self._images_of_place)
