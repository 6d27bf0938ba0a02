"""TFLite models: the converter, and the check of what it writes."""

from __future__ import annotations

import importlib

PRECISIONS = ("float32", "float16", "dynamic_int8", "mixed_int8", "mixed_int4", "full_int8")
# Whose activations are quantized beforehand, by ranges from calibration.
STATIC = ("mixed_int8", "mixed_int4", "full_int8")

# What a file is made for; see `tfplaces.lite.targets`.
TARGETS = ("litert", "gpu", "mediapipe", "web", "npu")

__all__ = ["PRECISIONS", "STATIC", "TARGETS", "convert"]


def __getattr__(name: str):
    # The names of the precisions and targets need no TensorFlow, converting does.
    if name == "convert":
        return importlib.import_module("tfplaces.lite.converter").convert
    raise AttributeError(f"module 'tfplaces.lite' has no attribute {name!r}")
