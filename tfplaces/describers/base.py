"""What a describer is: the protocol, and the check of the images that it is given."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tfplaces.common.errors import UserError


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


def check_images(images: np.ndarray, input_size: tuple[int, int]) -> None:
    """Raises ValueError unless images are uint8 `[n, *input_size, 3]`."""
    expected = (*input_size, 3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
        raise UserError(
            f"images of type {images.dtype} and shape {list(images.shape)}, expected uint8 "
            f"[n, {', '.join(map(str, expected))}]"
        )
