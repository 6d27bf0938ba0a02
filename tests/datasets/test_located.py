"""What is near, looks the same way and is no part of the same panorama, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.datasets.located import Located, Rule, located_dataset


def photos(rng: np.random.Generator, count: int, groups: bool) -> Located:
    return Located(
        "/none",
        [f"{k}.png" for k in range(count)],
        rng.integers(0, 60, (count, 2)).astype(float),
        rng.integers(0, 8, count) * 45.0,
        rng.integers(0, 5, count).astype(str) if groups else None,
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.booleans(), st.sampled_from([None, 0.0, 90.0]))
def test_each_photo_among_the_others(seed: int, count: int, groups: bool, angle: float | None) -> None:
    all_photos = photos(np.random.default_rng(seed), count, groups)
    truth = located_dataset("x", all_photos, None, Rule(25, 10, angle)).truth
    parts = np.arange(count).astype(str) if all_photos.groups is None else all_photos.groups
    for q in range(count):
        metres = np.linalg.norm(all_photos.positions - all_photos.positions[q], axis=1)
        turn = np.abs(all_photos.headings - all_photos.headings[q])
        sees = np.minimum(turn, 360 - turn) <= (180 if angle is None else angle)
        other = parts != parts[q]
        assert truth.others(q).tolist() == np.flatnonzero((metres <= 25) & sees & other).tolist()
        assert truth.to_train(q).tolist() == np.flatnonzero((metres <= 10) & sees & other).tolist()
        assert truth.never_negative(q).tolist() == np.flatnonzero((metres <= 25) | ~other).tolist()
        assert truth.ignored(q).tolist() == np.flatnonzero(~other).tolist()


@pytest.mark.parametrize(
    "rule, said",
    [
        (Rule(0, 10), "radius=0"), (Rule(float("nan"), 10), "radius=nan"), (Rule(25, -1), "training_radius=-1"),
        (Rule(25, 10, 181), "max_angle=181"), (Rule(2e6, 10), "radius=2e"),
    ],
)  # fmt: skip
def test_rules_out_of_range_are_refused(rule: Rule, said: str) -> None:
    with pytest.raises(UserError, match=f"x: {said}"):
        located_dataset("x", photos(np.random.default_rng(0), 3, False), None, rule)


def test_nothing_there_is_refused() -> None:
    rng = np.random.default_rng(0)
    some, none = photos(rng, 3, False), photos(rng, 0, False)
    with pytest.raises(UserError, match="x: no queries with a position there"):
        located_dataset("x", none, some, Rule(25, 10))
    with pytest.raises(UserError, match="x: no database images with a position there"):
        located_dataset("x", some, none, Rule(25, 10))
