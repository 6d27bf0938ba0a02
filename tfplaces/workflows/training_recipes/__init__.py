"""The ways to train a network: what each can be told, what it does when it is told nothing, and what it learns from.

A flag of `tfplaces-train` has the name of a field here. The files in `recipes/` write down the defaults, with their
sources. TensorFlow is imported only when a network is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfplaces.common.errors import UserError
from tfplaces.workflows.training_recipes.base import TrainingRecipe
from tfplaces.workflows.training_recipes.netvlad import NetVLADRecipe
from tfplaces.workflows.training_recipes.place_batches import PlaceBatchesRecipe
from tfplaces.workflows.training_recipes.teacher import TeacherRecipe

__all__ = [
    "RECIPES",
    "NetVLADRecipe",
    "PlaceBatchesRecipe",
    "TeacherRecipe",
    "TrainingRecipe",
    "defaults",
    "make_recipe",
    "options",
]

RECIPES: dict[str, type[TrainingRecipe]] = {
    recipe.method: recipe for recipe in (PlaceBatchesRecipe, NetVLADRecipe, TeacherRecipe)
}


def options() -> list[str]:
    """The names of all that recipes can be told."""
    return list(dict.fromkeys(name for recipe in RECIPES.values() for name in _defaults(recipe)))


def defaults(option: str) -> str:
    """What an option is when it is not given, as a sentence with a space before it; empty where that has no value."""
    methods: dict[Any, list[str]] = {}
    for method, recipe in RECIPES.items():
        known = _defaults(recipe)
        if known.get(option) is not None:
            methods.setdefault(known[option], []).append(method)
    if not methods:
        return ""
    if list(methods.values()) == [list(RECIPES)]:
        return f" By default {_text(next(iter(methods)))}."
    return " By default " + ", ".join(f"{_text(value)} with {' and '.join(of)}" for value, of in methods.items()) + "."


def make_recipe(method: str, given: Mapping[str, Any]) -> TrainingRecipe:
    """A recipe by its name.

    Args:
        method: a key of `RECIPES`.
        given: what it is told, by the names of its fields.

    Raises:
        UserError: the recipe has no use for something of it.
    """
    known = {name: _defaults(recipe) for name, recipe in RECIPES.items()}
    for name in given:
        if name not in known[method]:
            those = " or ".join(_asked_for(other) for other in RECIPES if name in known[other])
            raise UserError(f"--{name} goes with {those}, not with {_asked_for(method)}")
    return RECIPES[method](**given)


def _defaults(recipe: type[TrainingRecipe]) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(recipe)}


def _asked_for(method: str) -> str:
    return "--teacher" if method == TeacherRecipe.method else f"--method={method}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
