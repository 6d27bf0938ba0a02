"""What a describer is: the protocol, and the checks of the images it takes and of the descriptors it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name


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
            float32 `[n, descriptor_dim]`. A place-recognition network gives them at unit length; what compares
            descriptors brings those of other models to it.

        Raises:
            UserError: images of another type or shape.
        """


class NonFiniteError(UserError):
    """A descriptor has values that are infinite or no number."""


def check_images(images: np.ndarray, input_size: tuple[int, int]) -> None:
    """Raises UserError unless images are uint8 `[n, *input_size, 3]`."""
    expected = (*input_size, 3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
        raise UserError(
            f"images of type {images.dtype} and shape {list(images.shape)}, expected uint8 "
            f"[n, {', '.join(map(str, expected))}]"
        )


def check_finite(descriptors: np.ndarray, names: Sequence[str | int], what: str) -> None:
    """Refuses descriptors with values that are not finite.

    Args:
        descriptors: floats `[n, dim]`.
        names: names of their images, for the message.
        what: the images are, for the message.

    Raises:
        NonFiniteError: the message names the first such image, and says what is in its descriptor.
    """
    finite = np.isfinite(descriptors).all(axis=1)
    if not finite.all():
        index = int(np.argmin(finite))
        found = "NaN" if np.isnan(descriptors[index]).any() else "infinite"
        name = printable_name(str(names[index]))
        raise NonFiniteError(
            f"{what}: the descriptor of {name} is not finite ({found}): the model is broken; train or convert it again"
        )
