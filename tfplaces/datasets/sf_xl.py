"""San Francisco eXtra Large (Berton et al., CVPR 2022), whose photos have their positions in their names."""

from __future__ import annotations

import dataclasses
import os
from typing import Literal

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.listed_images import counts_note
from tfplaces.datasets.utm_names import UtmNames

# The published numbers of queries of the test.
QUERIES = {"v1": 1_000, "v2": 598, "night": 466, "occlusion": 76}
# Where the splits lie: in the whole of the archive, in one of its parts, and in the small version.
_PARTS = ("processed", "", "small")


@dataclasses.dataclass(frozen=True)
class SanFranciscoXL:
    """San Francisco eXtra Large; a database image within 25 m of a query shows its place.

    Attributes:
        path: the folder with `processed`, or with `train`, `val` and `test`.
        split: the test has several folders of queries; of the training set each photo is a query among the others.
        queries: which queries of the test; `night` and `occlusion` are by Barbarani et al. (CVPR Workshops 2023).
    """

    path: str
    split: Literal["train", "val", "test"] = "test"
    queries: Literal["v1", "v2", "night", "occlusion"] = "v1"

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: no such folder, split or queries there, or photos whose names have no positions.
        """
        spec = f"sfxl:{printable_name(self.path)}"
        folders = [os.path.join(self.path, part, self.split) for part in _PARTS]
        folder = next(filter(os.path.isdir, folders), None)
        if folder is None:
            raise UserError(f"{spec}: no folder {self.split} there, nor in processed")
        name = f"queries_{self.queries}" if self.split == "test" else "queries"
        if self.split == "test" and not os.path.isdir(os.path.join(folder, name)):
            there = [other for other in QUERIES if os.path.isdir(os.path.join(folder, f"queries_{other}"))]
            instead = f"; there is queries={' and '.join(there)}" if there else ""
            raise UserError(f"{spec}: no {name} in {printable_name(folder)}{instead}")
        dataset = UtmNames(folder, queries=name).open()
        counts = counts_note(len(dataset.queries), len(dataset.database), None)
        if self.split == "test":
            published = (
                f"of {QUERIES[self.queries]:,} queries and {len(dataset.database):,} of about 2,800,000 database"
            )
            counts = f"{len(dataset.queries):,} {published} images"
        return dataclasses.replace(dataset, spec=spec, notes=(counts, *dataset.notes))
