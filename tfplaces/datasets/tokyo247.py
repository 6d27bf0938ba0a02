"""Tokyo 24/7 (Torii et al., CVPR 2015): phone photos by day, at sunset and at night, to be found in Street View."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Literal

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.dbstruct import find_dbstruct, open_dbstruct
from tfplaces.datasets.pittsburgh import open_renamed, renamed

# Views cut out of each panorama; a ranking counts a panorama once, by the best of them.
CUTOUTS = 12
# The queries of a place follow each other so.
CONDITIONS = ("day", "sunset", "night")

# Queries and database images.
COUNTS = (315, 75_984)

_QUERY_FOLDERS = {"v2": "247query_subset_v2", "v3": "247query_v3"}


@dataclasses.dataclass(frozen=True)
class Tokyo247:
    """Tokyo 24/7: 315 queries, 75,984 database images.

    Attributes:
        path: a folder with `tokyo247.mat`, in it or in its `datasets`; the database images are relative to it, to its
            `images` or its `database_gsv_vga`.
        queries: which publication of the queries: `v2` lie in `247query_subset_v2`, `v3` in `247query_v3`, there or in
            `query` or `queries`; photos that lie in `query` or `queries` directly are taken for either. Where
            VPR-datasets-downloader has put the photos into `images/test/database` and `queries`, they are its `v2`.
    """

    path: str
    queries: Literal["v2", "v3"] = "v2"

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: no such folder or `.mat` file, the file is no sound `dbStruct`, or its images do not come in
                panoramas of 12 and places of three queries.
        """
        spec = f"tokyo247:{printable_name(self.path)}"
        if renamed(self.path, "test"):
            return self._renamed(spec)
        file = find_dbstruct(spec, self.path, "tokyo247.mat")
        own = _QUERY_FOLDERS[self.queries]
        parents = ("", "query", "queries", "247_Tokyo_GSV_Perspective")
        queries = [*(os.path.join(parent, own) for parent in parents), os.path.join(own, own), "query", "queries"]
        database = ["", "images", "database_gsv_vga", "tokyo247", "247_Tokyo_GSV_Perspective"]
        dataset = open_dbstruct(spec, file, self._folders(database), self._folders(queries), COUNTS)
        for images, what, size in ((dataset.database, "database images", CUTOUTS), (dataset.queries, "queries", 3)):
            if len(images) % size:
                raise UserError(f"{printable_name(file)}: {len(images):,} {what}, but they come by {size}")
        truth = dataclasses.replace(
            dataset.truth,
            database_groups=np.arange(len(dataset.database)) // CUTOUTS,
            query_conditions=np.resize(CONDITIONS, len(dataset.queries)),
        )
        return dataclasses.replace(dataset, truth=truth)

    def _renamed(self, spec: str) -> PlaceDataset:
        """From photos with UTM names: the field of the panorama has its name, or the name of the query."""
        if self.queries != "v2":
            raise UserError(f"{spec}: queries={self.queries}, but those in images/test/queries are v2")
        dataset = open_renamed(spec, renamed(self.path, "test"), COUNTS)
        panoramas, queries = (
            [(name.rpartition("/")[2].split("@") + [""] * 8)[7] for name in images.names]
            for images in (dataset.database, dataset.queries)
        )
        numbers = [re.match(r"\d{1,9}", name) for name in queries]
        if not all(panoramas) or not all(numbers):
            raise UserError(f"{spec}: the names of its photos do not say which panorama or query they are")
        conditions = [CONDITIONS[(int(number[0]) - 1) % 3] for number in numbers if number]
        truth = dataclasses.replace(
            dataset.truth,
            database_groups=np.unique(panoramas, return_inverse=True)[1].ravel(),
            query_conditions=np.array(conditions),
        )
        return dataclasses.replace(dataset, truth=truth)

    def _folders(self, names: list[str]) -> list[str]:
        return [os.path.join(self.path, name) if name else self.path for name in names]
