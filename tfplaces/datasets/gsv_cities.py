"""GSV-Cities (Ali-bey et al., Neurocomputing 2022): Street View of 23 cities, 4 to 20 images a place, for training.

`Dataframes/CITY.csv` lists the images of a city, `Images/CITY/` has them.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.listed_images import listed_images
from tfplaces.datasets.table_files import read_table

_COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
_PUBLISHED = "about 530,000 images of 62,000 places in 23 cities"
# In file names; the official program adds multiples of it to the numbers of the places of later cities.
_MOST_PLACES = 10**5


@dataclasses.dataclass(frozen=True)
class GsvCities:
    """GSV-Cities.

    The earliest image of a place is its query, the others are the database; places with one image are left out.

    Attributes:
        path: the folder with `Dataframes` and `Images`.
        cities: only some cities, separated by commas, as their tables are called: `London,OSL`.
    """

    path: str
    cities: str = ""

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: no such folder or city, a table is not as published, or no place has two images.
        """
        spec = f"gsvcities:{printable_name(self.path)}"
        folder = os.path.join(self.path, "Dataframes")
        if not os.path.isdir(folder):
            raise UserError(f"{spec}: no folder Dataframes there")
        there = sorted(name[:-4] for name in os.listdir(folder) if name.endswith(".csv") and not name.startswith("."))
        cities = self.cities.split(",") if self.cities else there
        unknown = [city for city in cities if city not in there]
        if unknown or not cities or len(set(cities)) < len(cities):
            name = f"cities={printable_name((unknown or [self.cities])[0])}" if cities else "no tables"
            raise UserError(f"{spec}: {name}: there are {', '.join(map(printable_name, there)) or 'none'}")
        rows = [row for city in cities for row in _read(os.path.join(folder, f"{city}.csv"), city)]
        rows.sort()
        number: dict[tuple[str, int], int] = {}
        labels = np.array([number.setdefault((city, place), len(number)) for city, place, _, _ in rows], np.int64)
        times, names = np.array([row[2] for row in rows], np.int64), [row[3] for row in rows]
        first = np.zeros(len(rows), bool)
        first[np.unique(labels, return_index=True)[1]] = True
        several = np.bincount(labels, minlength=1)[labels] > 1
        if not several.any():
            raise UserError(f"{spec}: no place has two images")
        queries, database = np.flatnonzero(first & several), np.flatnonzero(~first)
        shown, images = printable_name(folder), os.path.join(self.path, "Images")
        files, missing = listed_images(shown, "database images", [names[k] for k in database], [images], (".JPG",))
        asked, also = listed_images(shown, "queries", [names[k] for k in queries], [images], (".JPG",))
        truth = dataclasses.replace(
            GroundTruth.of_labels(labels[queries], labels[database]),
            query_cities=np.array([rows[k][0] for k in queries]),
            query_times=times[queries],
            database_times=times[database],
        )
        kept = len(queries) + len(database)
        notes = [f"{kept:,} images of {len(queries):,} places in {len(cities)} cities; published are {_PUBLISHED}"]
        alone = len(rows) - kept
        notes += [f"{alone:,} places with one image only are left out"] * bool(alone)
        return PlaceDataset(spec, files, asked, truth, notes=(*notes, *missing, *also))


def _read(path: str, city: str) -> list[tuple[str, int, int, str]]:
    """City, place, months since the year 0 and file name of each image in a table."""
    shown = printable_name(path)
    table = read_table(path, {name: (name.replace("_", ""),) for name in _COLUMNS})
    missing = [name for name in _COLUMNS if name not in table.cells]
    if missing:
        raise UserError(f"{shown}: has no column {missing[0]}")
    rows = []
    for line, *cells in zip(table.lines, *(table.cells[name] for name in _COLUMNS), strict=True):
        place, year, month, heading, folder, latitude, longitude, panorama = cells
        numbers = [int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1 for text in cells[:4]]
        if min(numbers) < 0 or not 1 <= numbers[2] <= 12:
            raise UserError(
                f"{shown}: line {line}: place_id, year, month and northdeg are "
                f"{printable_name(' '.join((place, year, month, heading))[:80])}, expected whole numbers"
            )
        # The text of the coordinates is part of the name, with as many digits as the table has.
        fields = f"{numbers[0] % _MOST_PLACES:07d}", year.zfill(4), month.zfill(2), heading.zfill(3)
        name = f"{folder}/{'_'.join((folder, *fields, latitude, longitude, panorama))}.jpg"
        rows.append((city, numbers[0], 12 * numbers[1] + numbers[2] - 1, name))
    return rows
