"""TFLite models: the converter, and a describer that runs them in LiteRT."""

from __future__ import annotations

import importlib

_NAMES = {"LiteRTDescriber": "describer", "PRECISIONS": "converter", "convert": "converter", "operators": "describer"}

__all__ = ["PRECISIONS", "LiteRTDescriber", "convert", "operators"]


def __getattr__(name: str):
    # Running a model needs no TensorFlow, converting one does.
    if name in _NAMES:
        return getattr(importlib.import_module(f"tfplaces.lite.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'tfplaces.lite' has no attribute {name!r}")
