"""Describers: anything that turns images into descriptors. Evaluation, training and search see only this.

A Keras model and a LiteRT file are describers alike; `tfplaces.opening` makes one of any file.
"""

from __future__ import annotations

import importlib

from tfplaces.describers.base import Describer, NonFiniteError, check_finite, check_images
from tfplaces.describers.describing import describe_images, stream_descriptors
from tfplaces.describers.descriptor_file import DescriptorFile

# What needs TensorFlow or LiteRT is imported when it is used.
_NAMES = {"KerasDescriber": "keras", "LiteRTDescriber": "litert"}

__all__ = [
    "Describer", "DescriptorFile", "KerasDescriber", "LiteRTDescriber", "NonFiniteError", "check_finite",
    "check_images", "describe_images", "stream_descriptors",
]  # fmt: skip


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(importlib.import_module(f"tfplaces.describers.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'tfplaces.describers' has no attribute {name!r}")
