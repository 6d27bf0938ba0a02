"""Changing training images at random: as a place looks from a little nearer and in another light, or more wildly.

Keras's own `RandAugment` is not used: for every image it computes all operations, however few are drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from tfplaces.common.errors import UserError
from tfplaces.common.options import split_options, typed_options
from tfplaces.common.text import printable_name

# Changes images, uint8 `[n, height, width, 3]`, at random, and gives as many of the same type and size.
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]

# Up to this factor a crop is wider in proportion than its image, or higher.
_MAX_STRETCH = 4 / 3


@dataclasses.dataclass(frozen=True)
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

    crop: float = 0.5
    jitter: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise UserError(f"crop={self.crop:g}: the smallest share of the area that is kept, above 0 and at most 1")
        if not 0 <= self.jitter <= 1:
            raise UserError(f"jitter={self.jitter:g}: how much colours change, from 0 to 1")

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
            photo = _jittered(photo, *factors.tolist())
        return np.asarray(photo)


# How much of the grey of a pixel is red, green and blue, as ITU-R 601 and Pillow have it.
_GREY = np.array([0.299, 0.587, 0.114])


def _jittered(photo: Image.Image, brightness: float, contrast: float, saturation: float) -> Image.Image:
    """Multiplies first the brightness of an image, then its contrast and at last its saturation.

    As contrast is about the image's mean grey and saturation about the grey of each pixel, all three are linear: done
    as one they take half the time of Pillow's three enhancers, and pixels are rounded and cut off at 255 once.
    """
    mean = _GREY @ photo.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _GREY)
    offsets = np.full((3, 1), brightness * (1 - contrast) * mean)
    return photo.convert("RGB", tuple(np.hstack([matrix, offsets]).ravel().tolist()))


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Changes each image by a few operations drawn at random (Cubuk et al. 2020), as torchvision's `RandAugment` does.

    The operations and how strong they are at a magnitude are torchvision's; pixels from outside the image are black.

    Args:
        operations: how many are applied to an image, one after the other, 1 to 10.
        magnitude: how strong they are, 0 to 30.

    Raises:
        UserError: a number is out of range.
    """

    operations: int = 3
    magnitude: int = 15

    def __post_init__(self) -> None:
        if not 1 <= self.operations <= 10:
            raise UserError(f"operations={self.operations}: how many are applied to an image, from 1 to 10")
        if not 0 <= self.magnitude <= _STRONGEST:
            raise UserError(f"magnitude={self.magnitude}: how strong operations are, from 0 to {_STRONGEST}")

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Changes images, uint8 `[n, height, width, 3]`, each in its own way, into as many of the same size."""
        share = self.magnitude / _STRONGEST
        changed = []
        for image in images:
            photo = Image.fromarray(image)
            for _ in range(self.operations):
                operation, sign = OPERATIONS[rng.integers(len(OPERATIONS))], rng.choice([-1, 1])
                photo = operation(photo, share, float(sign))
            changed.append(np.asarray(photo))
        return np.stack(changed)


_STRONGEST = 30


def _affine(photo: Image.Image, *matrix: float) -> Image.Image:
    return photo.transform(photo.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


# What RandAugment draws from: each takes an image, how strong it is, 0 to 1, and a direction, −1 or 1.
OPERATIONS: tuple[Callable[[Image.Image, float, float], Image.Image], ...] = (
    lambda photo, share, sign: photo,
    lambda photo, share, sign: _affine(photo, 1, sign * 0.3 * share, 0, 0, 1, 0),
    lambda photo, share, sign: _affine(photo, 1, 0, 0, sign * 0.3 * share, 1, 0),
    lambda photo, share, sign: _affine(photo, 1, 0, int(sign * 150 / 331 * share * photo.width), 0, 1, 0),
    lambda photo, share, sign: _affine(photo, 1, 0, 0, 0, 1, int(sign * 150 / 331 * share * photo.height)),
    lambda photo, share, sign: photo.rotate(sign * 30 * share, Image.Resampling.BILINEAR),
    lambda photo, share, sign: ImageEnhance.Brightness(photo).enhance(1 + sign * 0.9 * share),
    lambda photo, share, sign: ImageEnhance.Color(photo).enhance(1 + sign * 0.9 * share),
    lambda photo, share, sign: ImageEnhance.Contrast(photo).enhance(1 + sign * 0.9 * share),
    lambda photo, share, sign: ImageEnhance.Sharpness(photo).enhance(1 + sign * 0.9 * share),
    lambda photo, share, sign: ImageOps.posterize(photo, 8 - round(4 * share)),
    lambda photo, share, sign: ImageOps.solarize(photo, round(255 * (1 - share))),
    lambda photo, share, sign: ImageOps.autocontrast(photo),
    lambda photo, share, sign: ImageOps.equalize(photo),
)

# By the names that people give them.
AUGMENTATIONS: dict[str, Any] = {"crop_jitter": CropAndJitter, "rand_augment": RandAugment}


def make_augmentation(spec: str) -> Augmentation | None:
    """What changes the images of a training.

    Args:
        spec: `none`, or a key of `AUGMENTATIONS` and its arguments, for example `crop_jitter?crop=0.5&jitter=0.3`.

    Raises:
        UserError: the spec is none of these.
    """
    if spec == "none":
        return None
    kind, _, query = spec.partition("?")
    if kind not in AUGMENTATIONS:
        raise UserError(
            f"augmentation {printable_name(spec)!r} is not known; there are none, {', '.join(AUGMENTATIONS)}"
        )
    make = AUGMENTATIONS[kind]
    known = [field.name for field in dataclasses.fields(make)]
    return make(**typed_options(spec, split_options(spec, kind, query, known), make))
