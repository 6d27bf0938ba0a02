"""Drawing in metres, and the surfaces walls, roofs and streets are made of."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

SCALE = 24  # texture pixels per metre


def shade(colour: Sequence[int], factor: float) -> Colour:
    """A lighter (factor > 1) or darker colour."""
    red, green, blue = colour
    return min(255, int(red * factor)), min(255, int(green * factor)), min(255, int(blue * factor))


def mix(a: Sequence[int], b: Sequence[int], share: float) -> Colour:
    """The colour `share` (0 to 1) of the way from a to b."""
    red, green, blue = (int(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


class Drawing:
    """An RGBA picture drawn in metres: x right, z up, (0, 0) the lower left corner.

    Args:
        width, height: metres.
        scale: pixels per metre.
    """

    def __init__(self, width: float, height: float, scale: float = SCALE):
        self._begin(Image.new("RGBA", (max(1, round(width * scale)), max(1, round(height * scale)))), scale)

    @classmethod
    def on(cls, image: Image.Image, scale: float = SCALE) -> Drawing:
        """Draws on an RGBA image."""
        drawing = cls.__new__(cls)
        drawing._begin(image, scale)
        return drawing

    def _begin(self, image: Image.Image, scale: float) -> None:
        self.image, self.scale = image, scale
        self._height = image.height
        self._draw = ImageDraw.Draw(image)

    def pixel(self, x: float, z: float) -> tuple[int, int]:
        return round(x * self.scale), self._height - round(z * self.scale)

    def _box(self, x: float, z: float, width: float, height: float) -> tuple[int, int, int, int]:
        """Left, top, right and bottom pixel, inclusive; at least one pixel."""
        scale, bottom = self.scale, self._height - 1
        left, low = round(x * scale), round(z * scale)
        right, high = round((x + width) * scale) - 1, round((z + height) * scale) - 1
        return left, bottom - max(low, high), max(left, right), bottom - low

    def rect(self, x: float, z: float, width: float, height: float, colour: tuple[int, ...]) -> None:
        """Fills a rectangle whose lower left corner is (x, z)."""
        self._draw.rectangle(self._box(x, z, width, height), colour)

    def ellipse(self, x: float, z: float, width: float, height: float, colour: tuple[int, ...]) -> None:
        """Fills the ellipse inside the rectangle whose lower left corner is (x, z)."""
        self._draw.ellipse(self._box(x, z, width, height), colour)

    def polygon(self, points: Sequence[tuple[float, float]], colour: tuple[int, ...]) -> None:
        self._draw.polygon([self.pixel(*point) for point in points], colour)

    def line(self, points: Sequence[tuple[float, float]], width: float, colour: tuple[int, ...]) -> None:
        pixels = max(1, round(width * self.scale))
        self._draw.line([self.pixel(*point) for point in points], colour, pixels, joint="curve")

    def text(self, x: float, z: float, height: float, words: str, colour: tuple[int, ...], width: float) -> None:
        """Writes words centred on (x, z), letters `height` high, smaller if they would be wider than `width`."""
        font = _font(round(height * self.scale * 1.35))
        length = font.getlength(words) / self.scale
        if length > width:
            font = _font(max(4, round(height * self.scale * 1.35 * width / length)))
        self._draw.text(self.pixel(x, z), words, colour, font, anchor="mm")

    def paste(self, image: Image.Image, x: float, z: float) -> tuple[int, int]:
        """Puts an RGBA image with its lower left corner at (x, z); returns its upper left pixel."""
        left, bottom = self.pixel(x, z)
        corner = (left, bottom - image.height)
        self.image.paste(image, corner, image)
        return corner


@functools.lru_cache(maxsize=64)
def _font(size: int):
    return ImageFont.load_default(size)


def cloudy(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise, float32 `[height, width]`, about -1 to 1, with `cells` (down, across) bumps."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells[0] + 1, cells[1] + 1)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def surface(
    kind: str, colour: Colour, size: tuple[int, int], rng: np.random.Generator, weathering: float = 0.06
) -> Image.Image:
    """A piece of wall, roof or pavement.

    Args:
        kind: a key of `PATTERNS`.
        colour: colour of the material.
        size: (width, height) in texture pixels.
        rng: where the piece is cut from and how it has weathered.
        weathering: how uneven the large-scale tone is.

    Returns:
        RGBA, opaque.
    """
    width, height = size
    tile = pattern(kind)
    tile = np.roll(tile, rng.integers(0, tile.shape[1]), axis=1)
    relief = np.tile(tile, (-(-height // tile.shape[0]), -(-width // tile.shape[1])))[:height, :width]
    cells = (max(2, height // 90), max(2, width // 60))
    relief = relief * (128 + 128 * weathering * cloudy(rng, height, width, cells))
    tone = Image.fromarray(np.clip(relief, 0, 255).astype(np.uint8))
    bands = [tone.point([min(255, value * channel // 128) for value in range(256)]) for channel in colour]
    return Image.merge("RGBA", [*bands, Image.new("L", size, 255)])


@functools.cache
def pattern(kind: str) -> np.ndarray:
    """The repeating relief of a material as a factor on its colour: float32 `[height, width]`, about 1."""
    rng = np.random.default_rng([len(kind), *kind.encode()])
    relief = PATTERNS[kind](rng).astype(np.float32)
    return relief * (1 + 0.02 * rng.standard_normal(relief.shape, np.float32))


def _courses(rng, rows: int, columns: int, height: int, width: int, joint: float, spread: float) -> np.ndarray:
    """Blocks in courses, every other one moved by half a block, with joints one pixel wide."""
    blocks = 1 + spread * rng.uniform(-1, 1, (rows, columns))
    relief = np.repeat(np.repeat(blocks, height, axis=0), width, axis=1)
    relief[::height] *= joint
    relief[:, ::width] *= joint
    for row in range(1, rows, 2):
        band = slice(row * height, (row + 1) * height)
        relief[band] = np.roll(relief[band], width // 2, axis=1)
    return relief


def _tiles(rng) -> np.ndarray:
    """Roof tiles: each course is lit at its lower edge and dark under the one above."""
    relief = _courses(rng, 36, 32, 7, 8, 0.93, 0.1)
    return relief * np.tile(np.linspace(0.82, 1.08, 7), 36)[:, None]


def _boards(rng) -> np.ndarray:
    relief = np.repeat(1 + 0.05 * rng.uniform(-1, 1, (36, 1)), 7, axis=0) * np.ones((1, 256))
    relief[::7] *= 0.8
    return relief


def _cobbles(rng) -> np.ndarray:
    return _courses(rng, 32, 32, 8, 8, 0.78, 0.12)


PATTERNS = {
    "brick": lambda rng: _courses(rng, 42, 18, 6, 14, 1.16, 0.12),
    "plaster": lambda rng: 1 + 0.03 * cloudy(rng, 256, 256, (30, 30)),
    "stone": lambda rng: _courses(rng, 16, 8, 16, 34, 0.84, 0.06),
    "panel": lambda rng: _courses(rng, 2, 4, 99, 64, 0.8, 0.02),
    "boards": _boards,
    "tiles": _tiles,
    "slate": lambda rng: _courses(rng, 32, 22, 8, 12, 0.86, 0.1),
    "metal": lambda rng: np.tile(np.where(np.arange(256) % 16 == 0, 0.8, 1.0), (256, 1)),
    "asphalt": lambda rng: 1 + 0.05 * rng.standard_normal((256, 256)),
    "slabs": lambda rng: _courses(rng, 16, 16, 16, 16, 0.85, 0.05),
    "cobbles": _cobbles,
}
