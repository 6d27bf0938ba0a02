"""Warm-up: worked values, in front of Keras's schedules, and in an optimizer."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.training import WarmUp, make_schedule


def test_grows_in_proportion_and_then_follows_the_schedule() -> None:
    """Four steps to 0.8: a quarter of it, a half, three quarters, all."""
    assert [float(WarmUp(0.8, 4)(k)) for k in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    steps = keras.optimizers.schedules.PiecewiseConstantDecay([5, 7], [1.0, 0.3, 0.1])
    found = [float(WarmUp(steps, 2)(k)) for k in range(9)]
    assert found == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.3, 0.3, 0.1])
    cosine = keras.optimizers.schedules.CosineDecay(1.0, 10)
    assert [float(WarmUp(cosine, 5)(k)) for k in (1, 5, 10)] == pytest.approx(
        [0.4 * float(cosine(1)), 0.5, 0], abs=1e-6
    )
    assert float(WarmUp(cosine, 0)(0)) == 1


def test_an_optimizer_goes_by_it() -> None:
    """The first step of SGD at a tenth of the rate of 1: the gradient of w² / 2 at 1 is 1."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(WarmUp(1.0, 10)), lambda y, w: 0.5 * w**2)
    model.fit(np.ones((1, 1)), np.ones((1, 1)), verbose=0)
    assert float(model.weights[0][0, 0]) == pytest.approx(0.9)


@pytest.mark.parametrize("schedule", [0.1, keras.optimizers.schedules.CosineDecay(0.1, 7)])
def test_round_trips(schedule: float | keras.optimizers.schedules.LearningRateSchedule) -> None:
    original = keras.optimizers.SGD(WarmUp(schedule, 3))
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(original))
    assert copy.get_config() == original.get_config()
    assert float(copy.learning_rate) == float(original.learning_rate)


def rates(spec: str, *steps: int, warm_up: int = 0) -> list[float]:
    """Of some steps of a training of four epochs of ten steps, which begins at 1."""
    schedule = make_schedule(spec, 1.0, 4, 10, warm_up)
    return [float(schedule(step)) for step in steps]


def test_schedules_by_name() -> None:
    """Rates change between the last step of an epoch and the first of the next."""
    assert rates("constant", 0, 39) == [1, 1]
    assert rates("constant", 0, 1, 2, warm_up=2) == [0.5, 1, 1]
    assert rates("cosine", 0, 10, 20, 40) == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0], abs=1e-6)
    found = rates("steps?epochs=1,3&factor=0.5", 0, 9, 10, 29, 30, 39)
    assert found == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    assert rates("steps", 39) == [1]
    assert float(make_schedule("steps", 1.0, 30, 10)(60)) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("linear", "schedule 'linear' is not known; there are constant, cosine, steps"),
        ("cosine?epochs=3", "unknown option 'epochs'; cosine has none"),
        ("steps?epochs=3,2", "epochs=3,2: expected rising numbers"),
        ("steps?epochs=0", "epochs=0: "),
        ("steps?epochs=five", "epochs=five: "),
        ("steps?factor=0", "factor=0: "),
        ("steps?length=3", "unknown option 'length'; steps has epochs, factor"),
    ],
)
def test_schedules_that_there_are_not(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_schedule(spec, 1.0, 4, 10)
