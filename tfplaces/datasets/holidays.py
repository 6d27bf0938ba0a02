"""INRIA Holidays (Jégou et al., ECCV 2008): 1,491 photos of 500 scenes, `NNNNNN.jpg`.

The number of a photo without its last two digits is that of its scene; the photo of a scene that ends in 00 is its
query. Each query is looked for in the whole set; the query itself is taken out of the ranking.
"""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.discovery import find_images
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.images import ImageFiles
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.listed_images import counts_note

_NAME = re.compile(r"(?:.*/)?(\d{6})\.[A-Za-z]+")


@dataclasses.dataclass(frozen=True)
class Holidays:
    """INRIA Holidays.

    Attributes:
        path: the folder of the photos, or one that has them in `jpg`. Of the photos turned upright, name the folder:
            published figures of the two differ.
    """

    path: str

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: no such folder, no photos with such names, or two of one number.
        """
        spec = f"holidays:{printable_name(self.path)}"
        folder = os.path.join(self.path, "jpg")
        folder = folder if os.path.isdir(folder) else self.path
        if not os.path.isdir(folder):
            raise UserError(f"{spec}: no such folder")
        found = find_images(folder)
        numbered: dict[int, str] = {}
        others = 0
        for name in found.names:
            match = _NAME.fullmatch(name)
            if match is None:
                others += 1
            elif numbered.setdefault(int(match[1]), name) != name:
                raise UserError(
                    f"{spec}: {numbered[int(match[1])]} and {name} have one number; name one folder of them"
                )
        numbers = np.array(sorted(numbered), np.int64)
        own = np.flatnonzero(numbers % 100 == 0)
        if not len(own):
            raise UserError(f"{spec}: no photos there named as 100000.jpg")
        names = [numbered[number] for number in numbers.tolist()]
        scenes = numbers // 100
        alone = int(np.isin(scenes, scenes[own], invert=True).sum())
        notes = [counts_note(len(own), len(names), (500, 1_491)), *filter(None, [found.note])]
        notes += [f"{others} images are left out, whose names are no six digits"] * bool(others)
        notes += [f"{alone} photos are of scenes whose query is missing"] * bool(alone)
        of_scene = IndexLists.by_label(scenes[own], scenes)
        truth = GroundTruth(
            IndexLists.of([row[row != mine] for row, mine in zip(of_scene, own, strict=True)]),
            junk=IndexLists(own, np.arange(len(own) + 1)),
            own_images=own,
        )
        queries = ImageFiles(folder, [names[k] for k in own])
        return PlaceDataset(spec, ImageFiles(folder, names), queries, truth, protocol="oxford", notes=tuple(notes))
