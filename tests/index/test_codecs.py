"""Codecs: what they are, whatever they are called."""

from __future__ import annotations

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.index import CODECS


def unit(count: int, dim: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize(("name", "size", "error"), [("float16", 2, 1e-3), ("int8", 1, 2e-2)])
def test_plain_codecs_keep_cosines(name: str, size: int, error: float) -> None:
    places, queries = unit(40, 32), unit(7, 32, 1)
    codec = CODECS[name].fit(places)
    codes = codec.encode(places)
    assert codes.dtype == np.uint8 and codes.shape == (40, 32 * size) == (40, codec.code_bytes)
    np.testing.assert_allclose(codec.scan(queries, codes), queries @ places.T, atol=error)
    np.testing.assert_allclose(queries @ codec.decode(codes).T, codec.scan(queries, codes), atol=1e-5)
    again = type(codec).from_state(codec.state(), 32)
    np.testing.assert_array_equal(again.scan(queries, codes), codec.scan(queries, codes))


@pytest.mark.parametrize("name", sorted(CODECS))
def test_any_bytes_give_finite_scores(name: str) -> None:
    """Codes may come from a stranger's file."""
    codec = CODECS[name].fit(unit(300, 32))
    codes = np.random.default_rng(0).integers(0, 256, (200, codec.code_bytes), np.uint8)
    codes[0], codes[1] = 0, 255
    with np.errstate(all="raise"):
        assert np.isfinite(codec.scan(unit(3, 32), codes)).all()


def test_int8_reaches_the_ends_of_its_range() -> None:
    codes = CODECS["int8"](3).encode(np.array([[0.6, 0.0, -0.8]], np.float32)).view(np.int8)
    assert codes.tolist() == [[95, 0, -127]]  # 0.6 / 0.8 · 127 = 95.25


def test_a_codec_without_training_has_no_state() -> None:
    with pytest.raises(UserError, match="the codec int8 has no state"):
        CODECS["int8"].from_state(b"x", 4)


@pytest.mark.parametrize(("name", "bits", "error"), [("binary", 1, 0.363), ("int2", 2, 0.118), ("int4", 4, 0.0095)])
def test_scalar_codecs_lose_what_is_known_of_their_levels(name: str, bits: int, error: float) -> None:
    """The mean squared errors are those of J. Max, 1960, Table I, for 2, 4 and 16 levels of a normal distribution."""
    places = unit(2000, 36)  # 36 numbers of 1 bit do not fill their last byte
    codec = CODECS[name].fit(places)
    codes = codec.encode(places)
    assert codes.dtype == np.uint8 and codes.shape == (2000, -(-36 * bits // 8))
    decoded = codec.decode(codes)
    assert np.sum((decoded - places) ** 2, axis=1).mean() == pytest.approx(error, rel=0.05)
    queries = unit(5, 36, 1)
    estimate = 1 - ((queries[:, None] - decoded) ** 2).sum(axis=2) / 2
    np.testing.assert_allclose(codec.scan(queries, codes), estimate, atol=1e-5)
    again = type(codec).from_state(codec.state(), 36)
    np.testing.assert_array_equal(again.encode(places), codes)
    np.testing.assert_array_equal(again.scan(queries, codes), codec.scan(queries, codes))


def test_numbers_of_a_scalar_codec_stand_from_the_lowest_bits() -> None:
    codec = CODECS["int2"].from_state(np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], "<f4").tobytes(), 5)
    codes = codec.encode(np.array([[-2, -0.5, 0.5, 2, 2]], np.float32))
    assert codes.tolist() == [[0b11_10_01_00, 0b11]]
    np.testing.assert_allclose(codec.decode(codes), [[-1.51, -0.4528, 0.4528, 1.51, 1.51]])


@pytest.mark.parametrize("state", [b"", bytes(7), bytes(72), np.full(8, np.nan, "<f4").tobytes(),
                                   np.full(8, -1, "<f4").tobytes(), np.full(8, 1e30, "<f4").tobytes()])  # fmt: skip
def test_states_that_no_scalar_codec_has_are_refused(state: bytes) -> None:
    with pytest.raises(UserError, match="the codec binary"):
        CODECS["binary"].from_state(state, 4)


def test_a_codec_that_learns_says_how_when_there_is_too_little() -> None:
    with pytest.raises(UserError, match="--codec_dataset"):
        CODECS["int4"].fit(unit(15, 8))
