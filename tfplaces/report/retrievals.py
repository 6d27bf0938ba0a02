"""The sheet of retrievals: photographs of a query and of its best matches, and a small map of where they were taken."""

from __future__ import annotations

import base64
import dataclasses
import io
import math

import numpy as np
from PIL import Image

from tfplaces.report.tables import escape

# Photographs are embedded with at most this many pixels a side: twice as many as the page shows.
_THUMBNAIL = 360
# The map's size in units of its drawing, and how many radii of the data set it reaches at most from the query.
_MAP, _REACH = 120, 4


@dataclasses.dataclass(frozen=True)
class Map:
    """Where the matches of a query were taken.

    Attributes:
        metres: the distance of each match from the query, `[matches]`.
        positions: metres east and north of the query, `[matches, 2]`.
        radius: up to what distance a match shows the query's place, metres.
    """

    metres: np.ndarray
    positions: np.ndarray
    radius: float


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """A query with its best matches."""

    query: np.ndarray  # uint8 [h, w, 3]
    query_name: str
    matches: list[np.ndarray]  # uint8 [h, w, 3] each, best first
    correct: list[bool]  # of each match
    first_rank: float | None = None  # of the first right image, from 1; infinite where there is none in the list
    map: Map | None = None  # where positions are known


def retrieval_html(retrieval: Retrieval) -> str:
    """The HTML of a query and its matches, the best first."""
    name = escape(retrieval.query_name)
    tiles = [tile(retrieval.query, "query", f"query {name}", "query")]
    for rank, (match, correct) in enumerate(zip(retrieval.matches, retrieval.correct, strict=True), 1):
        word, mark = ("right", "✓") if correct else ("wrong", "✗")
        away = "" if retrieval.map is None else f" · {metres_text(float(retrieval.map.metres[rank - 1]))}"
        tiles.append(tile(match, word, f"match {rank} of {name}: {word}{away}", f"<i>{mark}</i> {rank}{away}"))
    if retrieval.map is not None:
        tiles.append(_map(retrieval.map, retrieval.correct, name))
    right = f"{sum(retrieval.correct)} of {len(retrieval.correct)} right"
    if retrieval.first_rank is not None and retrieval.first_rank > 1:
        never = math.isinf(retrieval.first_rank)
        right += ", the right place is not in the list" if never else f", the first at rank {retrieval.first_rank:.4g}"
    return f'<article><h3>{name} <span>{right}</span></h3><div class="tiles">{"".join(tiles)}</div></article>'


def metres_text(metres: float) -> str:
    """A distance as people say it: 7 m, 12.3 km."""
    return f"{metres:.0f} m" if metres < 9_999.5 else f"{metres / 1000:,.1f} km"


def tile(image: np.ndarray, kind: str, alt: str, caption: str) -> str:
    """A framed photograph; alt and caption are HTML."""
    picture = Image.fromarray(image)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure class="{kind}"><img src="data:image/jpeg;base64,{data}" width="{picture.width}" '
        f'height="{picture.height}" alt="{alt}"><figcaption>{caption}</figcaption></figure>'
    )


def _map(found: Map, correct: list[bool], name: str) -> str:
    """A map, north up: the query in the middle, the matches by their ranks, a circle of the radius.

    What is farther than four radii stands at the edge, in its direction.
    """
    reach = float(np.clip(np.max(found.metres, initial=0.0), 2 * found.radius, _REACH * found.radius)) or 1.0
    middle, scale = _MAP / 2, 0.42 * _MAP / reach
    marks = []
    # The best are drawn last, on top.
    for rank, (east, north), right in list(zip(range(1, len(correct) + 1), found.positions, correct, strict=True))[
        ::-1
    ]:
        nearer = min(1.0, reach / max(math.hypot(east, north), 1e-9))
        x, y = middle + scale * nearer * east, middle - scale * nearer * north
        marks.append(
            f'<g class="{"right" if right else "wrong"}"><circle class="match" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
            f'<text x="{x:.1f}" y="{y + 2.3:.1f}">{rank}</text></g>'
        )
    return (
        f'<figure class="map"><svg viewBox="0 0 {_MAP} {_MAP}" role="img" aria-label="where the matches of {name} are">'
        f'<circle class="radius" cx="{middle:g}" cy="{middle:g}" r="{scale * found.radius:.1f}"/>'
        f'<path class="here" d="M{middle - 4:g} {middle:g}h8M{middle:g} {middle - 4:g}v8"/>{"".join(marks)}</svg>'
        f"<figcaption>circle: {metres_text(found.radius)}; edge: {metres_text(reach)} or more</figcaption></figure>"
    )
