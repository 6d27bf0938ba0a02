"""The image pipeline, file by file and in batches. Pillow is the definition, numpy says what upright means."""

import concurrent.futures
import gc
import io
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tfplaces.common.errors import UserError
from tfplaces.datasets import CachedImages, ImageFiles, Images, PlaceDataset, cached, load_image
from tfplaces.datasets.images import Room

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), np.uint8)

# What is displayed of stored pixels, by the EXIF orientation: which side the first row and column are on.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), UPRIGHT[orientation](PIXELS))


GREY = PIXELS[..., 0]
PALETTE = Image.fromarray(PIXELS).quantize(16)


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("grey.png", Image.fromarray(GREY), GREY[..., None].repeat(3, -1)),
        ("bits.png", Image.fromarray(GREY > 99), (GREY > 99)[..., None].repeat(3, -1) * np.uint8(255)),
        ("grey16.png", Image.fromarray(GREY.astype(np.uint16) * 257), GREY[..., None].repeat(3, -1)),
        ("dark16.tif", Image.fromarray(GREY.astype(np.uint16) * 256 + 255), GREY[..., None].repeat(3, -1)),
        ("rgba.png", Image.fromarray(np.dstack([PIXELS, GREY])), PIXELS),
        ("grey_alpha.png", Image.fromarray(GREY).convert("LA"), GREY[..., None].repeat(3, -1)),
        ("palette.png", PALETTE, np.reshape(PALETTE.getpalette(), (-1, 3))[np.asarray(PALETTE)]),
        ("palette.gif", PALETTE, np.reshape(PALETTE.getpalette(), (-1, 3))[np.asarray(PALETTE)]),
        # Without black the components are the complements.
        ("cmyk.tif", Image.fromarray(np.dstack([255 - PIXELS, 0 * GREY]), "CMYK"), PIXELS),
        ("rgb.bmp", Image.fromarray(PIXELS), PIXELS),
        ("rgb.webp", Image.fromarray(PIXELS), PIXELS),
    ],
)  # fmt: skip
def test_every_kind_of_image_becomes_rgb(name: str, image: Image.Image, expected: np.ndarray, tmp_path: Path) -> None:
    image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    actual = load_image(tmp_path / name)
    assert actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, expected)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    """A plain orange, so that the JPEG's losses are small."""
    Image.new("CMYK", (16, 16), (0, 100, 200, 0)).save(tmp_path / "a.jpg")
    np.testing.assert_allclose(load_image(tmp_path / "a.jpg"), np.full((16, 16, 3), (255, 155, 55)), atol=6)


@pytest.mark.parametrize("size", [(7, 11), (11, 7), (40, 90), (20, 30), (20, 15)])
def test_resized_by_pillows_bilinear(size: tuple[int, int], tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    expected = Image.fromarray(PIXELS).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    actual = load_image(tmp_path / "a.png", size)
    assert actual.shape == (*size, 3)
    np.testing.assert_array_equal(actual, expected)


def test_reduction_is_antialiased(tmp_path: Path) -> None:
    """A chessboard of single pixels becomes grey when it is made four times smaller."""
    board = np.indices((32, 32)).sum(0) % 2 * np.uint8(255)
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_allclose(load_image(tmp_path / "a.png", (8, 8)), 127.5, atol=2)


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "cannot be read as an image"),
        (b"hello", "cannot be read as an image"),
        (jpeg()[:300], "cannot be read as an image"),
        (jpeg()[:-200], "cannot be read as an image"),
    ],
)
def test_what_is_no_image_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        load_image(path, (8, 8))


