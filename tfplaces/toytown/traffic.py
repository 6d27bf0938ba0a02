"""The cars and people of the moment: distractors, different in each picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tfplaces.toytown.camera import Camera, Picture, Polygon, Shape
from tfplaces.toytown.drawing import SCALE, Colour, Drawing, shade
from tfplaces.toytown.scenery import billboard, contact_shadow

PAINTS = (
    *((188, 40, 40), (40, 70, 130), (236, 234, 228), (60, 64, 70), (160, 166, 172), (60, 110, 90)),
    *((222, 178, 60), (116, 150, 176), (140, 60, 60), (30, 32, 36), (206, 120, 60), (200, 196, 180)),
)
# Length, height, and the outlines of the body (from the front bumper over the roof) and of the windows; front left.
# fmt: off
BODIES = {
    "saloon": (
        4.4, 1.42,
        [(0.05, 0.3), (0.0, 0.62), (0.12, 0.78), (1.15, 0.92), (1.75, 1.4), (2.95, 1.42), (3.6, 0.98), (4.3, 0.92),
         (4.4, 0.6), (4.35, 0.3)],
        [[(1.3, 0.94), (1.8, 1.32), (2.3, 1.33), (2.3, 0.94)], [(2.4, 0.94), (2.4, 1.33), (2.9, 1.33), (3.42, 0.96)]],
    ),
    "hatchback": (
        3.8, 1.5,
        [(0.05, 0.3), (0.0, 0.65), (0.1, 0.82), (0.85, 0.98), (1.45, 1.48), (3.1, 1.5), (3.65, 1.0), (3.78, 0.7),
         (3.75, 0.3)],
        [[(1.0, 0.98), (1.5, 1.39), (2.1, 1.4), (2.1, 0.98)], [(2.2, 0.98), (2.2, 1.4), (3.0, 1.4), (3.4, 1.0)]],
    ),
    "van": (
        4.9, 2.15,
        [(0.05, 0.32), (0.0, 0.8), (0.15, 1.05), (0.75, 1.25), (1.25, 2.05), (1.5, 2.15), (4.8, 2.15), (4.88, 1.9),
         (4.88, 0.32)],
        [[(0.95, 1.28), (1.35, 1.95), (1.95, 1.95), (1.95, 1.28)]],
    ),
}
# fmt: on
SLICES = 9  # of which a car is stacked


def _car_side(body: str, paint: Colour) -> Drawing:
    """The side of a car, front to the left."""
    length, height, outline, windows = BODIES[body]
    side = Drawing(length, height + 0.05)
    side.polygon(outline, paint)
    side.polygon([(0.03, 0.3), (0.0, 0.5), (length, 0.5), (length - 0.05, 0.3)], shade(paint, 0.72))
    for window in windows:
        side.polygon(window, (60, 74, 90))
        side.line(window[:2], 0.05, (150, 170, 186))
    side.rect(0.1, 0.84, length - 0.2, 0.04, shade(paint, 1.25))
    side.rect(0.02, 0.6, 0.16, 0.16, (255, 244, 214))
    side.rect(length - 0.16, 0.62, 0.14, 0.2, (190, 34, 30))
    rings = ((0.4, shade(paint, 0.4)), (0.35, (28, 28, 30)), (0.2, (170, 172, 176)), (0.07, (90, 92, 96)))
    for x in (0.8, length - 0.85):
        for radius, colour in rings:
            side.ellipse(x - radius, 0.35 - radius, 2 * radius, 2 * radius, colour)
    return side


def car(rng: np.random.Generator, x: float, y: float) -> list[Shape]:
    """A car parked along the street with its middle at (x, y)."""
    body = ("saloon", "hatchback", "hatchback", "van")[rng.integers(4)]
    paint = shade(PAINTS[rng.integers(len(PAINTS))], rng.uniform(0.85, 1.1))
    side = _car_side(body, paint).image
    length, height, outline, _ = BODIES[body]
    facing_left = bool(rng.integers(2))
    left, near, far = x - length / 2, y - 0.85, y + 0.85

    def profile(points, depth: float) -> np.ndarray:
        """Points of the outline as a polygon in the world that faces the camera."""
        corners = [(left + (u if facing_left else length - u), depth, z) for u, z in points]
        return np.array(corners if facing_left else corners[::-1])

    # All but the near side is a stack of slices: body, windows and roof.
    belt = 0.5 * height + 0.2
    glass = [(u, min(z, height - 0.12)) for u, z in outline if z > 0.55 * height]
    glass = [(glass[0][0], belt), *glass, (glass[-1][0], belt)]
    roof = [(u, z) for u, z in outline if z > height - 0.14]
    roof += [(u, height - 0.16) for u, _ in reversed(roof)]
    shapes: list[Shape] = [contact_shadow(x, y, length * 1.5, 3.3)]
    for depth in np.linspace(far, near, SLICES)[:-1]:
        shapes.append(Polygon(profile(outline, depth), shade(paint, 0.8)))
        if body != "van":
            shapes.append(Polygon(profile(glass, depth), (52, 62, 76)))
        shapes.append(Polygon(profile(roof, depth), shade(paint, 1.08)))
    if not facing_left:
        side = side.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    tall = side.height / SCALE
    return [*shapes, Picture(side, (left, near, tall), (side.width / SCALE, 0, 0), (0, 0, -tall))]


SKINS = ((240, 204, 176), (214, 164, 126), (156, 106, 76), (104, 70, 52), (228, 184, 150))
HAIRS = ((44, 34, 30), (92, 62, 42), (170, 120, 64), (196, 190, 184), (226, 190, 120))


def person(rng: np.random.Generator, x: float, y: float, camera: Camera, umbrella: bool) -> list[Shape]:
    """Someone walking by."""
    drawing = Drawing(1.3, 2.15, 48)
    tall = rng.uniform(1.5, 1.85)
    coat = PAINTS[rng.integers(len(PAINTS))]
    trousers = ((44, 48, 66), (70, 62, 56), (36, 36, 40), (110, 104, 96))[rng.integers(4)]
    skin, hair = SKINS[rng.integers(len(SKINS))], HAIRS[rng.integers(len(HAIRS))]
    middle, hip, neck, stride = 0.65, tall * 0.48, tall * 0.84, rng.uniform(0.06, 0.26)
    drawing.line([(middle, hip), (middle - stride, 0.04)], 0.16, shade(trousers, 0.8))
    drawing.line([(middle, hip), (middle + stride, 0.04)], 0.16, trousers)
    for foot in (-stride, stride):
        drawing.rect(middle + foot - 0.1, 0, 0.24, 0.08, (34, 30, 30))
    drawing.line([(middle - 0.17, neck - 0.08), (middle - 0.24 - stride * 0.4, hip - 0.02)], 0.11, shade(coat, 0.75))
    hem = hip - rng.uniform(0, 0.3)
    for left, tone in ((-0.2, 1.0), (0.06, 0.85)):  # the coat, and its shaded side
        collar = [(middle + left, neck - 0.02), (middle + 0.2, neck - 0.02)]
        drawing.polygon([*collar, (middle + 0.24, hem), (middle + left * 1.2, hem)], shade(coat, tone))
    drawing.line([(middle + 0.18, neck - 0.08), (middle + 0.24 + stride * 0.4, hip)], 0.11, shade(coat, 0.8))
    drawing.ellipse(middle - 0.12, neck - 0.02, 0.24, tall - neck, skin)
    drawing.ellipse(middle - 0.14, tall - 0.16, 0.28, 0.17, hair)
    if rng.random() < 0.4:
        drawing.rect(middle + 0.2, hip - 0.3, 0.22, 0.28, PAINTS[rng.integers(len(PAINTS))])
    if umbrella:
        cloth = PAINTS[rng.integers(len(PAINTS))]
        drawing.rect(middle + 0.1, neck - 0.2, 0.04, 2.1 - neck, (60, 60, 60))
        arc = np.linspace(0, np.pi, 12)
        for half, tone in ((0.6, 1.0), (0.24, 1.15)):
            dome = [(middle - half * np.cos(t), 1.78 + 0.34 * np.sin(t)) for t in arc]
            drawing.polygon(dome, shade(cloth, tone))
    return [contact_shadow(x, y, 1.3, 0.7), billboard(drawing, x, y, camera)]
