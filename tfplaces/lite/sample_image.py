"""The image that a client describes to see that its runtime computes a `.tflite` as LiteRT here does."""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import numpy as np
from PIL import Image

from tfplaces.describers.litert import LiteRTDescriber

# Sides of its squares of one colour, in pixels: it takes few bytes as a PNG.
_SQUARE = 16


def sample_image_of(height: int, width: int) -> np.ndarray:
    """An image of coloured squares, uint8 `[height, width, 3]`, always the same for a size."""
    rows, columns = -(-height // _SQUARE), -(-width // _SQUARE)
    squares = np.random.default_rng(17).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return squares.repeat(_SQUARE, 0).repeat(_SQUARE, 1)[:height, :width]


def sample_descriptor(path: str | os.PathLike) -> dict[str, Any]:
    """The image and its descriptor by a file, plain JSON types.

    Args:
        path: the `.tflite`.

    Returns:
        `image`, a PNG of the file's input size in base64; `descriptor`, as `LiteRTDescriber` gives it, to six digits,
        null where a number of it is not finite.
    """
    describer = LiteRTDescriber(path)
    image = sample_image_of(*describer.input_size)
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG", optimize=True)
    descriptor = [float(f"{value:.6g}") for value in describer.describe(image[None])[0]]
    return {
        "image": base64.b64encode(png.getvalue()).decode("ascii"),
        "descriptor": descriptor if np.isfinite(descriptor).all() else None,
    }
