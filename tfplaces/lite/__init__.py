"""TFLite models: the converter, and a describer that runs them in LiteRT."""

from __future__ import annotations

import importlib

PRECISIONS = ("float32", "float16", "dynamic_int8", "mixed_int8", "mixed_int4", "full_int8")
# Whose activations are quantized beforehand, by ranges from calibration.
STATIC = ("mixed_int8", "mixed_int4", "full_int8")
_NAMES = {"LiteRTDescriber": "describer", "convert": "converter", "operators": "describer"}

__all__ = ["PRECISIONS", "STATIC", "LiteRTDescriber", "convert", "operators"]


def __getattr__(name: str):
    # Running a model needs no TensorFlow, converting one does.
    if name in _NAMES:
        return getattr(importlib.import_module(f"tfplaces.lite.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'tfplaces.lite' has no attribute {name!r}")
