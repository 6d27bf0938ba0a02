"""Opens any model file as a describer."""

from __future__ import annotations

import os

from tfplaces.common.errors import UserError
from tfplaces.common.extras import needed_by
from tfplaces.describers import Describer


def load_describer(path: str | os.PathLike, input_size: tuple[int, int] | None = None, threads: int = 1) -> Describer:
    """Opens a `.keras`, `.places`, `.tflite` or `.tflpack` file as a describer.

    Args:
        path: the model.
        input_size: (height, width) in pixels instead of the one stored in the model. A TFLite model of fixed
            size takes no other.
        threads: threads of a TFLite model; Keras uses all there are.

    Raises:
        ModuleNotFoundError: what runs the model is not installed; the message names the extra that brings it.
        ValueError: the file is missing or is no place-recognition model, or it cannot take that input size.
    """
    if is_tflite(path):
        with needed_by(f"opening {os.fspath(path)}"):
            from tfplaces.describers.litert import LiteRTDescriber

        return LiteRTDescriber(path, input_size, threads)
    with needed_by(f"opening {os.fspath(path)}"):
        from tfplaces.describers.keras import KerasDescriber
        from tfplaces.opening.models import load_model

    model = load_model(path)
    try:
        return KerasDescriber(model, input_size)
    except ValueError as error:
        raise UserError(f"{os.fspath(path)}: {error}") from None


def is_tflite(path: str | os.PathLike) -> bool:
    """Whether a file is one for LiteRT, by its name."""
    return os.fspath(path).lower().endswith((".tflite", ".tflpack"))
