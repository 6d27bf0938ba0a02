"""A pinhole camera, and a painter that puts flat pictures and polygons where it sees them.

World coordinates are metres: x along the facades, y away from the camera (the facades stand on y = 0, the street is
y < 0), z up. Image coordinates are pixels, x right and y down, (0, 0) the upper left corner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

NEAR = 0.5  # metres; what is closer to the camera plane is cut off
Vector = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Camera:
    """Where a picture is taken from.

    Attributes:
        x, y, z: position, metres.
        heading: degrees to the right of +y.
        pitch: degrees upwards.
        roll: degrees clockwise.
        field: horizontal field of view, degrees.
    """

    x: float
    y: float
    z: float
    heading: float
    pitch: float
    roll: float
    field: float

    @property
    def position(self) -> np.ndarray:
        return np.array([self.x, self.y, self.z])

    def matrix(self, width: int, height: int) -> np.ndarray:
        """The matrix `[3, 3]` from world directions to homogeneous pixels of a `width` x `height` image."""
        heading, pitch, roll = np.radians([self.heading, self.pitch, self.roll])
        forward = np.array([np.sin(heading) * np.cos(pitch), np.cos(heading) * np.cos(pitch), np.sin(pitch)])
        right = np.array([np.cos(heading), -np.sin(heading), 0.0])
        up = np.cross(right, forward)
        right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
        focal = width / 2 / np.tan(np.radians(self.field) / 2)
        return np.stack([focal * right + width / 2 * forward, -focal * up + height / 2 * forward, forward])

    def horizon(self, width: int, height: int) -> float:
        """The row at which the horizon crosses the middle of a `width` x `height` image."""
        heading = np.radians(self.heading)
        _, row, depth = self.matrix(width, height) @ [np.sin(heading), np.cos(heading), 0]
        return float(row / depth)


@dataclasses.dataclass(frozen=True)
class Light:
    """A part of a picture that can be switched on: a window, a sign, a lantern.

    Attributes:
        corner: its upper left pixel in the picture.
        image: RGBA as it looks when lit; brighter parts shine more.
        shop: whether it belongs to a shop, which is lit more often than a flat.
    """

    corner: tuple[int, int]
    image: Image.Image
    shop: bool = False


class Polygon:
    """A flat convex shape of one colour. It is seen only from the side from which its corners go clockwise."""

    def __init__(self, corners: Sequence[Vector] | np.ndarray, colour: Sequence[int]):
        self.corners = np.array(corners, float)
        self.colour = tuple(colour)


class Picture:
    """A flat picture in the world, a parallelogram. It is seen only from the side from which it is not mirrored.

    Args:
        image: RGBA.
        origin: world position of its upper left corner.
        right, down: world vectors along its upper and its left edge.
        lights: what can be lit in it.
    """

    def __init__(self, image: Image.Image, origin: Vector, right: Vector, down: Vector, lights: Sequence[Light] = ()):
        self.frame = np.array([right, down, origin], float).T
        self.corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]) @ self.frame.T
        self.lights = tuple(lights)
        # Premultiplied colours can be averaged and interpolated without taking in what is transparent.
        self._sizes = {(1, 1): image.convert("RGBa")}

    def image(self, shrink: tuple[int, int]) -> Image.Image:
        """The picture (RGBa) shrunk by whole factors, kept for the next time."""
        if shrink not in self._sizes:
            self._sizes[shrink] = self._sizes[1, 1].reduce(shrink)
        return self._sizes[shrink]

    def switched_on(self, lit: Callable[[Light], bool], shrink: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
        """The shrunk picture (RGBa) with lights on, and a mask (L) of where it shines."""
        image = self._sizes[1, 1].copy()
        shine = Image.new("L", image.size)
        for light in self.lights:
            if lit(light):
                image.paste(light.image.convert("RGBa"), light.corner, light.image)
                shine.paste(light.image.convert("L"), light.corner, light.image)
        return (image, shine) if shrink == (1, 1) else (image.reduce(shrink), shine.reduce(shrink))


Shape = Polygon | Picture


class Painter:
    """Paints shapes, back to front.

    Attributes:
        camera: from where.
        canvas: RGBA, painted over.
        glow: L, how much a pixel shines by itself; None if nothing does.
    """

    def __init__(self, camera: Camera, canvas: Image.Image, glow: bool):
        self.camera = camera
        self.canvas = canvas
        self.glow = Image.new("L", canvas.size) if glow else None
        self._matrix = camera.matrix(*canvas.size)
        self._pens: list[tuple[ImageDraw.ImageDraw, int | None]] = [(ImageDraw.Draw(canvas), None)]
        if self.glow is not None:
            self._pens.append((ImageDraw.Draw(self.glow), 0))

    def sees(self, corners: np.ndarray) -> bool:
        """Whether any of a convex polygon `[n, 3]` is in the picture."""
        return self._outline((corners - self.camera.position) @ self._matrix.T) is not None

    def paint(self, shapes: Sequence[Shape], x: float = 0.0, lit: Callable[[Light], bool] | None = None) -> None:
        """Paints shapes in the given order.

        Args:
            shapes: what to paint.
            x: metres by which all are moved to the right.
            lit: which lights are on; None for none.
        """
        if not shapes:
            return
        position = self.camera.position - (x, 0, 0)
        # All corners are projected and all shapes judged at once: there are many small ones.
        counts = np.array([len(shape.corners) for shape in shapes])
        ends = np.cumsum(counts)
        points = (np.concatenate([shape.corners for shape in shapes]) - position) @ self._matrix.T
        pixels = points[:, :2] / np.maximum(points[:, 2:], NEAR)
        for n in np.flatnonzero(self._visible(pixels, ends - counts, ends) | _cut(points, ends - counts)).tolist():
            shape, corners = shapes[n], slice(ends[n] - counts[n], ends[n])
            outline = pixels[corners] if points[corners, 2].min() >= NEAR else self._outline(points[corners])
            if outline is None:
                continue
            if isinstance(shape, Polygon):
                flat = outline.ravel().tolist()
                for pen, colour in self._pens:
                    pen.polygon(flat, shape.colour if colour is None else colour)
            else:
                self._put(shape, outline, position, lit)

    def _visible(self, pixels: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Which of the polygons `pixels[start:end]` are in the picture and face the camera, bool."""
        low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
        following = np.arange(1, len(pixels) + 1)
        following[ends - 1] = starts
        x, y = pixels.T
        area = np.add.reduceat(x * y[following] - y * x[following], starts)
        return (area > 0) & (high > 0).all(axis=1) & (low < self.canvas.size).all(axis=1)

    def _outline(self, points: np.ndarray) -> np.ndarray | None:
        """The pixels `[n, 2]` of a polygon of homogeneous pixels `[m, 3]`; None if out of sight or seen from behind."""
        points = _clip(points)
        if not len(points):
            return None
        pixels = points[:, :2] / points[:, 2:]
        return pixels if self._visible(pixels, np.array([0]), np.array([len(pixels)]))[0] else None

    def _put(self, picture: Picture, outline: np.ndarray, position: np.ndarray, lit) -> None:
        left, top = np.maximum(np.floor(outline.min(axis=0)), 0).astype(int).tolist()
        right, bottom = np.minimum(np.ceil(outline.max(axis=0)), self.canvas.size).astype(int).tolist()
        size = (right - left, bottom - top)
        frame = picture.frame.copy()
        frame[:, 2] -= position
        to_pixels = self._matrix @ frame  # from (share of the width, share of the height, 1)
        shrink = _shrinkage(to_pixels, picture.image((1, 1)).size)
        if picture.lights and lit:
            image, shine = picture.switched_on(lit, shrink)
        else:
            image, shine = picture.image(shrink), None
        to_texels = np.linalg.inv(to_pixels) * np.array([[image.width], [image.height], [1.0]])
        to_texels[:, 2] += to_texels[:, 0] * left + to_texels[:, 1] * top
        coefficients = (to_texels / to_texels[2, 2]).ravel()[:8].tolist()
        warp = (Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
        seen = image.transform(size, *warp).convert("RGBA")
        self.canvas.paste(seen, (left, top), seen)
        if self.glow is not None:
            self.glow.paste(shine.transform(size, *warp) if shine else 0, (left, top, right, bottom), seen)


def _cut(points: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Which of the polygons of homogeneous pixels reach across the near plane, bool."""
    depth = points[:, 2]
    return (np.minimum.reduceat(depth, starts) < NEAR) & (np.maximum.reduceat(depth, starts) > NEAR)


def _clip(points: np.ndarray) -> np.ndarray:
    """The part of a polygon of homogeneous pixels `[n, 3]` beyond the near plane."""
    kept = []
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if a[2] >= NEAR:
            kept.append(a)
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            kept.append(a + (NEAR - a[2]) / (b[2] - a[2]) * (b - a))
    return np.array(kept)


def _shrinkage(to_pixels: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """By how much to shrink a picture across and down so that bilinear sampling skips nothing: 1, 2, 4 or 8 each."""
    middle = to_pixels @ (0.5, 0.5, 1)
    if middle[2] < NEAR:
        return 1, 1
    edges = to_pixels[:2, :2] - np.outer(middle[:2] / middle[2], to_pixels[2, :2])
    pixels = np.hypot(*edges) / middle[2]  # length of the edges if all were as near as the middle
    across, down = (_power_of_two(0.75 * n / max(edge, 1e-6), n) for n, edge in zip(size, pixels, strict=True))
    return across, down


def _power_of_two(factor: float, limit: int) -> int:
    return max(p for p in (1, 2, 4, 8) if p == 1 or p <= min(factor, limit))
