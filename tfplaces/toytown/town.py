"""What stands where: the plan of the town, drawn from a seed and never from what was looked at before.

Streets have places on both sides. A place is a row of houses about `CORE` metres long; between it and the next place
of its side stand a few houses more that both see at the edge of view. Coordinates of a place: x = 0 is its middle.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from tfplaces.toytown.difficulty import STYLE_SIMILARITY
from tfplaces.toytown.drawing import Colour, shade

CORE = 21.0  # metres of houses that belong to one place
GAP = 14.0  # metres of houses between two places
SIDE_PLACES = 5  # places on one side of a street

# The first number of every random stream says what it is for, so that no two purposes share one.
STREET, HOUSES, BETWEEN, FURNITURE, VIEW = range(5)
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Family:
    """A way of building: what the houses of a street choose from; what stands twice is chosen twice as often.

    Attributes:
        storey_height, width: least and greatest height of a storey and width of a house, in metres.
        shutters: chance that a house has them.
    """

    materials: tuple[str, ...]
    walls: tuple[Colour, ...]
    trims: tuple[Colour, ...]
    roofs: tuple[str, ...]
    roof_colours: tuple[Colour, ...]
    windows: tuple[str, ...]
    surrounds: tuple[str, ...]
    balconies: tuple[str, ...]
    storeys: tuple[int, ...]
    storey_height: tuple[float, float]
    width: tuple[float, float]
    shutters: float


SLATE, DARK_SLATE, COPPER = (98, 108, 122), (72, 78, 92), (110, 156, 138)
RED_TILE, BROWN_TILE = (178, 84, 58), (140, 84, 62)
WHITE, CREAM, SAND, GREY = (244, 242, 236), (238, 226, 200), (214, 196, 160), (170, 170, 168)

FAMILIES = {
    "brick": Family(
        materials=("brick", "brick", "plaster"),
        walls=(
            (158, 78, 60),
            (178, 98, 70),
            (134, 66, 56),
            (196, 140, 96),
            (208, 172, 124),
            (120, 72, 62),
            (186, 112, 88),
        ),
        trims=(WHITE, CREAM, SAND),
        roofs=("stepped", "bell", "pitched", "parapet", "gable"),
        roof_colours=(SLATE, RED_TILE, DARK_SLATE),
        windows=("sash", "arched", "sash"),
        surrounds=("lintel", "frame", "keystone"),
        balconies=("none", "none", "none", "centre"),
        storeys=(2, 3, 3),
        storey_height=(2.8, 3.3),
        width=(5.0, 7.5),
        shutters=0.1,
    ),
    "plaster": Family(
        materials=("plaster",),
        walls=(
            (228, 184, 108),
            (222, 150, 128),
            (150, 184, 204),
            (166, 196, 164),
            (240, 226, 192),
            (210, 118, 84),
            (198, 172, 200),
            (236, 208, 140),
        ),
        trims=(WHITE, CREAM),
        roofs=("pitched", "pitched", "gable", "bell"),
        roof_colours=(RED_TILE, BROWN_TILE, RED_TILE),
        windows=("casement", "casement", "tall", "arched"),
        surrounds=("frame", "pediment", "none"),
        balconies=("none", "single", "centre", "flowers"),
        storeys=(2, 3, 3),
        storey_height=(2.9, 3.3),
        width=(5.5, 8.5),
        shutters=0.6,
    ),
    "stone": Family(
        materials=("stone",),
        walls=((222, 208, 176), (208, 196, 170), (196, 186, 172), (190, 170, 138), (226, 214, 190)),
        trims=(WHITE, CREAM, SAND),
        roofs=("mansard", "mansard", "pitched", "parapet"),
        roof_colours=(SLATE, DARK_SLATE, COPPER),
        windows=("tall", "arched", "sash"),
        surrounds=("pediment", "keystone", "frame"),
        balconies=("row", "single", "none", "row"),
        storeys=(2, 3, 3),
        storey_height=(3.0, 3.5),
        width=(7.0, 10.0),
        shutters=0.15,
    ),
    "timber": Family(
        materials=("timber", "timber", "boards"),
        walls=((240, 232, 212), (232, 210, 164), (214, 160, 120), (196, 206, 196), (226, 190, 170)),
        trims=((86, 58, 42), (66, 50, 44), (116, 66, 46), (70, 78, 84)),
        roofs=("gable", "gable", "pitched"),
        roof_colours=(RED_TILE, BROWN_TILE, (120, 70, 58)),
        windows=("small", "small", "casement"),
        surrounds=("none", "frame"),
        balconies=("none", "flowers", "flowers"),
        storeys=(2, 2, 3),
        storey_height=(2.5, 2.9),
        width=(4.8, 7.0),
        shutters=0.4,
    ),
    "modern": Family(
        materials=("panel", "plaster", "brick", "boards"),
        walls=(
            (232, 232, 228),
            (206, 206, 202),
            (150, 158, 164),
            (222, 196, 150),
            (188, 112, 84),
            (128, 154, 160),
            (92, 98, 106),
        ),
        trims=(WHITE, (70, 74, 80), (52, 54, 58), (200, 150, 90)),
        roofs=("flat", "flat", "terrace"),
        roof_colours=(GREY, DARK_SLATE),
        windows=("wide", "wide", "tall"),
        surrounds=("none", "band"),
        balconies=("single", "glass", "row", "none"),
        storeys=(2, 3, 4),
        storey_height=(2.8, 3.1),
        width=(7.0, 11.0),
        shutters=0.0,
    ),
}

SHUTTERS = ((70, 104, 84), (62, 92, 124), (130, 62, 54), (96, 78, 62), (88, 128, 128), (60, 64, 70))
DOORS = ((132, 44, 40), (40, 78, 64), (38, 62, 98), (92, 62, 42), (54, 52, 56), (196, 150, 60), (120, 140, 150))
SIGNS = (
    (122, 34, 38),
    (30, 70, 58),
    (28, 52, 90),
    (46, 44, 48),
    (206, 160, 64),
    (236, 230, 214),
    (96, 60, 100),
    (190, 92, 50),
)
SHOPS = (
    *("BAKERY", "CAFE", "BOOKS", "FLOWERS", "TAILOR", "WINE", "CHEESE", "OPTICIAN", "TOYS", "BARBER", "HOTEL", "TEA"),
    *(
        "MUSIC",
        "CLOCKS",
        "SHOES",
        "BICYCLES",
        "FISH",
        "PIZZA",
        "NOODLES",
        "ANTIQUES",
        "HATS",
        "PAPER",
        "SPICES",
        "BANK",
    ),
    *("PHARMACY", "GROCER", "JEWELLER", "PETS", "GALLERY", "LAMPS", "CHOCOLATE", "BUTCHER", "POST", "MAPS", "RECORDS"),
)


@dataclasses.dataclass(frozen=True)
class House:
    """One house, in metres and colours; `seed` is for what is not worth a name (curtains, weathering)."""

    material: str
    wall: Colour
    trim: Colour
    frame: Colour
    shutter: Colour | None
    roof: str
    roof_colour: Colour
    window: str
    surround: str
    balcony: str
    rhythm: str
    storeys: int
    storey_height: float
    ground_height: float
    width: float
    ground: str
    door: Colour
    sign: Colour
    word: str
    awning: bool
    chimneys: int
    seed: int

    @property
    def eaves(self) -> float:
        """Height of the wall's top."""
        return self.ground_height + (self.storeys - 1) * self.storey_height + 0.4

    @property
    def lettering(self) -> Colour:
        """Colour of the letters on its sign."""
        return (52, 40, 36) if sum(self.sign) > 420 else (250, 236, 200)


