"""Pittsburgh and Tokyo Time Machine, from the `dbStruct` files of NetVLAD's authors or from renamed photos."""

from __future__ import annotations

import dataclasses
import os
from typing import ClassVar, Literal

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.dbstruct import find_dbstruct, open_dbstruct
from tfplaces.datasets.listed_images import counts_note
from tfplaces.datasets.utm_names import UtmNames


def renamed(path: str, split: str) -> str:
    """The folder of a split whose photos have been given UTM names, as VPR-datasets-downloader does; empty without."""
    folder = os.path.join(path, "images", split)
    return folder if os.path.isdir(os.path.join(folder, "database")) else ""


def open_renamed(spec: str, folder: str, published: tuple[int, int]) -> PlaceDataset:
    """A published data set from photos with UTM names in `database` and `queries`.

    Args:
        spec: its name.
        folder: the folder of the two.
        published: how many queries and database images there are.

    Raises:
        UserError: the names are none such.
    """
    dataset = UtmNames(folder).open()
    counts = counts_note(len(dataset.queries), len(dataset.database), published)
    return dataclasses.replace(dataset, spec=spec, notes=(counts, *dataset.notes))


@dataclasses.dataclass(frozen=True)
class Pittsburgh30k:
    """Pittsburgh 30k (Torii et al., CVPR 2013; split by Arandjelović et al., CVPR 2016).

    Attributes:
        path: a folder with `pitts30k_SPLIT.mat`, in it or in its `datasets`; the database images are relative to it or
            to its `images`, the queries to it, its `queries_real` or its `queries`. Or one where
            VPR-datasets-downloader has put the photos into `images/SPLIT/database` and `queries`.
        split: which third of the town.
    """

    path: str
    split: Literal["train", "val", "test"] = "test"

    kind: ClassVar[str] = "pitts30k"
    file: ClassVar[str] = "pitts30k"
    # Whether photos with UTM names tell all that the `.mat` file does.
    renames: ClassVar[bool] = True
    # Queries and database images of each split, as published.
    counts: ClassVar[dict[str, tuple[int, int]]] = {
        "train": (7_416, 10_000),
        "val": (7_608, 10_000),
        "test": (6_816, 10_000),
    }

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: no such folder or `.mat` file, or the file is no sound `dbStruct`.
        """
        spec, name = f"{self.kind}:{printable_name(self.path)}", f"{self.file}_{self.split}.mat"
        if self.split not in self.counts:
            raise UserError(f"{spec}: split={printable_name(self.split)}, but it must be {' or '.join(self.counts)}")
        if self.renames and renamed(self.path, self.split):
            return open_renamed(spec, renamed(self.path, self.split), self.counts[self.split])
        file = find_dbstruct(spec, self.path, name)
        database, queries = (
            [os.path.join(self.path, folder) if folder else self.path for folder in folders]
            for folders in (("", "images"), ("queries_real", "queries", "query", "images", ""))
        )
        return open_dbstruct(spec, file, database, queries, self.counts[self.split])


@dataclasses.dataclass(frozen=True)
class Pittsburgh250k(Pittsburgh30k):
    """Pittsburgh 250k; options as of `Pittsburgh30k`."""

    kind: ClassVar[str] = "pitts250k"
    file: ClassVar[str] = "pitts250k"
    counts: ClassVar[dict[str, tuple[int, int]]] = {
        "train": (7_824, 91_464),
        "val": (7_608, 78_648),
        "test": (8_280, 83_952),
    }


@dataclasses.dataclass(frozen=True)
class TokyoTimeMachine(Pittsburgh30k):
    """Tokyo Time Machine (Arandjelović et al., CVPR 2016), for training.

    Attributes:
        path: a folder with `tokyoTM_SPLIT.mat`, in it or in its `datasets`; images are relative to it or its `images`.
        split: which part of the town.
    """

    split: Literal["train", "val"] = "val"

    kind: ClassVar[str] = "tokyotm"
    file: ClassVar[str] = "tokyoTM"
    renames: ClassVar[bool] = False
    counts: ClassVar[dict[str, tuple[int, int]]] = {"train": (7_277, 49_104), "val": (7_186, 49_056)}
