"""The generated town: deterministic, lazy, and places that can be told apart but not too easily."""

import collections
import concurrent.futures
import time

import numpy as np
import pytest
from PIL import Image

from tfplaces.datasets import Toytown
from tfplaces.report.sheets import contact_sheet
from tfplaces.toytown.camera import Camera, Painter, Picture, Polygon
from tfplaces.toytown.houses import build
from tfplaces.toytown.town import plan_place

NATIVE = (180, 240)
SMALL = (48, 64)


def forget() -> None:
    """Empties the caches, as in a new process."""
    build.cache_clear()
    plan_place.cache_clear()


def gradients(image: np.ndarray) -> np.ndarray:
    """Normalised histograms of gradient orientations on a grid of 6 x 8 cells, `[384]`."""
    grey = image.astype(float).mean(axis=2)
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    direction = (np.arctan2(down, right) % np.pi / np.pi * 8).astype(int) % 8
    height, width = grey.shape
    cells = [(strength * (direction == d)).reshape(6, height // 6, 8, width // 8).sum(axis=(1, 3)) for d in range(8)]
    histogram = np.sqrt(np.stack(cells)).ravel()
    return (histogram - histogram.mean()) / np.linalg.norm(histogram - histogram.mean())


@pytest.fixture(scope="module")
def town():
    """Twelve places: database and query images, read once."""
    dataset = Toytown(places=12, seed=3).open()
    database = np.stack([dataset.database.read(i, NATIVE) for i in range(len(dataset.database))])
    queries = np.stack([dataset.queries.read(i, NATIVE) for i in range(len(dataset.queries))])
    return dataset, database, queries


def test_what_it_is(town):
    dataset, database, queries = town
    assert dataset.spec == "toytown?places=12&seed=3&split=test"
    assert dataset.protocol == "plain"
    assert (len(dataset.database), len(dataset.queries)) == (48, 36)
    assert dataset.database.names[30] == "place0007_day_2"
    assert dataset.queries.names[23] == "place0007_night_0"
    conditions = collections.Counter(name.split("_")[1] for name in (*dataset.database.names, *dataset.queries.names))
    assert conditions == {"day": 48, "dusk": 12, "rain": 12, "night": 12}
    assert database.dtype == queries.dtype == np.uint8
    assert len(np.unique(np.concatenate([database, queries]), axis=0)) == 84


def test_positives_are_the_images_of_the_place(town):
    dataset, *_ = town
    for query, positives in zip(dataset.queries.names, dataset.positives, strict=True):
        assert positives.dtype == np.int64
        place = query.split("_")[0]
        assert positives.tolist() == [i for i, name in enumerate(dataset.database.names) if name.startswith(place)]
        assert set(dataset.database_places[positives]) == {int(place.removeprefix("place"))}


def test_size():
    dataset = Toytown(places=2).open()
    for size in (SMALL, NATIVE, (200, 100)):
        image = dataset.queries.read(0, size)
        assert image.shape == (*size, 3)
        assert image.dtype == np.uint8


def test_same_bytes_in_another_order_and_in_a_larger_town(town):
    _, _, queries = town
    forget()
    larger = Toytown(places=5000, seed=3).open()
    for i in (35, 2, 17, 0):
        np.testing.assert_array_equal(larger.queries.read(i, NATIVE), queries[i])


def test_global_random_state_does_not_matter():
    np.random.seed(0)
    first = Toytown(places=2).open().database.read(1, SMALL)
    np.random.seed(1)
    forget()
    np.testing.assert_array_equal(Toytown(places=2).open().database.read(1, SMALL), first)


def test_threads_read_the_same_bytes(town):
    dataset, database, _ = town
    forget()
    order = np.random.default_rng(0).permutation(24).tolist()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        images = pool.map(lambda i: dataset.database.read(i, NATIVE), order)
        for i, image in zip(order, images, strict=True):
            np.testing.assert_array_equal(image, database[i])


def test_splits_and_seeds_share_no_house():
    towns = [(0, "train"), (0, "val"), (0, "test"), (1, "test")]
    houses = [{house for place in range(30) for _, house in plan_place(*town, place).houses} for town in towns]
    assert len(set.union(*houses)) == sum(len(group) for group in houses)


def test_neighbours_share_only_the_edge_of_view():
    first, second = plan_place(0, "test", 0), plan_place(0, "test", 1)
    shared = {house for _, house in first.houses} & {house for _, house in second.houses}
    assert shared
    assert all(x >= 9 for x, house in first.houses if house in shared)
    assert all(x + house.width <= -9 for x, house in second.houses if house in shared)


def test_night_is_darker_than_dusk_and_dusk_than_day(town):
    _, database, queries = town
    day, dusk, night = database.mean(), queries[0::3].mean(), queries[2::3].mean()
    assert night < 0.75 * dusk
    assert dusk < 0.95 * day


def test_places_resemble_themselves(town):
    """On gradient histograms, a query's nearest database image is of its place far more often than 1 time in 12."""
    dataset, database, queries = town
    known, asked = (np.stack([gradients(image) for image in images]) for images in (database, queries))
    nearest = dataset.database_places[(asked @ known.T).argmax(axis=1)]
    recall = np.mean(nearest == np.arange(len(asked)) // 3)
    assert 3 / 12 < recall < 1


def test_a_large_town_is_opened_at_once():
    start = time.perf_counter()
    dataset = Toytown(places=100_000).open()
    assert time.perf_counter() - start < 2
    assert dataset.database.read(399_999, SMALL).shape == (*SMALL, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"places": 1}, "places=1"),
        ({"seed": -1}, "seed=-1"),
        ({"split": "dev"}, "split='dev'.*train, val, test"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Toytown(**arguments).open()


def test_index_out_of_range():
    dataset = Toytown(places=2).open()
    for index in (-1, 8):
        with pytest.raises(IndexError):
            dataset.database.read(index, SMALL)


def test_contact_sheet():
    sheet = contact_sheet(Toytown(places=3).open(), places=2, size=SMALL)
    assert sheet.size == (7 * 64 + 6 * 4, 2 * 48 + 4)
    assert sheet.getpixel((65, 10)) == (255, 255, 255)


def test_camera_projects_a_known_point():
    """A pinhole camera at the origin, field of 90 degrees: focal length = half the width, 50 pixels."""
    matrix = Camera(0, 0, 0, heading=0, pitch=0, roll=0, field=90).matrix(100, 80)
    x, y, depth = matrix @ (1.0, 10.0, 2.0)
    assert (x / depth, y / depth, depth) == pytest.approx((50 + 5, 40 - 10, 10))
    turned = Camera(0, 0, 0, heading=90, pitch=0, roll=0, field=90).matrix(100, 80) @ (10.0, -1.0, 0.0)
    assert turned[0] / turned[2] == pytest.approx(55)


def test_a_picture_and_a_polygon_cover_the_same_pixels():
    camera = Camera(1, -8, 1.6, heading=20, pitch=5, roll=1, field=70)
    corners = [(-1, 0, 3), (2, 0, 3), (2, 0, 0), (-1, 0, 0)]
    shapes = (
        Polygon(corners, (255, 0, 0)),
        Picture(Image.new("RGBA", (96, 96), (255, 0, 0, 255)), corners[0], (3, 0, 0), (0, 0, -3)),
        Polygon(corners[::-1], (255, 0, 0)),
    )
    painted = []
    for shape in shapes:
        canvas = Image.new("RGBA", (240, 180))
        Painter(camera, canvas, glow=False).paint([shape])
        painted.append(np.asarray(canvas)[..., 0] > 127)
    assert painted[0].sum() > 2000
    assert (painted[0] != painted[1]).sum() < 0.05 * painted[0].sum()  # only along the edges
    assert not painted[2].any()  # seen from behind
