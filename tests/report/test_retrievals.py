"""The sheet of retrievals: what is said of each match, and where the map puts it."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tfplaces.report import Map, Retrieval
from tfplaces.report.retrievals import metres_text, retrieval_html

PHOTO = np.zeros((12, 16, 3), np.uint8)


def shown(positions: list[list[float]], correct: list[bool], first_rank: float | None = 1) -> str:
    away = np.array(positions, float).reshape(-1, 2)
    found = Map(np.linalg.norm(away, axis=1), away, 25.0)
    return retrieval_html(Retrieval(PHOTO, "<q>", [PHOTO] * len(correct), correct, first_rank, found))


def marks(html: str) -> dict[int, tuple[str, float, float]]:
    """The kind and the place of each match on the map, by its rank."""
    found = re.findall(r'<g class="(\w+)"><circle class="match" cx="([\d.]+)" cy="([\d.]+)".*?>(\d+)</text>', html)
    return {int(rank): (kind, float(x), float(y)) for kind, x, y, rank in found}


def test_matches_stand_where_they_were_taken() -> None:
    """North is up, east is right; 100 m are four radii of 25 m, and the farthest is 0.42 of the map from its middle."""
    html = shown([[0, 0], [100, 0], [0, 50]], [True, False, False])
    assert marks(html) == {1: ("right", 60, 60), 2: ("wrong", 110.4, 60), 3: ("wrong", 60, 34.8)}
    assert f'r="{0.42 * 120 / 4:.1f}"' in html
    assert "1 · 0 m" in html and "2 · 100 m" in html and "circle: 25 m; edge: 100 m or more" in html
    assert "<q>" not in html and "&lt;q&gt;" in html


def test_what_is_far_away_stands_at_the_edge_in_its_direction() -> None:
    """Four radii of 25 m are 100 m."""
    html = shown([[3000, -4000], [10, 0]], [False, True], 2)
    assert marks(html)[1] == ("wrong", pytest.approx(60 + 50.4 * 0.6, abs=0.1), pytest.approx(60 + 50.4 * 0.8, abs=0.1))
    assert "1 · 5000 m" in html and "edge: 100 m or more" in html and "1 of 2 right, the first at rank 2<" in html


def test_a_place_that_is_not_in_the_list_is_said_to_be() -> None:
    assert "the right place is not in the list" in shown([[9, 9]], [False], math.inf)
    assert "rank" not in shown([[9, 9]], [True], 1).replace("match", "")


def test_without_positions_there_is_no_map() -> None:
    html = retrieval_html(Retrieval(PHOTO, "q", [PHOTO], [True]))
    assert "svg" not in html and " m<" not in html


@pytest.mark.parametrize(
    ("metres", "text"), [(0.4, "0 m"), (9_999, "9999 m"), (12_345, "12.3 km"), (2e6, "2,000.0 km")]
)
def test_distances(metres: float, text: str) -> None:
    assert metres_text(metres) == text
