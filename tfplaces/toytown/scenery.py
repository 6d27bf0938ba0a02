"""What is there for good besides the houses: the ground, trees, lamps, towers."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageFilter

from tfplaces.toytown.camera import Camera, Light, Picture
from tfplaces.toytown.drawing import Colour, Drawing, mix, shade, surface
from tfplaces.toytown.town import Street, Thing

HALF_STREET = 34.0  # metres of ground drawn to either side of a place's middle
KERB, PARKING, FAR_KERB, STREET_END = -3.2, -5.4, -11.6, -18.0  # y of the lines on the ground
GROUND_SCALE = 16


@functools.lru_cache(maxsize=16)
def ground(street: Street) -> tuple[Picture, ...]:
    """The pavements and the road of a street."""
    rng = np.random.default_rng(street.seed)
    length = 2 * HALF_STREET

    def strip(kind: str, colour: Colour, near: float, far: float) -> Image.Image:
        return surface(kind, colour, (round(length * GROUND_SCALE), round((far - near) * GROUND_SCALE)), rng, 0.1)

    def lay(image: Image.Image, near: float, far: float) -> Picture:
        return Picture(image, (-HALF_STREET, far, 0), (length, 0, 0), (0, near - far, 0))

    road_colour = (104, 104, 108) if street.road == "asphalt" else (128, 122, 116)
    road = strip(street.road, road_colour, FAR_KERB, KERB)
    marks = Drawing.on(road, GROUND_SCALE)
    if street.road == "asphalt":
        for x in np.arange(0, length, 5.0):
            marks.rect(x, PARKING - FAR_KERB - 2.9, 2.2, 0.14, (220, 218, 208))
        for x in np.arange(0, length, 5.5):
            marks.rect(x, PARKING - FAR_KERB, 0.1, KERB - PARKING, (196, 194, 188))
    for near in (0.0, KERB - FAR_KERB - 0.25):
        marks.rect(0, near, length, 0.25, shade(road_colour, 0.75))
    far_pavement = strip(street.pavement, street.pavement_colour, KERB, 0)
    near_pavement = strip(street.pavement, street.pavement_colour, STREET_END, FAR_KERB)
    for pavement, at in ((far_pavement, 0.0), (near_pavement, FAR_KERB - STREET_END - 0.22)):
        Drawing.on(pavement, GROUND_SCALE).rect(0, at, length, 0.22, shade(street.pavement_colour, 1.15))
    foot = Drawing.on(far_pavement, GROUND_SCALE)
    for step in range(5):  # the foot of the walls is dark
        foot.rect(0, -KERB - 0.08 * (step + 1), length, 0.08, shade(street.pavement_colour, 0.7 + 0.06 * step))
    return (
        lay(near_pavement, STREET_END, FAR_KERB),
        lay(road, FAR_KERB, KERB),
        lay(far_pavement, KERB, 0),
    )


def _haze(colour: Colour, share: float) -> Colour:
    """A colour as seen through distant air."""
    return mix(colour, (176, 192, 210), share)


@functools.lru_cache(maxsize=16)
def skyline(seed: int) -> Picture:
    """Hazy roofs of the streets behind."""
    rng = np.random.default_rng([seed, 1])
    drawing = Drawing(120, 16, 8)
    for depth in (0.75, 0.55):
        x = 0.0
        while x < 120:
            width, height = rng.uniform(4, 9), rng.uniform(6, 10) + (3 if depth > 0.6 else 0)
            red, green, blue = rng.integers(120, 220, 3).tolist()
            wall = _haze((red, green, blue), depth)
            roof = _haze(((168, 84, 62), (90, 96, 108), (130, 84, 66))[rng.integers(3)], depth)
            drawing.rect(x, 0, width, height, wall)
            drawing.polygon([(x - 0.3, height), (x + width + 0.3, height), (x + width / 2, height + 3)], roof)
            for row in range(3):
                for column in np.arange(0.8, width - 0.9, 1.6):
                    drawing.rect(x + column, height - 2.2 - 2.4 * row, 0.7, 1.1, shade(wall, 0.75))
            x += width
    return Picture(drawing.image, (-60, 45, 16), (120, 0, 0), (0, 0, -16))


def stand(thing: Thing, camera: Camera) -> Picture:
    """A thing where it stands."""
    return billboard(_picture(thing.kind, thing.height, thing.seed), thing.x, thing.y, camera)


@functools.lru_cache(maxsize=64)
def _picture(kind: str, height: float, seed: int) -> Drawing:
    """A tree, tower or piece of street furniture seen from the front, RGBA."""
    return PICTURES[kind](height, np.random.default_rng(seed))


def billboard(drawing: Drawing, x: float, y: float, camera: Camera, lights: tuple[Light, ...] = ()) -> Picture:
    """A picture that stands at (x, y) and faces the camera."""
    away = np.array([x - camera.x, y - camera.y])
    right = np.array([away[1], -away[0]]) / np.hypot(*away)
    width, height = (side / drawing.scale for side in drawing.image.size)
    left = np.array([x, y]) - right * width / 2
    edge = (right[0] * width, right[1] * width, 0)
    return Picture(drawing.image, (left[0], left[1], height), edge, (0, 0, -height), lights)


@functools.lru_cache(maxsize=1)
def _shadow() -> Image.Image:
    blob = Drawing(1, 1)
    blob.ellipse(0.16, 0.16, 0.68, 0.68, (16, 16, 26, 170))
    return blob.image.filter(ImageFilter.GaussianBlur(4))


def contact_shadow(x: float, y: float, width: float, depth: float) -> Picture:
    """The dark spot under what stands at (x, y)."""
    return Picture(_shadow(), (x - width / 2, y + depth / 2, 0.01), (width, 0, 0), (0, -depth, 0))


# --- Trees ------------------------------------------------------------------------------------------------------------


# Layers from back to front: tone, shift (in radii) right and up, size, and how many leaves a clump has there.
FOLIAGE = ((0.6, 0.1, -0.15, 0.95, 1), (0.72, 0.1, -0.1, 1.1, 5), (0.95, 0, 0, 0.95, 6), (1.18, -0.2, 0.2, 0.7, 4))


def _foliage(drawing: Drawing, rng: np.random.Generator, clumps: np.ndarray, colour: Colour) -> None:
    """Leaves in clumps `[n, 3]` (x, z, radius): dark below and to the right, light above and to the left."""
    for tone, right, up, size, leaves in FOLIAGE:
        count = len(clumps) * leaves
        x, z, radius = np.repeat(clumps, leaves, axis=0).T
        turn, away = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, 0.8, count) * size * (leaves > 1)
        leaf = radius * size * (1.0 if leaves == 1 else 0.34)
        left = x + radius * (right + away * np.cos(turn)) - leaf
        low = z + radius * (up + away * np.sin(turn)) - leaf
        tones = tone * rng.uniform(0.92, 1.08, count)
        for u, v, wide, bright in np.stack([left, low, 2 * leaf, tones], 1).tolist():
            drawing.ellipse(u, v, wide, wide, shade(colour, bright))


def _round_tree(colour: Colour):
    def draw(height: float, rng: np.random.Generator) -> Drawing:
        width = height * 0.66
        drawing = Drawing(width, height, 24)
        middle, crown, bark = width / 2, height * 0.45, (88, 68, 54)
        drawing.line([(middle, 0), (middle, height * 0.7)], 0.26, bark)
        for side in (-1, 1):
            drawing.line([(middle, crown * 0.75), (middle + side * width * 0.28, height * 0.65)], 0.12, bark)
        turn, away = rng.uniform(0, 2 * np.pi, 18), np.sqrt(rng.uniform(0, 1, 18))
        x = middle + np.cos(turn) * away * width * 0.35
        z = height * 0.69 + np.sin(turn) * away * height * 0.21
        _foliage(drawing, rng, np.stack([x, z, rng.uniform(0.42, 0.66, 18)], 1), colour)
        return drawing

    return draw


def _poplar(height: float, rng: np.random.Generator) -> Drawing:
    height *= 1.3
    drawing = Drawing(height * 0.27, height, 24)
    middle = height * 0.135
    drawing.rect(middle - 0.11, 0, 0.22, height * 0.3, (92, 72, 56))
    z = np.linspace(height * 0.16, height * 0.95, 22)
    spread = np.sin((z / height - 0.08) / 0.92 * np.pi) ** 0.7 * height * 0.075
    x = middle + rng.uniform(-0.4, 0.4, 22) * spread
    _foliage(drawing, rng, np.stack([x, z, 0.12 + spread * 0.85], 1), (92, 124, 64))
    return drawing


def _conifer(height: float, rng: np.random.Generator) -> Drawing:
    drawing = Drawing(height * 0.46, height, 24)
    middle = height * 0.23
    drawing.rect(middle - 0.12, 0, 0.24, height * 0.2, (84, 62, 48))
    for tier in range(7):
        low, top = height * (0.12 + 0.115 * tier), height * (0.4 + 0.1 * tier)
        half = height * 0.21 * (1 - tier / 8.5)
        green = shade((56, 98, 72), rng.uniform(0.85, 0.95) + 0.06 * tier)
        fringe = [(middle + half * u, low + (0.12 if n % 2 else 0)) for n, u in enumerate(np.linspace(-1, 1, 11))]
        drawing.polygon([*fringe, (middle, top)], green)
        drawing.polygon([*fringe[:5], (middle, top)], shade(green, 1.2))
    return drawing


# --- Towers -----------------------------------------------------------------------------------------------------------


def _tower_shaft(drawing: Drawing, middle: float, width: float, height: float, wall: Colour, rng) -> None:
    size = (round(width * drawing.scale), round(height * drawing.scale))
    drawing.paste(surface("stone", wall, size, rng, 0.1), middle - width / 2, 0)
    drawing.rect(middle + width * 0.2, 0, width * 0.3, height, (*shade(wall, 0.8), 255))
    for z in np.arange(height - 4.5, 4, -6):
        drawing.rect(middle - 0.5, z, 1.0, 2.6, (62, 60, 70))
        drawing.ellipse(middle - 0.5, z + 2.1, 1.0, 1.0, (62, 60, 70))
    for z in (height - 0.4, height - 6.2):
        drawing.rect(middle - width / 2 - 0.3, z, width + 0.6, 0.5, shade(wall, 1.15))


def _clock(drawing: Drawing, x: float, z: float) -> None:
    drawing.ellipse(x - 1.15, z - 1.15, 2.3, 2.3, (60, 56, 60))
    drawing.ellipse(x - 1.0, z - 1.0, 2.0, 2.0, (244, 236, 214))
    drawing.line([(x, z), (x, z + 0.75)], 0.14, (40, 36, 40))
    drawing.line([(x, z), (x + 0.5, z - 0.2)], 0.14, (40, 36, 40))


def _tower(roof_kind: str):
    def draw(height: float, rng: np.random.Generator) -> Drawing:
        width = 5.6
        drawing = Drawing(9, height, 12)
        middle = 4.5
        wall = _haze(((206, 190, 160), (170, 96, 78), (224, 214, 196), (186, 170, 160))[rng.integers(4)], 0.18)
        roof = _haze(((90, 100, 116), (104, 158, 140), (164, 80, 60))[rng.integers(3)], 0.15)
        body = height * (0.6 if roof_kind == "spire" else 0.74)
        _tower_shaft(drawing, middle, width, body, wall, rng)
        _clock(drawing, middle, body - 7.6)
        if roof_kind == "spire":
            half, top = width / 2 + 0.3, (middle, height - 1.4)
            drawing.polygon([(middle - half, body), (middle + half, body), top], roof)
            drawing.polygon([(middle + 0.4, body), (middle + half, body), top], shade(roof, 0.8))
        elif roof_kind == "dome":
            drawing.ellipse(middle - width / 2, body - width / 2, width, width, roof)
            drawing.ellipse(middle - width / 2 + 0.6, body + 0.2, width * 0.35, width * 0.36, shade(roof, 1.2))
            drawing.rect(middle - 0.7, body + width / 2 - 0.2, 1.4, 1.8, wall)
            drawing.ellipse(middle - 0.8, body + width / 2 + 1.0, 1.6, 1.6, roof)
        else:
            for x in np.arange(middle - width / 2 - 0.3, middle + width / 2, 1.24):
                drawing.rect(x, body, 0.75, 1.0, wall)
            drawing.polygon([(middle - 2, body + 0.3), (middle + 2, body + 0.3), (middle, body + 4.5)], roof)
        drawing.rect(middle - 0.07, height - 2.4, 0.16, 2.4, (210, 176, 90))
        drawing.rect(middle - 0.5, height - 1.1, 1.0, 0.16, (210, 176, 90))
        return drawing

    return draw


# --- Street furniture -------------------------------------------------------------------------------------------------


def _bench(height: float, rng: np.random.Generator) -> Drawing:
    drawing = Drawing(1.7, 0.9)
    for x in (0.15, 1.45):
        drawing.rect(x, 0, 0.08, 0.9, (50, 50, 54))
    for z in (0.42, 0.6, 0.76):
        drawing.rect(0, z, 1.7, 0.1, shade((156, 106, 66), rng.uniform(0.9, 1.1)))
    return drawing


def _planter(height: float, rng: np.random.Generator) -> Drawing:
    drawing = Drawing(1.3, 1.3)
    pot = ((148, 92, 66), (130, 130, 130), (70, 92, 84))[rng.integers(3)]
    drawing.polygon([(0.1, 0), (1.2, 0), (1.3, 0.55), (0, 0.55)], pot)
    clumps = np.array([(x, 0.68 + rng.uniform(0, 0.2), 0.2) for x in np.linspace(0.2, 1.1, 8)])
    _foliage(drawing, rng, clumps, (90, 132, 70))
    flower = ((226, 70, 80), (250, 210, 80), (240, 240, 236), (200, 110, 190))[rng.integers(4)]
    for x in np.linspace(0.15, 1.1, 9):
        drawing.ellipse(x, 0.7 + rng.uniform(0, 0.35), 0.12, 0.12, flower)
    return drawing


def _postbox(height: float, rng: np.random.Generator) -> Drawing:
    drawing = Drawing(0.56, 1.5)
    colour = ((196, 44, 44), (236, 190, 50), (40, 76, 140))[rng.integers(3)]
    drawing.rect(0, 0, 0.56, 0.12, (40, 40, 40))
    drawing.rect(0.04, 0.1, 0.48, 1.2, colour)
    drawing.rect(0.36, 0.1, 0.16, 1.2, shade(colour, 0.75))
    drawing.ellipse(0.0, 1.1, 0.56, 0.38, shade(colour, 1.1))
    drawing.rect(0.12, 1.05, 0.32, 0.07, (30, 26, 28))
    return drawing


def _board(height: float, rng: np.random.Generator) -> Drawing:
    drawing = Drawing(0.8, 1.15)
    drawing.rect(0, 0, 0.8, 1.15, (122, 84, 56))
    drawing.rect(0.07, 0.15, 0.66, 0.93, (44, 50, 48))
    for z in np.arange(0.3, 1.0, 0.17):
        drawing.rect(0.15, z, rng.uniform(0.25, 0.5), 0.06, (226, 226, 210))
    return drawing


def _bin(height: float, rng: np.random.Generator) -> Drawing:
    drawing = Drawing(0.5, 0.95)
    colour = ((60, 84, 70), (74, 78, 84), (52, 54, 60))[rng.integers(3)]
    drawing.polygon([(0.06, 0), (0.44, 0), (0.5, 0.8), (0, 0.8)], colour)
    drawing.rect(0, 0.78, 0.5, 0.14, shade(colour, 1.3))
    return drawing


PICTURES = {
    "round": _round_tree((98, 136, 70)),
    "autumn": _round_tree((206, 138, 58)),
    "blossom": _round_tree((232, 176, 188)),
    "poplar": _poplar,
    "conifer": _conifer,
    "church": _tower("spire"),
    "tower": _tower("battlements"),
    "dome": _tower("dome"),
    "bench": _bench,
    "planter": _planter,
    "postbox": _postbox,
    "board": _board,
    "bin": _bin,
}


# --- Lamps ------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def _lamp_picture(kind: str, height: float, colour: Colour) -> tuple[Drawing, Light]:
    drawing, lit = Drawing(1.4, height), Drawing(1.4, height)
    iron = (52, 58, 58)
    drawing.rect(0.65, 0, 0.1, height - 0.6, iron)
    drawing.rect(0.59, 0, 0.22, 0.8, iron)
    drawing.rect(0.61, height * 0.5, 0.18, 0.08, shade(iron, 1.4))
    for target, glass in ((drawing, (226, 226, 214)), (lit, mix(colour, (255, 255, 255), 0.4))):
        if kind == "lantern":
            top = height - 0.1
            target.polygon([(0.58, top - 0.62), (0.82, top - 0.62), (0.92, top - 0.12), (0.48, top - 0.12)], glass)
        elif kind == "globe":
            for x in (0.12, 0.86):
                target.ellipse(x, height - 0.6, 0.42, 0.42, glass)
        else:
            target.rect(0.05, height - 0.26, 0.5, 0.12, glass)
    if kind == "lantern":
        drawing.polygon([(0.44, height - 0.22), (0.96, height - 0.22), (0.7, height)], iron)
    elif kind == "globe":
        drawing.rect(0.2, height - 0.72, 1.0, 0.07, iron)
    else:
        drawing.rect(0.02, height - 0.16, 0.72, 0.1, iron)
        drawing.rect(0.65, height - 0.6, 0.1, 0.5, iron)
    return drawing, Light((0, 0), lit.image)


def lamp(thing: Thing, street: Street, camera: Camera) -> Picture:
    """A street lamp; its only light is the lantern."""
    drawing, light = _lamp_picture(street.lamp_kind, thing.height, street.lamp_colour)
    return billboard(drawing, thing.x, thing.y, camera, (light,))
