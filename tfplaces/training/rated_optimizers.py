"""Keras's optimizers with a learning rate that differs by variable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import variable_index


class _Rated(keras.optimizers.Optimizer):
    """What makes the optimizer beside it a rated one."""

    _rate_factors: list[float] | None

    def update_step(self, gradient, variable, learning_rate):
        if self._rate_factors is not None:
            learning_rate = learning_rate * self._rate_factors[variable_index(self, variable)]
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "rate_factors": self._rate_factors}


@keras.saving.register_keras_serializable(package="tfplaces")
class RatedAdam(_Rated, keras.optimizers.Adam):
    """Adam with a factor on the learning rate of each variable; with a weight decay it is AdamW.

    Args:
        learning_rate: a number or a schedule.
        rate_factors: a factor of the learning rate for each trained variable, in their order; by default 1 for all.
            Weight decay goes by the learning rate without it.
        kwargs: see `keras.optimizers.Adam`.
    """

    def __init__(self, learning_rate=1e-4, rate_factors: Sequence[float] | None = None, **kwargs: Any):
        super().__init__(learning_rate, **kwargs)
        self._rate_factors = list(rate_factors) if rate_factors is not None else None


@keras.saving.register_keras_serializable(package="tfplaces")
class RatedSGD(_Rated, keras.optimizers.SGD):
    """Stochastic gradient descent with a factor on the learning rate of each variable.

    Args:
        learning_rate: a number or a schedule.
        rate_factors: see `RatedAdam`.
        kwargs: see `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate=1e-2, rate_factors: Sequence[float] | None = None, **kwargs: Any):
        super().__init__(learning_rate, **kwargs)
        self._rate_factors = list(rate_factors) if rate_factors is not None else None


# By the names that people give them.
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adam": RatedAdam,
    "adamw": RatedAdam,
    "sgd": functools.partial(RatedSGD, momentum=0.9),
}


def make_optimizer(
    name: str, learning_rate: Any, weight_decay: float = 0.0, accumulate: int = 1
) -> keras.optimizers.Optimizer:
    """An optimizer by name.

    Args:
        name: adam, adamw, or sgd with a momentum of 0.9.
        learning_rate: a number or a schedule, which counts batches, accumulated or not.
        weight_decay: the share of all weights, times the learning rate, that a step takes away from them (decoupled, as
            in AdamW); 0 for none.
        accumulate: how many batches' mean gradient a step goes by.

    Raises:
        UserError: there is none of that name, or adam is to decay weights, which makes it adamw.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"optimizer {name!r} is not known; there are {', '.join(OPTIMIZERS)}")
    if weight_decay and name == "adam":
        raise UserError("adam does not decay weights; that is adamw")
    return OPTIMIZERS[name](
        learning_rate,
        weight_decay=weight_decay or None,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )


def rate_factors(model: keras.Model, factors: Mapping[str, float]) -> list[float]:
    """A factor of the learning rate for each trained variable of a model, in their order, for a rated optimizer.

    Args:
        model: the model that is trained.
        factors: by the name of a layer, or of a layer and its variable as in `netvlad/centroids`, which goes before
            that of the layer. All others have 1.

    Raises:
        UserError: no trained variable has such a name, or a factor is negative.
    """
    unused = dict(factors)
    found = []
    names = {id(v): (layer.name, v.name) for layer in model.layers for v in layer.trainable_variables}
    for variable in model.trainable_variables:
        layer, own = names[id(variable)]
        keys = [key for key in (f"{layer}/{own}", layer) if key in factors]
        found.append(float(factors[keys[0]]) if keys else 1.0)
        for key in keys:
            unused.pop(key, None)
    if unused:
        raise UserError(f"learning rate of {next(iter(unused))!r}: {model.name} trains no layer or variable so named")
    if min(factors.values(), default=0) < 0:
        raise UserError(f"learning rate of {min(factors, key=factors.__getitem__)!r}: a factor from 0")
    return found
