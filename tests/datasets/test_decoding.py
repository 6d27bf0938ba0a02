"""From a file to pixels, step by step of the written rule. Pillow is the definition, numpy says what upright means."""

from __future__ import annotations

import io
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tfplaces.common.errors import UserError
from tfplaces.datasets import load_image
from tfplaces.datasets.decoding import MAX_COEFFICIENT_BYTES, MAX_PIXELS

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


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.tif"])
def test_every_kind_is_turned_upright(name: str, orientation: int, tmp_path: Path) -> None:
    """Each quarter has a colour of its own, and losses of a JPEG are small."""
    quarters = np.kron([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [200, 200, 30]]], np.ones((16, 32, 1)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quarters.astype(np.uint8)).save(tmp_path / name, exif=exif)
    actual, expected = load_image(tmp_path / name), UPRIGHT[orientation](quarters)
    assert actual.shape == expected.shape and np.abs(actual - expected).mean() < 6


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("stored", "size", "decoded"),
    # (width, height) stored; upright (height, width) asked for, with orientations to 4 and from 5; what is decoded.
    [
        ((320, 240), ((15, 20), (20, 15)), (40, 30)),
        ((320, 240), ((16, 20), (20, 16)), (80, 60)),  # an eighth of the height would be less than twice 16
        ((320, 240), ((30, 80), (80, 30)), (160, 120)),
        ((320, 240), ((60, 30), (30, 60)), (160, 120)),
        ((320, 240), ((61, 30), (30, 61)), (320, 240)),
        ((321, 239), ((29, 20), (20, 29)), (81, 60)),  # rounded up
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_twice_the_size(
    stored: tuple[int, int],
    size: tuple[tuple[int, int], tuple[int, int]],
    decoded: tuple[int, int],
    orientation: int,
    tmp_path: Path,
) -> None:
    wanted = size[orientation >= 5]
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(1).integers(0, 256, (stored[1], stored[0], 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", exif=exif)
    image = Image.open(tmp_path / "a.jpg")
    scale = round(stored[0] / decoded[0])
    image.draft("RGB", (stored[0] // scale, stored[1] // scale))
    assert image.size == decoded
    upright = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](np.asarray(image))))
    expected = np.asarray(upright.resize(wanted[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(load_image(tmp_path / "a.jpg", wanted), expected)


def test_with_a_box_or_without_a_size_a_jpeg_is_decoded_in_full(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).resize((320, 240)).save(tmp_path / "a.jpg")
    full = Image.open(tmp_path / "a.jpg")
    np.testing.assert_array_equal(load_image(tmp_path / "a.jpg"), full)
    expected = full.crop((10, 20, 310, 230)).resize((4, 3), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(load_image(tmp_path / "a.jpg", (3, 4), (10, 20, 310, 230)), expected)


def test_a_photo_of_a_phone_may_have_any_number_of_pixels_if_it_is_reduced(tmp_path: Path) -> None:
    """Grey in one scan; 200 megapixels."""
    Image.new("L", (16384, 12288), 77).save(tmp_path / "a.jpg", quality=30)
    assert 4 * MAX_PIXELS < 16384 * 12288
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_image(tmp_path / "a.jpg", (60, 80)), np.full((60, 80, 3), 77))
    with pytest.raises(UserError, match=r"16384 x 12288 pixels to decode .*; give a size to which it is reduced"):
        load_image(tmp_path / "a.jpg")


def test_a_progressive_jpeg_needs_memory_for_its_coefficients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes a coefficient: with 4:2:0 sampling, 64 x 48 pixels have 64 * 48 * 1.5 of them."""
    Image.fromarray(PIXELS).resize((64, 48)).save(tmp_path / "a.jpg", progressive=True, subsampling="4:2:0")
    assert MAX_COEFFICIENT_BYTES >= 200_000_000 * 1.5 * 2  # the largest photos of phones
    for limit, refused in ((64 * 48 * 3, False), (64 * 48 * 3 - 1, True)):
        monkeypatch.setattr("tfplaces.datasets.decoding.MAX_COEFFICIENT_BYTES", limit)
        if refused:
            with pytest.raises(UserError, match="a progressive JPEG of so many pixels needs 9,216 bytes"):
                load_image(tmp_path / "a.jpg", (4, 6))
        else:
            assert load_image(tmp_path / "a.jpg", (4, 6)).shape == (4, 6, 3)
    Image.fromarray(PIXELS).resize((64, 48)).save(tmp_path / "a.jpg", subsampling="4:2:0")
    assert load_image(tmp_path / "a.jpg", (4, 6)).shape == (4, 6, 3)


OTHER = Image.fromarray(255 - PIXELS)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif", "a.webp", "a.mpo"])
def test_of_several_pictures_the_first_is_read(name: str, tmp_path: Path) -> None:
    """Animations, pages, and the second picture that phones put into a JPEG."""
    options = {"lossless": True} if name == "a.webp" else {"quality": 100, "subsampling": 0} if name == "a.mpo" else {}
    Image.fromarray(PIXELS).save(tmp_path / name, save_all=True, append_images=[OTHER], **options)
    first = Image.fromarray(PIXELS).quantize(256) if name == "a.gif" else Image.open(tmp_path / name)
    expected = np.asarray(first.convert("RGB"), int)
    actual = load_image(tmp_path / name)
    assert np.abs(actual - expected).mean() < 8 < np.abs(255 - actual - expected).mean()


def test_colours_that_are_transparent_stay(tmp_path: Path) -> None:
    """A palette with one transparency for each colour, and one that is transparent as a whole."""
    colours = np.reshape(PALETTE.getpalette(), (-1, 3))[np.asarray(PALETTE)]
    for transparency in (bytes(range(16)), 3):
        PALETTE.save(tmp_path / "a.png", transparency=transparency)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(load_image(tmp_path / "a.png"), colours)


@pytest.mark.parametrize("value", [np.int32(70000), np.float32(0.5)])
def test_grey_in_32_bits_is_refused(value: np.int32 | np.float32, tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), value)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: grey in 32 bits .*; scale it and save it as 8 or 16 bits"):
        load_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        b"\x89HDF\r\n\x1a\n" + bytes(99),
        b"\xc5\xd0\xd3\xc6" + bytes(99),
        b"#define a_width 9\n#define a_height 9\nstatic char a[] = {0};",
    ],
)
def test_kinds_that_nobody_asked_for_are_not_opened(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostScript would start a program."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read as an image \(its content is none of JPEG, PNG"):
        load_image(tmp_path / "a.jpg", (4, 5))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # by Pillow, where the test reads the file itself
def test_damaged_exif_does_no_harm(tmp_path: Path) -> None:
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\0\xff" + bytes(20), b"Exif\0\0garbage", b"Exif\0\0"):
        Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif)
        np.testing.assert_array_equal(load_image(tmp_path / "a.jpg"), Image.open(tmp_path / "a.jpg"))


@pytest.mark.parametrize("mode", ["1", "I;16"])
def test_a_small_file_that_says_it_is_large_is_not_unrolled(mode: str, tmp_path: Path) -> None:
    """A TIFF of one strip and eight million rows took Pillow seconds."""
    Image.new(mode, (17, 9)).save(tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    tag = b"\x01\x01\x04\x00\x01\x00\x00\x00"  # the height, one number of 32 bits
    assert data.count(tag + b"\x09") == 1
    data = data.replace(tag + b"\x09\0\0\0", tag + (8519689).to_bytes(4, "little"))
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match="17 x 8519689 pixels to decode are more than"):
        load_image(tmp_path / "a.tif", (4, 5))
