"""What is fit to be compared: every kind of descriptor that is not is one line that names the image."""

from __future__ import annotations

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.evaluation import unit_descriptors
from tfplaces.evaluation.unit_descriptors import UnitDescriptors

RNG = np.random.default_rng(0)
NAMES = [f"{i}.jpg" for i in range(9)]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def vectors() -> np.ndarray:
    return unit(RNG.normal(size=(9, 6))).astype(np.float32)


@pytest.mark.parametrize("rows_at_once", [1, 4, 100])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"^database: the descriptor of 6\.jpg is not finite \(NaN\)"),
        (np.inf, r"^database: the descriptor of 6\.jpg is not finite \(infinite\)"),
        (-np.inf, r"^database: the descriptor of 6\.jpg is not finite \(infinite\)"),
        (0.0, r"^database: the descriptor of 6\.jpg is zero"),
    ],
)
def test_what_cannot_be_compared_names_its_image(
    value: float, message: str, rows_at_once: int, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_descriptors, "_BLOCK", 6 * rows_at_once)
    vectors[6, 2 if value else slice(None)] = value
    with pytest.raises(UserError, match=message) as error:
        UnitDescriptors(vectors, "database", NAMES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "bad",
    [np.ones(5, np.float32), np.ones((2, 3, 4), np.float32), np.ones((2, 3), np.int8), np.ones((2, 3), complex),
     np.full((2, 3), "a")],
)  # fmt: skip
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"^queries: descriptors of type .* and shape .*, expected floats"):
        UnitDescriptors(bad, "queries")


def test_a_double_beyond_float32_is_not_finite() -> None:
    with pytest.raises(UserError, match=r"the descriptor of 1 is not finite \(infinite\)"):
        UnitDescriptors(np.array([[1.0, 0.0], [1e300, 0.0]]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_come_at_unit_length(dtype: type, scale: float, vectors: np.ndarray) -> None:
    found = UnitDescriptors((scale * vectors).astype(dtype))
    assert found[2:7].dtype == np.float32
    tolerance = 4e-3 if dtype == np.float16 else 1e-6
    np.testing.assert_allclose(found[2:7], vectors[2:7], atol=tolerance)
    if dtype != np.float16:
        assert found.normalized == (0 if scale == 1 else 9)
    assert found.lengths == pytest.approx((scale, scale), rel=1e-2)


def test_unit_vectors_are_left_as_they_are(vectors: np.ndarray) -> None:
    found = UnitDescriptors(vectors)
    assert found.normalized == 0
    np.testing.assert_array_equal(found[:], vectors)


@pytest.mark.parametrize("scale", [1e-30, 1e-44, 1e37])
def test_lengths_neither_underflow_nor_overflow(scale: float) -> None:
    """The squares of such numbers are 0 or infinite in float32."""
    found = UnitDescriptors(np.float32(scale) * np.array([[1, 0], [2, 2], [0, 3]], np.float32))
    np.testing.assert_allclose(found[:], [[1, 0], [0.5**0.5, 0.5**0.5], [0, 1]], atol=1e-6)


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_equal_ones_are_known(rows_at_once: int, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_descriptors, "_BLOCK", 6 * rows_at_once)
    assert UnitDescriptors(vectors).first_equal is None
    vectors[[5, 8]] = vectors[1]
    found = UnitDescriptors(vectors)
    assert found.first_equal.tolist() == [0, 1, 2, 3, 4, 1, 6, 7, 1]
    assert not found.all_equal


def test_a_collapsed_network_is_known_by_its_rounding(vectors: np.ndarray) -> None:
    collapsed = np.repeat(vectors[:1], 9, axis=0)
    assert UnitDescriptors(collapsed).all_equal
    noise = RNG.uniform(-1e-7, 1e-7, collapsed.shape).astype(np.float32)
    assert UnitDescriptors(collapsed + noise).all_equal
    assert UnitDescriptors(5 * collapsed * RNG.uniform(1, 2, (9, 1))).all_equal
    assert not UnitDescriptors(collapsed + 1000 * noise).all_equal
    assert not UnitDescriptors(collapsed[:1]).all_equal


def test_none_at_all() -> None:
    found = UnitDescriptors(np.empty((0, 4), np.float32))
    assert (len(found), found.normalized, found.lengths, found.all_equal) == (0, 0, (1, 1), False)
