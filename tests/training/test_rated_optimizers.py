"""Learning rates that differ by layer: what moves, by how much, and what cannot be named."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.training import RatedAdam, RatedSGD, rate_factors


def network() -> keras.Model:
    image = keras.Input((3,))
    x = keras.layers.Dense(4, name="first", kernel_initializer="ones")(image)
    x = keras.layers.Dense(4, name="second", kernel_initializer="ones")(x)
    return keras.Model(image, keras.layers.Dense(1, name="third", kernel_initializer="ones")(x))


def test_factors_are_in_the_order_of_the_variables() -> None:
    """A variable's own factor goes before that of its layer; a frozen layer has none."""
    model = network()
    assert rate_factors(model, {}) == [1, 1, 1, 1, 1, 1]
    assert rate_factors(model, {"third": 5, "second": 0.5, "second/bias": 0}) == [1, 1, 0.5, 0, 5, 5]
    model.get_layer("first").trainable = False
    assert rate_factors(model, {"third": 5}) == [1, 1, 5, 5]


@pytest.mark.parametrize(
    ("factors", "message"),
    [({"fourth": 1}, "'fourth'"), ({"first/scale": 1}, "'first/scale'"), ({"first": -1}, "'first'.*from 0")],
)
def test_what_is_not_there_is_said(factors: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rate_factors(network(), factors)


def test_a_frozen_layer_has_no_rate() -> None:
    model = network()
    model.get_layer("first").trainable = False
    with pytest.raises(UserError, match=r"'first'.*trains no layer"):
        rate_factors(model, {"first": 1})


def test_steps_are_longer_by_the_factor() -> None:
    """The first step of Adam is the learning rate in each weight, whatever the gradient.

    That of SGD is the rate times the gradient. All kernels are ones, so gradients of the squared error are positive
    where inputs are.
    """
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 1), np.float32)
    factors = {"first": 0.0, "second": 1.0, "third": 10.0}
    for kind, rate in ((RatedAdam, 1e-3), (RatedSGD, 1e-5)):
        moved = {}
        for given in (factors, dict.fromkeys(factors, 1.0)):
            model = network()
            before = [v.numpy() for v in model.trainable_variables]
            model.compile(kind(rate, rate_factors(model, given)), "mse")
            model.fit(x, y, verbose=0)
            moved[given["third"]] = [v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)]
        for rated, plain, factor in zip(moved[10.0], moved[1.0], [0, 0, 1, 1, 10, 10], strict=True):
            assert rated == pytest.approx(factor * plain, rel=2e-2, abs=1e-9)
            assert np.all(plain < 0)
            if kind is RatedAdam:
                assert plain == pytest.approx(-rate, rel=2e-2)


@pytest.mark.parametrize("optimizer", [RatedAdam(1e-3, [1, 2], weight_decay=0.1), RatedSGD(1e-3, [3], momentum=0.9)])
def test_round_trips(optimizer: keras.optimizers.Optimizer) -> None:
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is type(optimizer)
    assert copy.get_config() == optimizer.get_config()
