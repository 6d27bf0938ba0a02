"""The best places over blocks of codes."""

from __future__ import annotations

import numpy as np
import pytest

from tfplaces.index import CODECS
from tfplaces.index.scanning import best_matches


@pytest.mark.parametrize("count", [1, 5, 40, 100])
@pytest.mark.parametrize("step", [1, 7, 16, 64])
def test_the_best_of_all_blocks_are_those_of_a_sort(count: int, step: int) -> None:
    """With places that are equal, within a block and across blocks: the first row comes first."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(20, 8)).astype(np.float32)[rng.integers(0, 20, 64)]
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    codec = CODECS["int2"].fit(places)
    codes = codec.encode(places)
    queries = places[:3]
    expected = np.argsort(-codec.scan(queries, codes), axis=1, kind="stable")[:, :count]
    rows, scores = best_matches(codec, queries, ((i, codes[i : i + step]) for i in range(0, 64, step)), count)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(codec.scan(queries, codes), expected, 1))
