"""Light and weather: the sky, what the lamps light, wet ground, rain, and the camera's noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tfplaces.toytown import difficulty
from tfplaces.toytown.camera import Camera
from tfplaces.toytown.drawing import Colour, cloudy


@dataclasses.dataclass(frozen=True)
class Weather:
    """A condition under which pictures are taken.

    Attributes:
        skies: (zenith, horizon, cloud) colours to choose from.
        light: the daylight that falls on things, a factor per channel.
        clouds: share of the sky that is covered.
        lit: how brightly lamps and windows shine, 0 to 1.
        haze: share of the horizon's colour that lies over everything.
        wet: how much the ground mirrors, 0 to 1.
    """

    skies: tuple[tuple, ...]
    light: tuple[float, float, float]
    clouds: float
    lit: float = 0.0
    haze: float = 0.0
    wet: float = 0.0


LAMP_POWER = 5.0
SUNNY = 0.5  # share of the day views with sunshine and shadows
NIGHT = difficulty.NIGHT_LIGHT
WEATHERS = {
    "day": Weather(
        (
            ((84, 146, 214), (196, 224, 242), (252, 252, 250)),
            ((104, 168, 222), (214, 232, 240), (250, 250, 246)),
            ((132, 168, 204), (222, 228, 228), (240, 240, 240)),
            ((72, 132, 206), (226, 226, 214), (255, 250, 240)),
        ),
        (1.0, 0.99, 0.96),
        0.45,
    ),
    "dusk": Weather(
        (
            ((72, 84, 148), (250, 176, 112), (232, 128, 116)),
            ((88, 78, 138), (252, 150, 118), (176, 96, 126)),
            ((58, 92, 146), (246, 204, 140), (250, 166, 122)),
        ),
        (0.8, 0.64, 0.62),
        0.5,
        lit=0.75,
        haze=0.06,
    ),
    "rain": Weather(
        (((136, 144, 154), (186, 192, 196), (112, 120, 132)), ((118, 128, 140), (170, 178, 186), (92, 100, 114))),
        (0.66, 0.7, 0.74),
        0.8,
        lit=0.35,
        haze=0.16,
        wet=0.75,
    ),
    "night": Weather(
        (((14, 22, 54), (52, 60, 104), (44, 52, 86)), ((18, 20, 44), (84, 66, 84), (60, 50, 72))),
        (NIGHT * 0.78, NIGHT * 0.88, NIGHT * 1.3),
        0.4,
        lit=1.0,
        wet=0.15,
    ),
}


def sky(condition: str, rng: np.random.Generator, width: int, height: int, horizon: float) -> Image.Image:
    """A sky with clouds.

    Args:
        condition: a key of `WEATHERS`.
        rng: random numbers for this view.
        width, height: size of the picture in pixels.
        horizon: the row at which the sky meets the earth.

    Returns:
        RGBA with alpha 0, so that what is painted over it can be told from it.
    """
    weather = WEATHERS[condition]
    zenith, low, cloud = (np.array(c, np.float32) for c in weather.skies[rng.integers(len(weather.skies))])
    rows, columns = height // 4, width // 4  # nothing in it is sharp
    climb = np.clip(1 - np.arange(rows, dtype=np.float32) / (horizon / 4), 0, 1)[:, None, None]
    air = low + (zenith - low) * climb**0.8
    air = np.broadcast_to(air, (rows, columns, 3))
    bumps = sum(cloudy(rng, rows, columns, (3 * 2**o, 3 * 2**o)) / 2**o for o in range(4))
    cover = weather.clouds * rng.uniform(0.5, 1.4)
    thickness = np.clip((bumps - 0.9 + 1.5 * cover) * 1.8, 0, 1)[..., None] * np.minimum(1, climb * 6)
    # Clouds are lit from above: shift the field down and compare.
    relief = np.clip(bumps - np.roll(bumps, -2, axis=0), -0.5, 0.5)[..., None]
    pixels = air + (cloud * (1 + 0.25 * relief) - air) * thickness * 0.85
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    if condition == "night" and cover < 0.4:
        draw = ImageDraw.Draw(picture)
        for x, y in rng.uniform(0, 1, (40, 2)) * (width, horizon * 0.8):
            draw.rectangle((x, y, x + 1, y + 1), (190, 196, 214))
    picture.putalpha(0)
    return picture


@dataclasses.dataclass(frozen=True)
class Ground:
    """What of facade plane and ground lies behind each pixel, `[height, width]` each.

    Attributes:
        x, y, z: world position, metres.
        is_ground: whether the ground (and not the facade plane) is seen.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    is_ground: np.ndarray


