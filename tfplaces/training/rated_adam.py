"""Adam whose learning rate differs by variable."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfplaces.common.keras_private import variable_index


@keras.saving.register_keras_serializable(package="tfplaces")
class RatedAdam(keras.optimizers.Adam):
    """Adam with a factor on the learning rate of each variable.

    Args:
        learning_rate: a number or a schedule.
        rate_factors: a factor of the learning rate for each trained variable, in their order; by default 1 for all.
    """

    def __init__(self, learning_rate=1e-4, rate_factors: Sequence[float] | None = None, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self._rate_factors = list(rate_factors) if rate_factors is not None else None

    def update_step(self, gradient, variable, learning_rate):
        if self._rate_factors is not None:
            learning_rate = learning_rate * self._rate_factors[variable_index(self, variable)]
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "rate_factors": self._rate_factors}
