"""Positions and times that cannot be right are told from those that are only unusual."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.datasets.position_check import FAR, backwards, changes_zone, far_away, out_of_order, regions

DRIVE = np.stack([300_000 + np.arange(40) * 10.0, 5_000_000 + np.sin(np.arange(40) / 5) * 60], axis=1)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=25))
def test_regions_are_apart(places: list[tuple[int, int]]) -> None:
    """Photos nearer than 2 km are of one region; the first has most of them."""
    positions = np.array(places, float) * 0.7 * FAR
    region = regions(positions)
    for one, other in zip(positions, region, strict=True):
        assert (region[np.linalg.norm(positions - one, axis=1) < FAR] == other).all()
    counts = np.bincount(region)
    assert counts.min() > 0 and (np.diff(counts) <= 0).all()


@pytest.mark.parametrize("away", [(50_000, 0), (-300_000, -5_000_000)])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_photo_far_from_all_others(away: tuple[float, float], dimensions: int) -> None:
    positions = DRIVE.copy()
    positions[7] += away
    if dimensions == 3:
        positions = np.column_stack([positions, np.zeros(len(positions))])
    assert far_away(regions(positions)).tolist() == [7]
    assert not len(far_away(regions(DRIVE)))


def test_a_journey_is_far_from_itself_everywhere() -> None:
    """Two cities, or a photo in each of many places, are no mistake."""
    assert not len(far_away(regions(np.concatenate([DRIVE, DRIVE + 500_000]))))
    assert not len(far_away(regions(DRIVE * 1000)))


def test_a_zone_is_crossed() -> None:
    """At 5.99 and 6.01 degrees east and 52 north: eastings 705 km of zone 31 and 295 km of zone 32."""
    from tfplaces.datasets.positions import to_utm

    longitudes = np.append(np.linspace(5.95, 5.9999, 30), np.linspace(6.0001, 6.02, 12))
    zones = np.where(longitudes < 6, 31, 32)
    positions = to_utm(np.full(42, 52.0), longitudes, zones)
    assert changes_zone(positions, regions(positions)).tolist() == list(range(30, 42))
    one_zone = to_utm(np.full(42, 52.0), longitudes, np.full(42, 31))
    assert not len(changes_zone(one_zone, regions(one_zone)))


def test_frames_out_of_order() -> None:
    positions = DRIVE.copy()
    positions[[8, 25]] = positions[[25, 8]]
    assert out_of_order(positions).tolist() == [8, 25]
    # The four cut-outs of each panorama.
    assert out_of_order(np.repeat(positions, 4, axis=0)).tolist() == [32, 100]
    assert not len(out_of_order(DRIVE))
    assert not len(out_of_order(np.concatenate([DRIVE, DRIVE[:20] + 900])))  # two drives
    angles = np.arange(90) / 30 * 2 * np.pi
    rounds = 100 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for times in (1, 2, 3):
        circuit = rounds[: 30 * times].copy()
        assert not len(out_of_order(circuit))
        circuit[11] += 300
        assert out_of_order(circuit).tolist() == [11]
    assert not len(out_of_order(DRIVE[:0])) and not len(out_of_order(DRIVE[:3]))
    assert not len(out_of_order(np.repeat(DRIVE[:1], 9, axis=0)))  # it stands


@given(st.integers(0, 2**32 - 1), st.integers(5, 400))
def test_no_drive_no_order(seed: int, count: int) -> None:
    """Photos along a street, listed in any order: as good as none of them is named."""
    rng = np.random.default_rng(seed)
    way = np.cumsum(rng.normal(0, 5, (count, 2)), axis=0)[rng.permutation(count)]
    assert len(out_of_order(way)) <= 1 + 0.02 * count


@pytest.mark.parametrize("kind", [float, "datetime64[s]", "U5"])
def test_times_that_go_backwards(kind: type | str) -> None:
    times = np.arange(100, 120)
    times[7] = 100
    sequences = np.repeat(["a", "b"], 10)
    assert backwards(times.astype(kind), None).tolist() == [7]
    again = np.concatenate([times[10:], times[:10]]).astype(kind)
    assert backwards(again, None).tolist() == [10, 17] and backwards(again, sequences).tolist() == [17]
    assert not len(backwards(np.random.default_rng(0).permutation(times).astype(kind), None))
    assert not len(backwards(times[:0].astype(kind), None)) and not len(backwards(times[:1].astype(kind), None))
