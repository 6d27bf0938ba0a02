"""The flat front of a house: wall, windows, door or shop, gable."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from tfplaces.toytown.camera import Light
from tfplaces.toytown.drawing import SCALE, Colour, Drawing, mix, shade, surface
from tfplaces.toytown.town import House
from tfplaces.toytown.windows import GLASS, WARM, WINDOWS, columns, window_pane

VARIANTS = 2  # how many different curtains windows of one size have


class Facade:
    """The flat part of a house front.

    Attributes:
        drawing: RGBA, transparent beside a gable.
        lights: the windows and the shop, switched on.
        balconies: (x, z, width) of the slabs to be put before it.
    """

    def __init__(self, house: House, rng: np.random.Generator):
        self.house, self._rng = house, rng
        self.lights: list[Light] = []
        self.balconies: list[tuple[float, float, float]] = []
        self._panes: dict[tuple[float, float], tuple[list[Image.Image], list[Image.Image]]] = {}
        height = house.eaves + gable_height(house)
        size = (round(house.width * SCALE), round(height * SCALE))
        kind = "plaster" if house.material == "timber" else house.material
        self.drawing = Drawing.on(surface(kind, house.wall, size, rng))
        self._columns = columns(house)
        if house.material == "timber":
            self._beams()
        self._trims()
        for storey in range(1, house.storeys):
            self._storey(storey)
        self._gable()
        {"shop": self._shop, "door": self._doorway, "gate": self._gateway}[house.ground]()
        self._grime()
        self._cut_gable()

    def _beams(self) -> None:
        """Half-timbering: sills at each floor, posts between the windows, braces at the corners."""
        house, draw, colour = self.house, self.drawing, self.house.trim
        top = house.eaves
        levels = [house.ground_height + storey * house.storey_height for storey in range(house.storeys - 1)]
        for level in (*levels, top - 0.18):
            draw.rect(0, level - 0.1, house.width, 0.22, colour)
        posts = np.linspace(0.1, house.width - 0.1, max(4, round(house.width / 0.85)))
        for low, high in zip(levels, (*levels[1:], top), strict=True):
            for post in posts:
                draw.rect(post - 0.09, low, 0.18, high - low, colour)
            for near, far in ((posts[0], posts[1]), (posts[-1], posts[-2])):
                draw.line([(near, high), (far, low)], 0.17, colour)
                draw.line([(far, high), (near, low)], 0.13, colour)
            draw.rect(0, low + 0.75, house.width, 0.13, colour)

    def _trims(self) -> None:
        house, draw = self.house, self.drawing
        draw.rect(0, 0, house.width, 0.55, shade(mix(house.wall, (120, 116, 112), 0.6), 0.8))
        draw.rect(0, 0.55, house.width, 0.06, shade(house.trim, 0.85))
        if house.material == "timber":
            return
        if house.surround in ("pediment", "keystone", "lintel"):
            for storey in range(1, house.storeys):
                z = house.ground_height + (storey - 1) * house.storey_height
                draw.rect(0, z - 0.02, house.width, 0.16, house.trim)
                draw.rect(0, z - 0.08, house.width, 0.06, shade(house.wall, 0.72))
        if house.surround in ("pediment", "keystone"):
            for course in range(int(house.eaves / 0.45)):
                length = 0.5 if course % 2 else 0.34
                for x in (0, house.width - length):
                    draw.rect(x, course * 0.45, length, 0.41, shade(house.trim, 0.95))
        if house.surround == "band":
            for storey in range(1, house.storeys):
                z = house.ground_height + (storey - 1) * house.storey_height + 0.7
                draw.rect(0.3, z, house.width - 0.6, 1.75, mix(house.wall, house.trim, 0.5))

    def _storey(self, storey: int) -> None:
        house = self.house
        width, height, sill, *_ = WINDOWS[house.window]
        base = house.ground_height + (storey - 1) * house.storey_height
        if storey == house.storeys - 1 and house.storeys > 3:
            height *= 0.8
        height = min(height, house.storey_height - sill - 0.35)
        middle = len(self._columns) // 2
        for number, x in enumerate(self._columns):
            in_the_middle = number == middle and len(self._columns) % 2
            wide = width * 1.5 if house.rhythm == "wide middle" and in_the_middle else width
            self.window(x - wide / 2, base + sill, wide, height)
            centre = house.balcony == "centre" and number == middle and storey == 1
            if centre or (house.balcony in ("single", "glass") and (number + storey) % 2):
                self.balconies.append((x - wide / 2 - 0.35, base + 0.12, wide + 0.7))
        if house.balcony == "row" and storey in (1, house.storeys - 1):
            self.balconies.append((0.25, base + 0.12, house.width - 0.5))

    def window(self, x: float, z: float, width: float, height: float) -> None:
        """A window with all that surrounds it; (x, z) is the lower left corner of the opening."""
        house, draw, trim = self.house, self.drawing, self.house.trim
        dark = shade(house.wall, 0.62)
        arched = house.window == "arched"
        top = z + height
        if house.surround in ("frame", "pediment", "keystone") or house.material == "timber":
            draw.rect(x - 0.16, z - 0.04, width + 0.32, height + 0.2, trim)
            if arched:
                draw.ellipse(x - 0.16, top - width / 2, width + 0.32, width / 2 + 0.42, trim)
        if house.surround == "pediment" and not arched:
            draw.rect(x - 0.28, top + 0.14, width + 0.56, 0.1, trim)
            draw.polygon([(x - 0.28, top + 0.26), (x + width + 0.28, top + 0.26), (x + width / 2, top + 0.52)], trim)
            draw.rect(x - 0.28, top + 0.1, width + 0.56, 0.05, dark)
        if house.surround == "keystone":
            middle = x + width / 2
            low, high = top - 0.02, top + 0.36
            keystone = [(middle - 0.1, low), (middle + 0.1, low), (middle + 0.17, high), (middle - 0.17, high)]
            draw.polygon(keystone, shade(trim, 0.86))
        if house.surround == "lintel":
            draw.rect(x - 0.18, top, width + 0.36, 0.24, trim)
        if house.surround == "none":
            draw.rect(x - 0.05, z - 0.05, width + 0.1, height + 0.1, dark)
        dark_panes, lit_panes = self._window_panes(width, height)
        corner = draw.paste(dark_panes[self._rng.integers(VARIANTS)], x, z)
        self.lights.append(Light(corner, lit_panes[self._rng.integers(VARIANTS)]))
        draw.rect(x - 0.2, z - 0.12, width + 0.4, 0.12, shade(trim, 1.2 if house.material == "timber" else 0.96))
        draw.rect(x - 0.2, z - 0.2, width + 0.4, 0.08, dark)
        if house.shutter:
            self._shutters(x, z, width, height, house.shutter)
        if house.balcony == "flowers":
            self._flowers(x, z, width)

    def _window_panes(self, width: float, height: float) -> tuple[list[Image.Image], list[Image.Image]]:
        """The windows of one size, dark and lit, `VARIANTS` each."""
        key = (round(width, 2), round(height, 2))
        if key not in self._panes:
            dark = [window_pane(self.house, *key, self._rng, None) for _ in range(VARIANTS)]
            lit = [
                window_pane(self.house, *key, self._rng, WARM[self._rng.integers(len(WARM))]) for _ in range(VARIANTS)
            ]
            self._panes[key] = dark, lit
        return self._panes[key]

    def _shutters(self, x: float, z: float, width: float, height: float, colour: Colour) -> None:
        draw = self.drawing
        leaf = min(width / 2, 0.55)
        for left in (x - leaf - 0.06, x + width + 0.06):
            draw.rect(left + 0.04, z - 0.06, leaf, height + 0.02, shade(self.house.wall, 0.66))
            draw.rect(left, z, leaf, height, colour)
            for slat in np.arange(0.12, height - 0.1, 0.14):
                draw.rect(left + 0.07, z + slat, leaf - 0.14, 0.05, shade(colour, 0.72))

    def _flowers(self, x: float, z: float, width: float) -> None:
        draw, rng = self.drawing, self._rng
        draw.rect(x - 0.05, z - 0.16, width + 0.1, 0.22, (112, 70, 48))
        petals = ((214, 60, 70), (236, 120, 150), (244, 214, 90), (250, 246, 240))[self.house.seed % 4]
        for spot in np.arange(x - 0.08, x + width, 0.09):
            draw.ellipse(spot, z + rng.uniform(-0.05, 0.12), 0.2, 0.2, (70, 120 + int(rng.integers(30)), 60))
        for spot in np.arange(x - 0.04, x + width, 0.13):
            draw.ellipse(spot, z + rng.uniform(0.02, 0.2), 0.13, 0.13, petals)

    def _gable(self) -> None:
        """What is drawn in a gable: a window or two, or an oculus."""
        house, draw = self.house, self.drawing
        height = gable_height(house)
        if height < 2:
            return
        middle, z = house.width / 2, house.eaves
        if house.material == "timber":
            half = house.width / 2
            for level in (0.0, 0.42, 0.72):
                draw.rect(half * level, z + height * level - 0.1, house.width - 2 * half * level, 0.2, house.trim)
            for post in np.linspace(-0.6, 0.6, 5) * half:
                draw.line([(middle + post, z), (middle + post * 0.75, z + height * 0.9)], 0.16, house.trim)
        if house.seed % 3 == 0 and house.material != "timber":
            draw.ellipse(middle - 0.55, z + 0.55, 1.1, 1.1, house.trim)
            draw.ellipse(middle - 0.42, z + 0.68, 0.84, 0.84, GLASS)
        else:
            width, tall = 0.9, min(1.25, height * 0.45)
            for x in (middle - 1.2, middle + 0.3) if house.width > 6.4 and house.seed % 2 else (middle - width / 2,):
                self.window(x, z + 0.35, width, tall)

    def _cut_gable(self) -> None:
        house, image = self.house, self.drawing.image
        outline = gable_outline(house)
        if not outline:
            return
        mask = Image.new("L", image.size)
        points = [(0, 0), *((x, house.eaves + z) for x, z in outline), (house.width, 0)]
        pixels = [self.drawing.pixel(*point) for point in points]
        ImageDraw.Draw(mask).polygon(pixels, 255)
        edge = house.trim if house.material != "timber" else shade(house.trim, 0.9)
        ImageDraw.Draw(image).line(pixels[1:-1], (*edge, 255), round(0.24 * SCALE), joint="curve")
        image.putalpha(mask)

    def _grime(self) -> None:
        """Darkens the foot of the wall and what lies in the shadow of the eaves."""
        image = self.drawing.image
        z = (image.height - 0.5 - np.arange(image.height)) / SCALE
        dark = 0.14 * np.exp(-z / 0.5)
        if not gable_outline(self.house):
            dark += 0.28 * np.exp(-np.maximum(self.house.eaves - 0.35 - z, 0) / 0.35)
        mask = Image.fromarray((dark * 255).astype(np.uint8)[:, None]).resize(image.size)
        image.paste((0, 0, 0, 255), (0, 0), mask)

    def _door(self, x: float, z: float, width: float, height: float) -> None:
        draw, colour = self.drawing, self.house.door
        draw.rect(x - 0.14, 0, width + 0.28, z + height + 0.14, self.house.trim)
        draw.rect(x, z, width, height, colour)
        draw.rect(x, z + height - 0.45, width, 0.45, GLASS)
        draw.rect(x, z + height - 0.5, width, 0.06, shade(colour, 0.7))
        leaf = width / 2 if width > 1.2 else width
        for left in np.arange(x, x + width - 0.1, leaf):
            for low, tall in ((0.2, 0.6), (0.95, max(0.3, height - 1.6))):
                draw.rect(left + 0.13, z + low, leaf - 0.26, tall, shade(colour, 0.75))
                draw.rect(left + 0.16, z + low, leaf - 0.32, tall - 0.04, shade(colour, 1.15))
        draw.ellipse(x + width - 0.2, z + 1.0, 0.1, 0.1, (226, 196, 110))
        draw.rect(x - 0.25, 0, width + 0.5, z, (150, 146, 140))
        draw.rect(x - 0.25, 0, width + 0.5, z / 2, (122, 118, 114))

    def _doorway(self) -> None:
        """A door with windows beside it."""
        house = self.house
        width = 1.1 if house.seed % 2 else 1.5
        slots = max(2, len(self._columns))
        door = (0, slots - 1, slots // 2)[house.seed % 3]
        height = min(1.75, house.ground_height - 1.35)
        for slot in range(slots):
            x = house.width * (slot + 0.5) / slots
            if slot == door:
                self._door(x - width / 2, 0.3, width, min(2.6, house.ground_height - 0.7))
            else:
                self.window(x - 0.55, 0.95, 1.1, height)

    def _gateway(self) -> None:
        """An arched gate for carriages, a door and what windows fit."""
        house, draw = self.house, self.drawing
        width, height = 2.3, min(2.9, house.ground_height - 0.35)
        x = 0.6 if house.seed % 2 else house.width - width - 0.6
        for grow, colour in ((0.22, house.trim), (0.0, (44, 40, 42))):
            draw.rect(x - grow, 0, width + 2 * grow, height - width / 2, colour)
            draw.ellipse(x - grow, height - width - grow, width + 2 * grow, width + 2 * grow, colour)
        for board in np.arange(0.06, width - 0.05, 0.24):
            rise = np.sqrt(max(0.02, (width / 2) ** 2 - (board + 0.1 - width / 2) ** 2))
            draw.rect(x + board, 0, 0.2, height - width / 2 + rise - 0.08, house.door)
        draw.rect(x + width / 2 - 0.03, 0, 0.06, height - 0.1, (30, 28, 30))
        start, stop = (x + width + 0.5, house.width - 0.3) if house.seed % 2 else (0.3, x - 0.5)
        count = max(1, int((stop - start) / 1.7))
        for slot in range(count):
            middle = start + (stop - start) * (slot + 0.5) / count
            if slot == 0 and stop - start > 2.6:
                self._door(middle - 0.55, 0.3, 1.1, min(2.5, house.ground_height - 0.7))
            else:
                self.window(middle - 0.5, 0.95, 1.0, min(1.5, house.ground_height - 1.5))

    def _shop(self) -> None:
        """A shop front: fascia with the name, windows with goods, a door."""
        house, draw, rng = self.house, self.drawing, self._rng
        top = house.ground_height - 0.25
        fascia = 0.62
        draw.rect(0.15, 0, house.width - 0.3, top, house.sign)
        draw.rect(0.1, top - 0.06, house.width - 0.2, 0.12, shade(house.sign, 0.7))
        draw.text(house.width / 2, top - fascia / 2, 0.42, house.word, house.lettering, house.width - 1)
        bays = max(2, round(house.width / 2.2))
        door = int(rng.integers(bays))
        colours = rng.integers(60, 235, (5, 3)).tolist()
        goods = [(rng.uniform(0.15, 0.65), colours[rng.integers(5)]) for _ in range(7 * bays)]
        dark, lit = (
            self._shop_windows(house.width - 0.7, top - fascia - 0.1, bays, door, goods, is_lit)
            for is_lit in (False, True)
        )
        self.lights.append(Light(draw.paste(dark, 0.35, 0.05), lit, shop=True))

    def _shop_windows(self, width: float, height: float, bays: int, door: int, goods: list, lit: bool) -> Image.Image:
        """The glass of a shop and what is on show behind it, RGBA; `goods` are (height, colour), seven to a bay."""
        draw, sign = Drawing(width, height), self.house.sign
        glass, tone = ((255, 226, 160), 1.0) if lit else (GLASS, 0.8)
        span = width / bays
        for bay in range(bays):
            x = bay * span
            if bay == door:
                draw.rect(x + 0.08, 0, span - 0.16, height - 0.1, shade(sign, 0.6 * tone))
                draw.rect(x + 0.25, 0.3, span - 0.5, height - 0.6, glass)
                continue
            draw.rect(x + 0.06, 0.5, span - 0.12, height - 0.6, glass)
            if not lit:
                reflection = [(x + 0.2, 0.5), (x + 0.55, 0.5), (x + 1.0, height - 0.1), (x + 0.65, height - 0.1)]
                draw.polygon(reflection, shade(glass, 1.25))
            for number, (tall, colour) in enumerate(goods[7 * bay : 7 * bay + 7]):
                draw.rect(x + 0.15 + (span - 0.6) * number / 6, 0.5, 0.24, tall, shade(colour, tone))
        return draw.image


def gable_height(house: House) -> float:
    """Metres that a facade rises above the eaves."""
    if house.roof == "gable":
        return house.width * (0.75 if house.material == "timber" else 0.6)
    if house.roof in ("stepped", "bell"):
        return house.width * 0.55
    return parapet_height(house)


def parapet_height(house: House) -> float:
    """Metres that a straight wall rises above the eaves."""
    return {"parapet": 0.9, "flat": 0.45, "terrace": 0.3}.get(house.roof, 0.0)


def gable_outline(house: House) -> list[tuple[float, float]]:
    """The upper edge of a gabled facade from left to right, metres above the eaves; empty for a straight one."""
    width, height = house.width, gable_height(house)
    if house.roof == "gable":
        return [(0, 0), (width / 2, height), (width, 0)]
    if house.roof == "stepped":
        steps = 5
        half = []
        for step in range(steps):
            x, z = width / 2 * step / steps, height * (step + 1) / steps
            half += [(x, z - height / steps), (x, z)]
        return [*half, *((width - x, z) for x, z in reversed(half))]
    if house.roof == "bell":
        t = np.linspace(0, 1, 12)
        across = np.concatenate([[0, 0], 0.08 + 0.24 * t, [0.32], 0.5 - 0.18 * np.cos(t * np.pi / 2)]) * width
        up = np.concatenate([[0, 0.12], 0.12 + 0.5 * t**2, [0.7], 0.72 + 0.28 * np.sin(t * np.pi / 2)]) * height
        half = list(zip(across.tolist(), up.tolist(), strict=True))
        return [*half, *((width - x, z) for x, z in reversed(half))]
    return []