@dataclasses.dataclass(frozen=True)
class Street:
    """What the places of a street share."""

    family: str
    model: House
    walls: tuple[Colour, ...]
    pavement: str
    pavement_colour: Colour
    road: str
    trees: str | None
    lamp_colour: Colour
    lamp_kind: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Thing:
    """A tree, lamp post, tower ... of a place: its kind, where it stands (metres) and how tall it is."""

    kind: str
    x: float
    y: float
    height: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Place:
    """A stretch of street: houses with the x of their left walls, and what stands before and behind them."""

    street: Street
    houses: tuple[tuple[float, House], ...]
    things: tuple[Thing, ...]


def stream(seed: int, split: str, *purpose: int) -> np.random.Generator:
    """A random stream of its own for everything that has a name."""
    return np.random.default_rng([seed, SPLITS.index(split), *purpose])


@functools.lru_cache(maxsize=128)
def plan_place(seed: int, split: str, place: int) -> Place:
    """The plan of one place; the same whatever else has been planned."""
    street_number, slot = divmod(place, 2 * SIDE_PLACES)
    side, slot = divmod(slot, SIDE_PLACES)
    street = _plan_street(stream(seed, split, STREET, street_number))

    core = _row(stream(seed, split, HOUSES, place), street, CORE)
    left = _row(stream(seed, split, BETWEEN, street_number, side, slot), street, GAP)
    right = _row(stream(seed, split, BETWEEN, street_number, side, slot + 1), street, GAP)
    x = -sum(house.width for house in core) / 2 - sum(house.width for house in left)
    houses = []
    for house in (*left, *core, *right):
        houses.append((x, house))
        x += house.width
    return Place(street, tuple(houses), _furniture(stream(seed, split, FURNITURE, place), street))


def _plan_street(rng: np.random.Generator) -> Street:
    family_name = str(rng.choice(list(FAMILIES)))
    family = FAMILIES[family_name]
    tone = rng.uniform(-0.1, 0.1, 3) + 1
    chosen = rng.permutation(len(family.walls))[:4]
    walls = []
    for i in chosen:
        red, green, blue = (int(min(255, c * t)) for c, t in zip(family.walls[i], tone, strict=True))
        walls.append((red, green, blue))
    road, pavement = rng.choice(["asphalt", "asphalt", "cobbles"]), rng.choice(["slabs", "slabs", "cobbles"])
    grounds = ((186, 180, 170), (168, 164, 160), (190, 172, 150), (160, 150, 146))
    trees = rng.choice(["none", "none", "round", "poplar", "conifer", "blossom", "autumn"])
    return Street(
        family=family_name,
        model=_draw_house(rng, family, tuple(walls)),
        walls=tuple(walls),
        pavement=str(pavement),
        pavement_colour=grounds[rng.integers(len(grounds))],
        road=str(road),
        trees=None if trees == "none" else str(trees),
        lamp_colour=((255, 190, 110), (255, 214, 150), (240, 236, 214))[rng.integers(3)],
        lamp_kind=str(rng.choice(["lantern", "globe", "arm"])),
        seed=int(rng.integers(2**31)),
    )


