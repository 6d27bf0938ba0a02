"""Pictures of a data set for a page: one row per place."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tfplaces.common.errors import UserError
from tfplaces.datasets.base import PlaceDataset

GUTTER = 4  # pixels, white


def contact_sheet(dataset: PlaceDataset, places: int = 6, size: tuple[int, int] = (180, 240)) -> Image.Image:
    """Some places of a data set, one row each: the database views, then the queries.

    Args:
        dataset: with `database_places`.
        places: how many rows, spread over the data set; fewer if it has fewer places.
        size: (height, width) of each picture, pixels.

    Raises:
        ValueError: the data set does not say which place a database image shows.
    """
    if dataset.database_places is None:
        raise UserError(f"{dataset.spec}: no contact sheet, it does not say which place a database image shows")
    height, width = size
    known_places = np.unique(dataset.database_places)
    rows = []
    for place in known_places[:: max(1, len(known_places) // places)][:places]:
        known = np.flatnonzero(dataset.database_places == place)
        asked = [q for q, positives in enumerate(dataset.positives) if len(positives) and positives[0] == known[0]]
        rows.append(
            [*(dataset.database.read(i, size) for i in known.tolist()), *(dataset.queries.read(q, size) for q in asked)]
        )
    columns = max(len(row) for row in rows)
    sheet_size = (columns * (width + GUTTER) - GUTTER, len(rows) * (height + GUTTER) - GUTTER)
    sheet = Image.new("RGB", sheet_size, "white")
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            sheet.paste(Image.fromarray(pixels), (x * (width + GUTTER), y * (height + GUTTER)))
    return sheet
