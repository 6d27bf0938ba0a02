"""Learning rates that change while a network is trained, beside those of Keras."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


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