def _pick(rng: np.random.Generator, options):
    return options[rng.integers(len(options))]


def _draw_house(rng: np.random.Generator, family: Family, walls: tuple[Colour, ...]) -> House:
    """A house of a family with nothing in common with its neighbours but the family."""
    material = _pick(rng, family.materials)
    wall = shade(_pick(rng, walls), rng.uniform(0.92, 1.06))
    trim = _pick(rng, family.trims)
    ground = _pick(rng, ("shop", "shop", "shop", "door", "door", "gate"))
    if family is FAMILIES["timber"]:
        frame = _pick(rng, (WHITE, (110, 60, 44), (64, 90, 76)))
    elif family is FAMILIES["modern"]:
        frame = _pick(rng, ((52, 54, 58), WHITE, (90, 94, 98)))
    else:
        frame = _pick(rng, (WHITE, WHITE, CREAM, (60, 70, 66), (112, 74, 54)))
    return House(
        material=material,
        wall=wall,
        trim=trim,
        frame=frame,
        shutter=_pick(rng, SHUTTERS) if rng.random() < family.shutters else None,
        roof=_pick(rng, family.roofs),
        roof_colour=shade(_pick(rng, family.roof_colours), rng.uniform(0.9, 1.1)),
        window=_pick(rng, family.windows),
        surround=_pick(rng, family.surrounds),
        balcony=_pick(rng, family.balconies),
        rhythm=_pick(rng, ("even", "even", "paired", "wide middle")),
        storeys=_pick(rng, family.storeys),
        storey_height=round(rng.uniform(*family.storey_height), 2),
        ground_height=round(rng.uniform(3.3, 4.0) if ground == "shop" else rng.uniform(3.0, 3.6), 2),
        width=round(rng.uniform(*family.width), 2),
        ground=ground,
        door=_pick(rng, DOORS),
        sign=_pick(rng, SIGNS),
        word=_pick(rng, SHOPS),
        awning=bool(rng.random() < 0.5),
        chimneys=int(rng.integers(0, 3)),
        seed=int(rng.integers(2**31)),
    )


# What neighbours in a street have in common; the rest (width, ground floor, shop, wall colour) is each house's own.
SHARED_TRAITS = (
    *("material", "trim", "frame", "shutter", "roof", "roof_colour", "window", "surround", "balcony", "rhythm"),
    *("storeys", "storey_height", "ground_height"),
)


def _row(rng: np.random.Generator, street: Street, length: float) -> list[House]:
    """Neighbouring houses, together about `length` metres wide."""
    houses: list[House] = []
    total = 0.0
    while total < length:
        houses.append(_street_house(rng, street))
        total += houses[-1].width
    if len(houses) > 1 and total - length > houses[-1].width / 2:
        total -= houses.pop().width
    return [dataclasses.replace(house, width=round(house.width * length / total, 2)) for house in houses]


def _street_house(rng: np.random.Generator, street: Street) -> House:
    stranger = rng.random() > (1 + STYLE_SIMILARITY) / 2
    family = FAMILIES[_pick(rng, tuple(FAMILIES)) if stranger else street.family]
    house = _draw_house(rng, family, family.walls if stranger else street.walls)
    if stranger:
        return house
    shared = {name: getattr(street.model, name) for name in SHARED_TRAITS if rng.random() < STYLE_SIMILARITY}
    return dataclasses.replace(house, **shared)


def _furniture(rng: np.random.Generator, street: Street) -> tuple[Thing, ...]:
    def thing(kind: str, x: float, y: float, height: float) -> Thing:
        return Thing(kind, round(x, 2), round(y, 2), round(height, 2), int(rng.integers(2**31)))

    things = []
    if rng.random() < 0.4:
        tower = _pick(rng, ("church", "tower", "dome"))
        things.append(thing(tower, rng.uniform(-14, 14), rng.uniform(12, 22), rng.uniform(24, 34)))
    lamp = rng.uniform(-9, -2)
    things += [thing("lamp", lamp + step, -2.6, 4.6) for step in (-26, -13, 0, 13, 26)]
    if street.trees:
        first = lamp + 6.5 + rng.uniform(-1, 1)
        for step in (-26, -13, 0, 13):
            if rng.random() < 0.6:
                things.append(thing(street.trees, first + step, -2.5, rng.uniform(4.5, 7.0)))
    for _ in range(rng.integers(1, 4)):
        things.append(thing(_pick(rng, ("bench", "planter", "postbox", "board", "bin")), rng.uniform(-9, 9), -1.6, 1.0))
    return tuple(things)
