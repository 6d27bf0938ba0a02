"""Builds a house: its front, roof, chimneys, balconies, awning and sign as shapes in the world."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tfplaces.toytown.camera import Light, Picture, Polygon, Shape, Vector
from tfplaces.toytown.drawing import SCALE, Colour, Drawing, mix, shade, surface
from tfplaces.toytown.facade import Facade, parapet_height
from tfplaces.toytown.town import House
from tfplaces.toytown.windows import WARM, columns, window_pane

DEPTH = 7.0  # metres from the front to the back wall
IRON = (44, 44, 50)


@functools.lru_cache(maxsize=64)
def build(house: House) -> tuple[Shape, ...]:
    """The shapes of a house whose left wall is at x = 0, in the order in which they are painted."""
    rng = np.random.default_rng(house.seed)
    facade = Facade(house, rng)
    shapes = [*_side_walls(house), *_roof(house, rng), _upright(facade.drawing.image, 0, 0, 0, facade.lights)]
    if house.roof not in ("gable", "stepped", "bell"):
        shapes += _cornice(house)
    for x, z, width in facade.balconies:
        shapes += _balcony(house, x, z, width)
    if house.ground == "shop":
        shapes += _shop_front(house, rng)
    return tuple(shapes)


def _upright(image: Image.Image, x: float, y: float, z: float, lights: Sequence[Light] = ()) -> Picture:
    """An image parallel to the front, its lower left corner at (x, y, z), at the scale of textures."""
    width, height = image.width / SCALE, image.height / SCALE
    return Picture(image, (x, y, z + height), (width, 0, 0), (0, 0, -height), lights)


def _panel(origin: Vector, right: Vector, down: Vector, colour: Colour) -> Polygon:
    """A parallelogram of one colour: its upper left corner and two edges."""
    o, r, d = np.array(origin), np.array(right), np.array(down)
    return Polygon(np.stack([o, o + r, o + r + d, o + d]), colour)


def _cheeks(x: float, y: float, z: float, width: float, height: float, depth: float, colour: Colour) -> list[Shape]:
    """The left and right sides of a box whose front has its lower left corner at (x, y, z)."""
    back, top = y + depth, z + height
    return [
        _panel((x, back, top), (0, -depth, 0), (0, 0, -height), colour),
        _panel((x + width, y, top), (0, depth, 0), (0, 0, -height), shade(colour, 0.88)),
    ]


def _side_walls(house: House) -> list[Shape]:
    """The party walls, seen above lower neighbours."""
    colour = shade(mix(house.wall, (150, 140, 130), 0.3), 0.8)
    return _cheeks(0, 0, 0, house.width, house.eaves + parapet_height(house), DEPTH, colour)


def _roof(house: House, rng: np.random.Generator) -> list[Shape]:
    kind = "slate" if house.roof_colour[0] < 130 else "tiles"
    width, eaves = house.width, house.eaves

    def slope(origin: Vector, right: Vector, down: Vector, tone: float = 1.0) -> Picture:
        size = (round(np.linalg.norm(right) * SCALE * 0.75), round(np.linalg.norm(down) * SCALE * 0.75))
        return Picture(surface(kind, shade(house.roof_colour, tone), size, rng, 0.12), origin, right, down)

    if house.roof in ("gable", "stepped", "bell"):
        rise, half = width * 0.55, width / 2
        left = slope((half, DEPTH, eaves + rise), (0, -DEPTH, 0), (-half, 0, -rise), 0.95)
        right = slope((half, 0, eaves + rise), (0, DEPTH, 0), (half, 0, -rise), 0.8)
        return [left, right, *_chimneys(house, 3.0, eaves + rise * 0.8)]
    if house.roof == "pitched":
        run, rise = DEPTH / 2, 4.0
        ridge = eaves + rise
        front = slope((0, run, ridge), (width, 0, 0), (0, -run, -rise))
        ends: list[Shape] = [
            Polygon([(x, y, eaves), (x, run, ridge), (x, DEPTH - y, eaves)], shade(house.wall, 0.75))
            for x, y in ((0, DEPTH), (width, 0))
        ]
        return [*_chimneys(house, run, ridge - 0.4), *ends, front, *_dormers(house, rng, 1.0, 1.0 * rise / run)]
    if house.roof == "mansard":
        run, rise = 1.1, 3.0
        front = slope((0, run, eaves + rise), (width, 0, 0), (0, -run, -rise))
        ends = _cheeks(0, run, eaves, width, rise, DEPTH - run, shade(house.roof_colour, 0.8))
        return [*_chimneys(house, 4.0, eaves + rise), *ends, front, *_dormers(house, rng, 0.15, 0.3)]
    return _chimneys(house, 3.0, eaves) if house.roof == "parapet" else []


def _dormers(house: House, rng: np.random.Generator, y: float, up: float) -> list[Shape]:
    """Upright windows in a roof, their faces `y` behind the front and `up` above the eaves."""
    count = int(rng.integers(0, 3)) if house.roof == "pitched" else len(columns(house))
    roof = shade(house.roof_colour, 0.8)
    shapes: list[Shape] = []
    for x in (np.arange(count) + 0.5) / max(count, 1) * house.width:
        face = Drawing(1.5, 2.1)
        face.rect(0.1, 0, 1.3, 1.6, house.wall if house.material == "timber" else shade(house.trim, 0.96))
        if house.seed % 2:
            face.polygon([(0, 1.55), (1.5, 1.55), (0.75, 2.1)], roof)
        else:
            face.ellipse(0.0, 1.2, 1.5, 0.8, roof)
            face.ellipse(0.12, 1.15, 1.26, 0.7, shade(house.trim, 0.9))
        corner = face.paste(window_pane(house, 0.9, 1.25, rng, None), 0.3, 0.2)
        lit = Light(corner, window_pane(house, 0.9, 1.25, rng, WARM[rng.integers(len(WARM))]))
        shapes += _cheeks(x - 0.65, y, house.eaves + up, 1.3, 1.6, 1.0, roof)
        shapes.append(_upright(face.image, x - 0.75, y, house.eaves + up, [lit]))
    return shapes


def _chimneys(house: House, y: float, z: float) -> list[Shape]:
    brick = mix(house.wall, (150, 84, 66), 0.6)
    shapes: list[Shape] = []
    for number in range(house.chimneys):
        x = (0.5, house.width - 1.3)[(number + house.seed) % 2]
        stack = Drawing(0.9, 2.4)
        stack.rect(0, 0, 0.9, 1.76, brick)
        for course in np.arange(0.1, 1.6, 0.2):
            stack.rect(0, course, 0.9, 0.03, shade(brick, 1.2))
        stack.rect(0, 1.6, 0.9, 0.16, shade(brick, 0.7))
        for pot in (0.08, 0.52):
            stack.rect(pot, 1.76, 0.28, 0.5, (176, 102, 74))
        shapes += [*_cheeks(x, y, z, 0.9, 1.8, 0.7, shade(brick, 0.7)), _upright(stack.image, x, y, z)]
    return shapes


def _slab(x: float, z: float, width: float, depth: float, height: float, colour: Colour) -> list[Shape]:
    """The underside, ends and front of a slab sticking out of the front."""
    return [
        _panel((x, -depth, z), (width, 0, 0), (0, depth, 0), shade(colour, 0.5)),
        *_cheeks(x, -depth, z, width, height, depth, shade(colour, 0.75)),
        _panel((x, -depth, z + height), (width, 0, 0), (0, 0, -height), colour),
    ]


def _cornice(house: House) -> list[Shape]:
    depth, height = (0.15, 0.15) if house.roof == "flat" else (0.4, 0.3)
    return _slab(0, house.eaves - height, house.width, depth, height, shade(house.trim, 0.95))


def _balcony(house: House, x: float, z: float, width: float) -> list[Shape]:
    glass = house.balcony == "glass"
    depth, height = (1.1, 1.0) if glass else (0.75, 0.95)

    def railing(length: float) -> Image.Image:
        drawing = Drawing(length, height)
        if glass:
            drawing.rect(0, 0, length, height - 0.08, (*mix(house.door, (190, 210, 216), 0.6), 200))
        else:
            drawing.rect(0, 0.05, length, 0.06, IRON)
            for bar in np.arange(0, length, 0.19):
                drawing.rect(bar, 0, 0.06, height, IRON)
        drawing.rect(0, height - 0.1, length, 0.1, IRON)
        return drawing.image

    stone = (150, 120, 90) if house.material == "timber" else shade(house.trim, 0.92)
    end, down = railing(depth), (0, 0, -height)
    return [
        *_slab(x, z - 0.16, width, depth, 0.16, stone),
        Picture(end, (x, 0, z + height), (0, -depth, 0), down),
        Picture(end, (x + width, -depth, z + height), (0, depth, 0), down),
        Picture(railing(width), (x, -depth, z + height), (width, 0, 0), down),
    ]


def _shop_front(house: House, rng: np.random.Generator) -> list[Shape]:
    """What sticks out of a shop: an awning, a sign on an arm."""
    shapes: list[Shape] = []
    if house.awning:
        top, drop, depth = house.ground_height - 0.85, 0.55, 1.25
        stripes = (house.door, (246, 240, 226)) if house.seed % 3 else (house.sign, shade(house.sign, 1.25))
        x, width = 0.3, house.width - 0.6
        cloth = Drawing(width, 1.4)
        for number, left in enumerate(np.arange(0, width, 0.42)):
            cloth.rect(left, 0, 0.42, 1.4, stripes[number % 2])
        valance = cloth.image.crop((0, 0, cloth.image.width, 9))
        shapes += [
            _panel((x, -depth, top - drop), (width, 0, 0), (0, depth, drop), (40, 36, 36)),
            Picture(cloth.image, (x, 0, top), (width, 0, 0), (0, -depth, -drop)),
            Picture(valance, (x, -depth, top - drop), (width, 0, 0), (0, 0, -0.28)),
        ]
    if rng.random() < 0.6:
        board = Drawing(0.9, 0.9)
        fill = board.ellipse if house.seed % 2 else board.rect
        fill(0, 0, 0.9, 0.9, shade(house.sign, 0.7))
        fill(0.07, 0.07, 0.76, 0.76, house.sign)
        board.text(0.45, 0.45, 0.6, house.word[0], house.lettering, 0.7)
        x, z = (0.25 if house.seed % 4 < 2 else house.width - 0.25), house.ground_height + 0.9
        for y, right in ((-0.1, (0, -0.9, 0)), (-1.0, (0, 0.9, 0))):  # a face to either side
            shapes.append(Picture(board.image, (x, y, z), right, (0, 0, -0.9)))
            shapes.append(_panel((x, y, z + 0.08), right, (0, 0, -0.08), IRON))
    return shapes