def trace(camera: Camera, width: int, height: int) -> Ground:
    """Follows the ray of each pixel to the facade plane or the ground."""
    columns, rows = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32)[:, None] + 0.5
    to_world = np.linalg.inv(camera.matrix(width, height)).astype(np.float32)
    dx, dy, dz = (row[0] * columns + row[1] * rows + row[2] for row in to_world)
    wall = -camera.y / np.maximum(dy, 1e-3)
    floor = -camera.z / np.minimum(dz, -1e-4)
    is_ground = (dz < 0) & (floor < wall)
    reach = np.where(is_ground, floor, wall)
    return Ground(
        camera.x + reach * dx, camera.y + reach * dy, np.where(is_ground, 0, camera.z + reach * dz), is_ground
    )


def illuminate(
    pixels: np.ndarray,
    things: np.ndarray,
    glow: np.ndarray | None,
    seen: Ground,
    condition: str,
    lamps: Sequence[tuple[float, float, float]],
    lamp_colour: Colour,
    rng: np.random.Generator,
) -> np.ndarray:
    """Lights a scene painted in flat daylight.

    Args:
        pixels: float32 `[height, width, 3]`, 0 to 255.
        things: float32 `[height, width]`, 1 where there is something to be lit, 0 where there is sky.
        glow: float32 `[height, width]`, 0 to 1: what shines by itself; None by day.
        seen: from `trace`.
        condition: a key of `WEATHERS`.
        lamps: (x, y, z) of the street lamps, metres.
        lamp_colour: colour of their light.
        rng: random numbers for this view.

    Returns:
        float32 `[height, width, 3]`, 0 to 255, not clipped.
    """
    weather = WEATHERS[condition]
    light: np.ndarray = np.array(weather.light, np.float32)
    if condition == "day" and rng.random() < SUNNY:
        light = light * _sun(seen, rng)[..., None]
    if glow is not None:
        tint = np.array(lamp_colour, np.float32) / 255
        light = light + (weather.lit**2 * LAMP_POWER) * _pools(seen, lamps)[..., None] * tint
    light = (light - 1) * things[..., None]
    light += 1
    light *= pixels
    if glow is None:
        return light
    share = (glow * weather.lit)[..., None]
    shining = pixels * share
    return light * (1 - share) + 1.05 * shining + _bloom(shining)


