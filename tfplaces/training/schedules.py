"""Learning rates that change while a network is trained: warm-up before any of Keras's, and schedules by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfplaces.common.errors import UserError
from tfplaces.common.options import split_options, typed_options
from tfplaces.common.text import printable_name


@keras.saving.register_keras_serializable(package="tfplaces")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Any schedule, begun gently: in the first steps the rate grows in proportion to the step, up to the schedule's.

    The first steps of Adam are as long as all others although it knows little yet of the gradients.

    Args:
        schedule: a number, or a schedule of Keras such as `CosineDecay` or `PiecewiseConstantDecay`.
        steps: how many steps it takes; 0 for none.
    """

    def __init__(self, schedule: float | keras.optimizers.schedules.LearningRateSchedule, steps: int):
        super().__init__()
        self.schedule, self.steps = schedule, int(steps)

    def __call__(self, step):
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        share = (ops.cast(step, "float32") + 1.0) / max(self.steps, 1)
        return ops.cast(rate, "float32") * ops.minimum(share, 1.0)

    def get_config(self) -> dict[str, Any]:
        schedule = self.schedule
        if callable(schedule):
            schedule = keras.saving.serialize_keras_object(schedule)
        return {"schedule": schedule, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        schedule = config["schedule"]
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        return cls(schedule, config["steps"])


# A number, or a schedule of Keras.
Schedule = Any


def _constant(rate: float, length: int, steps: int, /) -> Schedule:
    return rate


def _cosine(rate: float, length: int, steps: int, /) -> Schedule:
    return keras.optimizers.schedules.CosineDecay(rate, max(1, length * steps))


def _by_steps(rate: float, length: int, steps: int, /, epochs: str = "5,10,15,25", factor: float = 0.3) -> Schedule:
    parts = epochs.split(",")
    after = [int(part) for part in parts if part.isascii() and part.isdigit()]
    if len(after) < len(parts) or after != sorted(set(after)) or after[0] < 1:
        raise UserError(f"epochs={printable_name(epochs)}: expected rising numbers of epochs, as in 5,10,15")
    if not 0 < factor <= 1:
        raise UserError(f"factor={factor:g}: what the learning rate is multiplied by, above 0 and at most 1")
    # Keras goes on to the next rate in the step after a boundary, and counts from 0.
    boundaries = [epoch * steps - 1 for epoch in after]
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        boundaries, [rate * factor**k for k in range(len(after) + 1)]
    )


# By the names that people give them. Each takes the learning rate to begin with, the epochs of the training and the
# steps of an epoch, and then options of its own. The defaults of `steps` are those of GSV-Cities.
SCHEDULES: dict[str, Callable[..., Schedule]] = {"constant": _constant, "cosine": _cosine, "steps": _by_steps}


def make_schedule(spec: str, rate: float, epochs: int, steps: int, warm_up: int = 0) -> WarmUp:
    """A learning rate over a whole training.

    Args:
        spec: `constant`; `cosine`, which falls to 0 at the end; or `steps?epochs=5,10,15,25&factor=0.3`, which
            multiplies the rate by the factor after each of these epochs.
        rate: the learning rate that it begins with.
        epochs: of the training.
        steps: of an epoch.
        warm_up: the steps in which the rate grows up to the schedule's.

    Raises:
        UserError: the spec is none of these.
    """
    kind, _, query = spec.partition("?")
    if kind not in SCHEDULES:
        raise UserError(f"schedule {printable_name(spec)!r} is not known; there are {', '.join(SCHEDULES)}")
    make = SCHEDULES[kind]
    known = list(inspect.signature(make).parameters)[3:]
    options = typed_options(spec, split_options(spec, kind, query, known), make)
    return WarmUp(make(rate, epochs, steps, **options), warm_up)
