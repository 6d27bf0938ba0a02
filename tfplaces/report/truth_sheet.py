"""A picture of what a ground truth says: queries, with what shows their place and what is near but does not."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from tfplaces.common.errors import UserError
from tfplaces.datasets.base import Images, PlaceDataset
from tfplaces.report.tables import printable

_SIZE = (150, 200)  # (height, width) of each picture, pixels
_GUTTER, _FRAME, _LINE = 8, 4, 14  # pixels; a line of text
_BLUE, _GREEN, _RED = (40, 90, 200), (20, 150, 60), (200, 40, 40)


def truth_sheet(dataset: PlaceDataset, rows: int = 6, each: int = 3) -> Image.Image:
    """Some queries, a row each: the query framed in blue, positives in green, the nearest negatives by position in red.

    Above each picture stand the metres from the query, where positions are known, and the end of its name. Negatives
    are shown only where positions are known. An image that cannot be read is grey.

    Args:
        dataset: with at least one query.
        rows: how many queries, spread over those that have something to be found, or over all if none has.
        each: how many positives and how many negatives of each at most.
    """
    asked = dataset.answerable() or list(range(len(dataset.queries)))
    chosen = [asked[k] for k in np.unique(np.linspace(0, len(asked) - 1, rows).astype(int)).tolist()]
    positions = dataset.truth.database_positions
    columns = 1 + each + (0 if positions is None else each)
    height, width = _SIZE[0] + _LINE + _GUTTER, _SIZE[1] + _GUTTER
    sheet = Image.new("RGB", (columns * width + _GUTTER, len(chosen) * height + _GUTTER), "white")
    for row, query in enumerate(chosen):
        pictures = [(0, dataset.queries, query, "query", _BLUE)]
        positives, negatives = _nearest(dataset, query, each)
        for column, (indices, colour) in ((1, (positives, _GREEN)), (1 + each, (negatives, _RED))):
            pictures += [
                (column + k, dataset.database, index, _distance(dataset, query, index), colour)
                for k, index in enumerate(indices)
            ]
        for column, images, index, label, colour in pictures:
            picture = _picture(images, index, label, colour)
            sheet.paste(picture, (_GUTTER + column * width, _GUTTER + row * height))
    return sheet


def _nearest(dataset: PlaceDataset, query: int, each: int) -> tuple[list[int], list[int]]:
    """The positives, spread over all of them, and the nearest negatives of a query."""
    positives, truth = dataset.others(query), dataset.truth
    spread = np.unique(np.linspace(0, len(positives) - 1, min(each, len(positives))).astype(int))
    negatives: list[int] = []
    if truth.database_positions is not None and truth.query_positions is not None:
        metres = np.linalg.norm(truth.database_positions - truth.query_positions[query], axis=1)
        metres[truth.never_negative(query)] = np.inf
        nearest = np.argsort(metres, kind="stable")[:each]
        negatives = nearest[np.isfinite(metres[nearest])].tolist()
    return positives[spread].tolist(), negatives


def _distance(dataset: PlaceDataset, query: int, index: int) -> str:
    ours, theirs = dataset.truth.query_positions, dataset.truth.database_positions
    if ours is None or theirs is None:
        return ""
    return f"{np.linalg.norm(theirs[index] - ours[query]):,.0f} m"


def _picture(images: Images, index: int, label: str, colour: tuple[int, int, int]) -> Image.Image:
    height, width = _SIZE
    picture = Image.new("RGB", (width, height + _LINE), "white")
    draw = ImageDraw.Draw(picture)
    # Pillow's own font has no other letters.
    name = printable(images.names[index]).encode("ascii", "replace").decode()
    text = f"{label}  {name}" if len(name) <= 20 else f"{label}  ...{name[-18:]}"
    draw.text((0, 0), text.strip(), fill="black")
    draw.rectangle((0, _LINE, width - 1, _LINE + height - 1), fill=colour)
    inner = (height - 2 * _FRAME, width - 2 * _FRAME)
    try:
        shown = Image.fromarray(images.read(index, inner))
    except UserError:
        shown = Image.new("RGB", inner[::-1], "grey")
        ImageDraw.Draw(shown).text((8, 8), "cannot be read", fill="white")
    picture.paste(shown, (_FRAME, _LINE + _FRAME))
    return picture
