"""One picture: where the camera stands, what comes along, and how it is painted and lit."""

from __future__ import annotations

import math
import zlib

import numpy as np
from PIL import Image

from tfplaces.toytown import difficulty, scenery, traffic, weather
from tfplaces.toytown.camera import Camera, Light, Painter, Shape
from tfplaces.toytown.houses import build
from tfplaces.toytown.town import VIEW, House, Place, plan_place, stream

HEIGHT, WIDTH = 180, 240  # pixels
SUPERSAMPLED = 270, 360  # pixels; what is painted, before it is averaged
BACKDROP = ("church", "tower", "dome")
BAY = 5.5  # metres a parked car takes
LAMPS_ON = 0.5  # brightness of the weather's lights from which the street lamps burn


def render(seed: int, split: str, place: int, condition: str, number: int) -> np.ndarray:
    """Draws a view of a place.

    Args:
        seed, split, place: which place of which town.
        condition: a key of `weather.WEATHERS`.
        number: which view under that condition, from 0; `day` views 0 to 3 look in different directions.

    Returns:
        RGB, uint8 `[HEIGHT, WIDTH, 3]`; the same for the same arguments.
    """
    rng = stream(seed, split, VIEW, place, zlib.crc32(condition.encode()), number)
    plan = plan_place(seed, split, place)
    camera = _viewpoint(rng, condition, number)
    painter = _paint(plan, camera, condition, rng)
    return _light(plan, painter, condition, rng)


def _viewpoint(rng: np.random.Generator, condition: str, number: int) -> Camera:
    limit = difficulty.HEADING_RANGE
    if condition == "day":
        heading = limit * ((2 * (number % 4) + rng.uniform(0.1, 1.9)) / 4 - 1)
    else:
        heading = limit * rng.uniform(-1, 1)
    y = -rng.uniform(13.0, 16.0)
    # Standing further left when looking to the right keeps the place in the picture.
    x = 0.85 * y * math.tan(math.radians(heading)) + difficulty.POSITION_JITTER * rng.uniform(-1, 1)
    pitch, roll, field = rng.uniform(9.5, 13), rng.uniform(-1.2, 1.2), rng.uniform(72, 79)
    return Camera(x, y, rng.uniform(1.5, 1.8), heading, pitch, roll, field)


def _paint(plan: Place, camera: Camera, condition: str, rng: np.random.Generator) -> Painter:
    """The scene in flat daylight before the sky of the condition."""
    height, width = SUPERSAMPLED
    sky = weather.sky(condition, rng, width, height, camera.horizon(width, height))
    brightness = weather.WEATHERS[condition].lit
    painter = Painter(camera, sky, brightness > 0)

    painter.paint([scenery.skyline(plan.street.seed)])
    backdrop = [thing for thing in plan.things if thing.kind in BACKDROP]
    painter.paint([*(scenery.stand(thing, camera) for thing in backdrop), *scenery.ground(plan.street)])

    def lit(light: Light) -> bool:
        return rng.random() < (difficulty.LIT_SHOPS if light.shop else difficulty.LIT_WINDOWS)

    for x, house in sorted(plan.houses, key=lambda at: -abs(at[0] + at[1].width / 2 - camera.x)):
        if _in_view(painter, x, house):
            painter.paint(build(house), x, lit if brightness else None)
    painter.paint(_street_life(plan, camera, condition, rng), lit=(lambda _: True) if brightness > LAMPS_ON else None)
    return painter


def _in_view(painter: Painter, x: float, house: House) -> bool:
    """Whether anything of a house may be seen: looks at a box of 2 metres around its front."""
    low, high, top = x - 2, x + house.width + 2, house.eaves + 8
    return painter.sees(np.array([(low, 0, top), (high, 0, top), (high, 0, 0), (low, 0, 0)]))


def _street_life(plan: Place, camera: Camera, condition: str, rng: np.random.Generator) -> list[Shape]:
    """What stands and moves between the houses and the camera, back to front."""
    parked, people = difficulty.PARKED_QUERY, difficulty.PEOPLE_QUERY
    if condition == "day":
        parked, people = difficulty.PARKED_DAY, difficulty.PEOPLE_DAY
    groups: list[tuple[float, list[Shape]]] = []
    for thing in plan.things:
        if thing.kind == "lamp":
            groups.append((thing.y, [scenery.lamp(thing, plan.street, camera)]))
        elif thing.kind not in BACKDROP:
            shadow = scenery.contact_shadow(thing.x, thing.y, 0.5 * thing.height, 1.2)
            groups.append((thing.y, [shadow, scenery.stand(thing, camera)]))
    offset = rng.uniform(0, BAY)
    for bay in np.arange(-22, 22, BAY):
        if rng.random() < parked:
            x, y = bay + offset + rng.uniform(-0.3, 0.3), scenery.PARKING + 1.1
            groups.append((y, traffic.car(rng, x, y)))
    for _ in range(rng.poisson(people)):
        y = -rng.uniform(0.8, 2.8) if rng.random() < 0.75 else rng.uniform(camera.y + 4.5, scenery.PARKING)
        x = rng.uniform(-11, 11)
        umbrella = condition == "rain" and rng.random() < 0.6
        groups.append((y, traffic.person(rng, x, y, camera, umbrella)))
    return [shape for _, shapes in sorted(groups, key=lambda group: -group[0]) for shape in shapes]


def _light(plan: Place, painter: Painter, condition: str, rng: np.random.Generator) -> np.ndarray:
    """Turns the painted scene into a photograph under a condition."""
    conditions = weather.WEATHERS[condition]
    camera = painter.camera
    pixels = np.asarray(_averaged(painter.canvas.convert("RGB")), np.float32)
    things = np.asarray(_averaged(painter.canvas.getchannel("A")), np.float32) / 255
    glow = None if painter.glow is None else np.asarray(_averaged(painter.glow), np.float32) / 255
    seen = weather.trace(camera, WIDTH, HEIGHT)
    lamps = [(thing.x, thing.y, thing.height) for thing in plan.things if thing.kind == "lamp"]
    pixels = weather.illuminate(pixels, things, glow, seen, condition, lamps, plan.street.lamp_colour, rng)
    if conditions.wet:
        pixels = weather.wet_ground(pixels, seen, camera, conditions.wet, rng)
    if condition == "rain":
        pixels = weather.rain(pixels, rng)
    return weather.develop(pixels, condition, rng)


def _averaged(image: Image.Image) -> Image.Image:
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
