"""Describers: anything that turns images into descriptors. Evaluation and search see only this."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np


class Describer(Protocol):
    """Turns images into descriptors.

    Attributes:
        input_size: (height, width) in pixels of the images it takes.
        descriptor_dim: length of the descriptor.
    """

    input_size: tuple[int, int]
    descriptor_dim: int

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Describes images.

        Args:
            images: RGB, uint8 `[n, height, width, 3]`, height and width as `input_size`.

        Returns:
            float32 `[n, descriptor_dim]`, each of unit length.

        Raises:
            ValueError: images of another type or shape.
        """


def load_describer(path: str | os.PathLike, input_size: tuple[int, int] | None = None, threads: int = 1) -> Describer:
    """Opens a `.keras`, `.places`, `.tflite` or `.tflpack` file as a describer.

    Args:
        path: the model.
        input_size: (height, width) in pixels instead of the one stored in the model. A TFLite model of fixed
            size takes no other.
        threads: threads of a TFLite model; Keras uses all there are.

    Raises:
        ValueError: the file is missing or is no place-recognition model, or it cannot take that input size.
    """
    if os.fspath(path).lower().endswith((".tflite", ".tflpack")):
        from tfplaces.lite.describer import LiteRTDescriber

        return LiteRTDescriber(path, input_size, threads)
    from tfplaces.models.describer import KerasDescriber
    from tfplaces.models.loading import load_model

    model = load_model(path)
    try:
        return KerasDescriber(model, input_size)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def check_images(images: np.ndarray, input_size: tuple[int, int]) -> None:
    """Raises ValueError unless images are uint8 `[n, *input_size, 3]`."""
    expected = (*input_size, 3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
        raise ValueError(
            f"images of type {images.dtype} and shape {list(images.shape)}, expected uint8 "
            f"[n, {', '.join(map(str, expected))}]"
        )