def test_a_folder_and_a_bomb_are_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"^{tmp_path}: a folder, not a regular file"):
        load_image(tmp_path)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    monkeypatch.setattr("tfplaces.datasets.decoding.MAX_PIXELS", 99)
    with pytest.raises(ValueError, match=r"a\.png: \d+ x \d+ pixels to decode are more than 99; make it smaller"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP"])
def test_damaged_files(kind: str, tmp_path: Path) -> None:
    """Whatever bytes are changed, there is an image or a ValueError with the file's name."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **({} if kind == "GIF" else {"exif": exif}))
    data, path = file.getvalue(), tmp_path / f"a.{kind.lower()}"
    anywhere = st.one_of(st.integers(0, min(400, len(data)) - 1), st.integers(-300, -1))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(anywhere, st.integers(0, 255)), min_size=1, max_size=4))
    def check(changes: list[tuple[int, int]]) -> None:
        damaged = bytearray(data)
        for position, value in changes:
            damaged[position] = value
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert load_image(path, (4, 6)).shape == (4, 6, 3)
            except ValueError as error:
                assert str(error).startswith(f"{path}: ")

    check()


def test_errors_of_any_kind_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow raises TypeError, among others, for damaged files."""
    Image.fromarray(PIXELS).save(tmp_path / "a.png")

    def damaged(image: Image.Image, *args: object) -> None:
        raise TypeError("'str' object cannot be interpreted as an integer")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", damaged)
    with pytest.raises(ValueError, match=r"a\.png: cannot be read .*'str' object"):
        load_image(tmp_path / "a.png")


class Numbered(Images):
    """Image i is filled with i; notes what is read, and fails for one of them."""

    def __init__(self, count: int, broken: int | None = None):
        self.names = [f"{i}.png" for i in range(count)]
        self.broken = broken
        self.reads: list[int] = []

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        self.reads.append(index)
        time.sleep(0.002 * (index % 3))  # so that threads do not finish in order
        if index == self.broken:
            raise ValueError(f"{self.names[index]}: broken")
        return np.full((*size, 3), index, np.uint8)


def test_image_files(write_photos: Callable[..., Path]) -> None:
    root = write_photos("a.png", "sub/b.png")
    files = ImageFiles(str(root), ["sub/b.png", "a.png"])
    assert len(files) == 2
    np.testing.assert_array_equal(files.read(0, (5, 6)), load_image(root / "sub/b.png", (5, 6)))


def test_cache_keeps_what_fits() -> None:
    """Images of 2 · 3 · 3 = 18 bytes: two fit in 40, the third is read again each time."""
    source = Numbered(3)
    images = CachedImages(source, Room(40))
    assert images.names == source.names
    for _ in range(3):
        for i in range(3):
            np.testing.assert_array_equal(images.read(i, (2, 3)), np.full((2, 3, 3), i))
    assert source.reads == [0, 1, 2, 2, 2]


def test_caches_share_their_room_and_give_it_back() -> None:
    """Images of 18 bytes: two fit in 40, whichever cache they are in."""
    room = Room(40)
    first, second = CachedImages(Numbered(3), room), CachedImages(Numbered(3), room)
    for images in (first, second, second, first):
        images.read(0, (2, 3))
    assert room.left == 4
    second.read(1, (2, 3))
    assert room.left == 4 and second.images.reads == [0, 1]
    del second, images
    gc.collect()
    assert room.left == 22


def test_an_image_is_decoded_once_however_many_threads_ask() -> None:
    class Slow(Numbered):
        def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
            both.wait(5)  # until all have asked, or the cache has let only one ask
            return super().read(index, size)

    source, room, both = Slow(1), Room(1000), threading.Event()
    images = CachedImages(source, room)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(images.read, 0, (2, 3)) for _ in range(8)]
        both.set()
        for image in asked:
            np.testing.assert_array_equal(image.result(), np.zeros((2, 3, 3)))
    assert source.reads == [0] and room.left == 982


def test_what_could_not_be_read_is_read_again() -> None:
    class Once(Numbered):
        def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
            if not self.reads:
                self.reads.append(-1)
                raise UserError("not now")
            return super().read(index, size)

    images = CachedImages(Once(1), Room(100))
    with pytest.raises(UserError, match="not now"):
        images.read(0, (2, 3))
    assert images.read(0, (2, 3)).shape == (2, 3, 3)


def test_cache_knows_sizes() -> None:
    source = Numbered(2)
    images = CachedImages(source)
    assert images.read(1, (2, 3)).shape == (2, 3, 3)
    assert images.read(1, (4, 5)).shape == (4, 5, 3)
    assert images.read(1, [2, 3]).shape == (2, 3, 3)
    assert source.reads == [1, 1]


def test_cached_data_set() -> None:
    dataset = PlaceDataset("x", Numbered(3), Numbered(1), [np.array([0])])
    once = cached(dataset)
    for part in (once.database, once.queries):
        assert isinstance(part, CachedImages)
    assert cached(once) is once
