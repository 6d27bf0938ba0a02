"""Changing training images at random, as a place looks from a little nearer and in another light."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from tfplaces.common.errors import UserError

# Up to this factor a crop is wider in proportion than its image, or higher.
_MAX_STRETCH = 4 / 3


class CropAndJitter:
    """Cuts a part out of each image, enlarges it to the image's size, and changes brightness, contrast and saturation.

    As `RandomResizedCrop` and `ColorJitter` of torchvision, which CosPlace and others train with, without hue: the part
    has a share of the area drawn evenly from `crop` to 1, and its shape is that of the image stretched by up to 4/3
    either way. Each colour factor is drawn evenly from 1 − `jitter` to 1 + `jitter`.

    Args:
        crop: the smallest share of the area that is kept, above 0; 1 keeps all of it.
        jitter: how much colours change, 0 to 1; 0 keeps them.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(self, crop: float = 0.5, jitter: float = 0.3):
        if not 0 < crop <= 1:
            raise UserError(f"crop={crop:g}: the smallest share of the area that is kept, above 0 and at most 1")
        if not 0 <= jitter <= 1:
            raise UserError(f"jitter={jitter:g}: how much colours change, from 0 to 1")
        self.crop, self.jitter = crop, jitter

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Changes images, uint8 `[n, height, width, 3]`, each in its own way, into as many of the same size."""
        return np.stack([self._changed(image, rng) for image in images])

    def _changed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        area = rng.uniform(self.crop, 1)
        stretch = np.exp(rng.uniform(-1, 1) * np.log(_MAX_STRETCH))
        # Shares of height and width. A part that would be wider or higher than the image is as wide or high as it.
        shares = np.minimum(np.sqrt([area / stretch, area * stretch]), 1)
        top, left = rng.uniform(0, 1 - shares) * (height, width)
        factors = rng.uniform(1 - self.jitter, 1 + self.jitter, 3)
        photo = Image.fromarray(image)
        if self.crop < 1:
            box = (left, top, left + shares[1] * width, top + shares[0] * height)
            photo = photo.resize((width, height), Image.Resampling.BILINEAR, box=box)
        if self.jitter:
            for enhance, factor in zip(_COLOURS, factors.tolist(), strict=True):
                photo = enhance(photo).enhance(factor)
        return np.asarray(photo)


_COLOURS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
