"""Opens a stranger's model in a process of its own first, which a crash of LiteRT ends instead of the tool."""

from __future__ import annotations

import os

from tfplaces.evaluation import cost
from tfplaces.opening.describers import is_tflite


def try_model(path: str | os.PathLike, input_size: tuple[int, int] | None = None) -> None:
    """Lets a process of its own open a `.tflite` or `.tflpack` and describe an image with it; a third of a second.

    Keras models are made by Keras of what was checked before, in Python; they are not tried.

    Args:
        path: the model.
        input_size: (height, width) in pixels, instead of the model's own.

    Raises:
        UserError: the model cannot be opened or run, or it crashes LiteRT.
    """
    if is_tflite(path):
        with cost.running(path, input_size, 1):
            pass
