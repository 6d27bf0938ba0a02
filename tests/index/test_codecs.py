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
