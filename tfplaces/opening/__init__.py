"""Opens any file that holds a model. It stands on top of the library: nothing else in it imports this package."""

from __future__ import annotations

import importlib

from tfplaces.opening.describers import load_describer
from tfplaces.opening.trial import try_model

# What needs TensorFlow is imported when it is used.
_NAMES = {"load_model": "models", "load_place_net": "models"}

__all__ = ["load_describer", "load_model", "load_place_net", "try_model"]


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(importlib.import_module(f"tfplaces.opening.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'tfplaces.opening' has no attribute {name!r}")
