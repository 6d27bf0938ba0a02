"""Windows: their proportions, and how they look dark and with light behind them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from tfplaces.toytown.drawing import SCALE, Colour, Drawing, mix, shade
from tfplaces.toytown.town import House

GLASS = (70, 86, 104)
WARM = ((255, 214, 130), (255, 196, 104), (255, 228, 168), (244, 236, 210))
WINDOWS = {  # width and height of the opening, height of its sill above the floor, panes across and down
    "sash": (1.05, 1.75, 0.7, 2, 4),
    "arched": (1.1, 1.85, 0.65, 2, 3),
    "casement": (1.15, 1.45, 0.85, 2, 2),
    "tall": (1.15, 2.15, 0.3, 2, 4),
    "small": (1.0, 1.15, 0.8, 3, 3),
    "wide": (2.1, 1.45, 0.85, 3, 1),
}


def window_pane(house: House, width: float, height: float, rng: np.random.Generator, lit: Colour | None) -> Image.Image:
    """A window inside its opening, RGBA; dark, or with light behind it."""
    _, _, _, across, down = WINDOWS[house.window]
    draw = Drawing(width, height)
    glass = lit or shade(GLASS, rng.uniform(0.75, 1.3))
    draw.rect(0, 0, width, height, glass)
    if lit is None:
        sky = mix(glass, (176, 200, 222), rng.uniform(0.25, 0.6))
        lean = rng.uniform(0.1, 0.5) * width
        draw.polygon([(0, height), (width, height), (width, height * 0.6), (0, height * 0.6 - lean)], sky)
    curtain = mix((236, 228, 214), lit, 0.5) if lit else mix((236, 228, 214), GLASS, 0.25)
    style = rng.integers(4)
    if style == 0:
        drop = rng.uniform(0.2, 0.6) * height
        draw.rect(0, height - drop, width, drop, shade(curtain, 0.92))
    elif style == 1:
        for x in (0, width * 0.76):
            draw.rect(x, 0, width * 0.24, height, shade(curtain, 0.88))
    elif style == 2 and lit:
        draw.rect(width * 0.2, 0, width * 0.25, height * 0.4, shade(lit, 0.55))
    frame = house.frame if lit is None else shade(house.frame, 0.3)
    border, bar = 0.09, 0.055
    for x in np.linspace(0, width, across + 1)[1:-1]:
        draw.rect(x - bar / 2, 0, bar, height, frame)
    for z in np.linspace(0, height, down + 1)[1:-1]:
        draw.rect(0, z - bar / 2, width, bar, frame)
    for x, z, w, h in ((0, 0, width, border), (0, height - border, width, border)):
        draw.rect(x, z, w, h, frame)
    for x in (0, width - border):
        draw.rect(x, 0, border, height, frame)
    shadow = Image.new("RGBA", (draw.image.width, max(1, round(0.1 * SCALE))), (20, 20, 30, 110))
    draw.image.alpha_composite(shadow, (0, 0))
    if house.window == "arched":
        mask = Image.new("L", draw.image.size)
        drawn = ImageDraw.Draw(mask)
        drawn.ellipse((0, 0, mask.width - 1, mask.width * 0.8), 255)
        drawn.rectangle((0, mask.width * 0.4, mask.width, mask.height), 255)
        draw.image.putalpha(mask)
    return draw.image


def columns(house: House) -> np.ndarray:
    """The middles of the windows of a storey, metres from the left wall."""
    width = WINDOWS[house.window][0]
    pitch = width + (1.5 if house.shutter else 0.95) + (0.4 if house.material == "stone" else 0)
    count = max(2, int((house.width - 0.4) / pitch))
    x = (np.arange(count) + 0.5) / count * house.width
    if house.rhythm == "paired" and count >= 4 and count % 2 == 0 and not house.shutter:
        x += np.where(np.arange(count) % 2, -0.18, 0.18) * pitch
    return x
