"""Generalised mean pooling against the formula in float64."""

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.layers import GeM

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)


@pytest.mark.parametrize("p", [1.0, 2.7, 3.0, 6.5])
def test_is_the_generalised_mean(p: float) -> None:
    """(mean of max(x, 1e-6)^p)^(1/p) over the map, for each channel (Radenović et al., equation 3)."""
    expected = np.mean(np.maximum(FEATURES.astype(np.float64), 1e-6) ** p, axis=(1, 2)) ** (1 / p)
    np.testing.assert_allclose(GeM(p)(FEATURES), expected, rtol=1e-5)


def test_is_the_mean_for_one_and_near_the_maximum_for_large_powers() -> None:
    x = np.abs(FEATURES)
    np.testing.assert_allclose(GeM(1.0)(x), x.mean(axis=(1, 2)), rtol=1e-5)
    largest = x.max(axis=(1, 2))
    pooled = np.asarray(GeM(30.0)(x / largest[:, None, None])) * largest
    # The mean has one largest of 15 at least: between 15^(−1/30) of it and itself.
    assert np.all(pooled <= largest * 1.0001) and np.all(pooled >= largest * 15 ** (-1 / 30) * 0.999)


def test_the_power_can_be_trained_and_is_of_one_dimension() -> None:
    layer = GeM()
    layer(FEATURES)
    assert [(w.name, tuple(w.shape)) for w in layer.trainable_weights] == [("p", (1,))]
    layer.p.assign([2.0])
    np.testing.assert_allclose(layer(FEATURES), GeM(2.0)(FEATURES), rtol=1e-6)


def test_features_below_epsilon_are_epsilon() -> None:
    np.testing.assert_allclose(GeM()(np.full((1, 2, 2, 3), -5, np.float32)), np.full((1, 3), 1e-6), rtol=1e-4)


@pytest.mark.parametrize("options", [{"p": 0}, {"p": -1}, {"p": float("nan")}, {"epsilon": 0}])
def test_refuses_what_has_no_mean(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="GeM: p="):
        GeM(**options)