def _pools(seen: Ground, lamps: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """How much light of the lamps falls on each pixel; smooth, so every other pixel is enough."""
    x, y, z, is_ground = (field[::2, ::2] for field in (seen.x, seen.y, seen.z, seen.is_ground))
    light = np.zeros(x.shape, np.float32)
    for lamp_x, lamp_y, lamp_z in lamps:
        square = (x - lamp_x) ** 2 + (y - lamp_y) ** 2 + (z - lamp_z) ** 2 + 2.5
        facing = np.where(is_ground, lamp_z, 1.0 - lamp_y).astype(np.float32)
        light += facing / (square * np.sqrt(np.sqrt(square)))
    size = (seen.x.shape[1], seen.x.shape[0])
    return np.asarray(Image.fromarray(light).resize(size, Image.Resampling.BILINEAR))


def _sun(seen: Ground, rng: np.random.Generator) -> np.ndarray:
    """Sunshine above the shadow of the opposite houses: a factor per pixel."""
    lean = rng.uniform(-0.5, 0.5)
    eaves = rng.uniform(-2.0, 5.0)
    roofs = eaves + 1.2 * np.sign(np.sin((seen.x + lean * seen.z) * 0.8 + rng.uniform(0, 6)))
    return 0.8 + 0.32 * np.where(seen.is_ground, eaves < -0.5, np.clip((seen.z - roofs) * 2 + 0.5, 0, 1))


def _bloom(shining: np.ndarray) -> np.ndarray:
    """The glow around bright things."""
    small = Image.fromarray(np.clip(shining, 0, 255).astype(np.uint8)).reduce(4)
    size = (shining.shape[1], shining.shape[0])
    blurred = small.filter(ImageFilter.BoxBlur(2)).filter(ImageFilter.BoxBlur(2))
    return np.asarray(blurred.resize(size, Image.Resampling.BILINEAR), np.float32) * 0.55


def wet_ground(pixels: np.ndarray, seen: Ground, camera: Camera, wet: float, rng: np.random.Generator) -> np.ndarray:
    """Mirrors the scene in the ground.

    Args:
        pixels: float32 `[height, width, 3]`.
        seen: from `trace`.
        camera: the same as for `trace`.
        wet: how much of the light is mirrored, 0 to 1.
        rng: random numbers for this view.

    Returns:
        float32 `[height, width, 3]`.
    """
    height, width = seen.x.shape
    rows, columns = np.nonzero(seen.is_ground)
    x, y = seen.x[rows, columns], seen.y[rows, columns]
    # The mirrored ray goes on to the facade plane and climbs there as steeply as it fell before.
    onward = -y / np.maximum(y - camera.y, 0.1)
    target = np.stack([x + onward * (x - camera.x), np.zeros_like(x), onward * camera.z], 1) - camera.position
    points = target @ camera.matrix(width, height).T
    bend = cloudy(rng, height, width, (height // 3, width // 10))[rows, columns]
    across = np.clip(points[:, 0] / points[:, 2] + 1.5 * bend, 0, width - 1).astype(int)
    down = np.clip(points[:, 1] / points[:, 2] + 4 * bend, 0, height - 1).astype(int)
    blurred = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur((0.7, 3)))
    mirrored = np.asarray(blurred, np.float32)[down, across]
    # Puddles mirror more than merely wet stone, and all the more the flatter one looks at them.
    puddles = 0.45 + 0.55 * np.clip(cloudy(rng, height, width, (14, 7))[rows, columns] * 2 + 0.4, 0, 1)
    share = (wet * puddles * np.clip(0.25 + (y - camera.y) / 16, 0, 1))[:, None]
    result = pixels.copy()
    result[rows, columns] = pixels[rows, columns] * (1 - 0.25 * wet) * (1 - share) + mirrored * share
    return result


def rain(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Streaks of falling rain over float32 `[height, width, 3]`."""
    height, width, _ = pixels.shape
    streaks = Image.new("L", (width, height))
    draw = ImageDraw.Draw(streaks)
    lean = rng.uniform(-0.25, 0.25)
    for x, y, length in rng.uniform(0, 1, (150, 3)) * (width, height, 16) + (0, -8, 5):
        draw.line((x, y, x + lean * length, y + length), 46)
    share = np.asarray(streaks, np.float32)[..., None] / 255
    return pixels + (225 - pixels) * share


def develop(pixels: np.ndarray, condition: str, rng: np.random.Generator) -> np.ndarray:
    """What the sensor makes of the light: exposure, colour cast, vignette, noise; uint8 `[height, width, 3]`."""
    height, width, _ = pixels.shape
    exposure = 1 + difficulty.EXPOSURE_JITTER * rng.uniform(-1, 1)
    cast = 1 + difficulty.CAST_JITTER * rng.uniform(-1, 1, 3)
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    vignette = 1 - 0.07 * (x * x + y * y)
    developed = pixels * (exposure * cast).astype(np.float32) * vignette[..., None]
    # A soft shoulder keeps highlights from clipping hard.
    bright = developed > 210
    developed[bright] = 255 - 45 * np.exp((210 - developed[bright]) / 45)
    # Noise of brightness is fine, noise of colour is coarse.
    grain = difficulty.NOISE[condition] * rng.standard_normal((height, width, 1), np.float32)
    blotches = 0.6 * difficulty.NOISE[condition] * rng.standard_normal((height // 2, width // 2, 3), np.float32)
    return np.clip(developed + grain + blotches.repeat(2, 0).repeat(2, 1), 0, 255).astype(np.uint8)
