"""From a file to pixels. One written rule, the same with and without TensorFlow, that programs on devices follow too.

1. The file is a regular file of at most 512 MiB, of a kind in `tfplaces.datasets.image_kinds`, known by its content.
   Of several pictures in a file (animations, pages, the second picture of a phone's MPO) the first is read.
2. The header is looked at before anything is decoded. A JPEG that is resized may have any number of pixels: libjpeg
   decodes it at 1/8, 1/4 or 1/2 of its width and height, the smallest at which both are still at least twice the size
   asked for, or else in full. What is decoded then, of a JPEG or of another kind, has at most 50 million pixels.
   A JPEG in several scans (a progressive one), of which libjpeg keeps all coefficients, may need 640 MB for them: 213
   million pixels with the usual 4:2:0 sampling. A file that is cut off is refused, never filled up with grey.
3. The picture is turned upright by its EXIF orientation; EXIF that is damaged otherwise does no harm.
4. It becomes RGB with 8 bits. Grey is repeated. Of 16 bits the upper 8 count, of grey with 12 bits too. Transparency is
   dropped, the colour below it stays. CMYK, YCCK and palettes are converted as Pillow does; colour profiles are not
   applied. Grey in 32 bits, whole numbers or floating point, is refused: nothing in such a file says what is white.
5. It is resized to the height and width asked for by Pillow's BILINEAR, a triangle filter that is widened when an image
   is reduced (antialiasing). The aspect ratio is not kept.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from tfplaces.common.errors import UserError
from tfplaces.common.files import open_regular
from tfplaces.common.text import printable_name, printable_reason
from tfplaces.datasets.image_kinds import KINDS, register_kinds

MAX_FILE_BYTES = 2**29
MAX_PIXELS = 50_000_000
MAX_COEFFICIENT_BYTES = 640_000_000

# Larger ones are decoded one at a time, so that memory does not grow with the number of threads.
_LARGE_PIXELS = 16_000_000
_one_large_at_a_time = threading.Lock()

# What turns stored pixels upright, by the EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(
    path: str | os.PathLike,
    size: tuple[int, int] | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Reads an image file by the rule in this module's description: cropped, upright, RGB, resized.

    Args:
        path: the file.
        size: (height, width) in pixels to which the upright image is resized; None for the size in the file, or of
            the box.
        box: (left, top, right, bottom) in pixels as they are stored (of a TIFF: upright), inside the image, right and
            bottom exclusive; None for the whole image. With a box a JPEG is decoded in full.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        UserError: the file is missing, is no image, is damaged, too large, or of a kind that has no defined colours.
    """
    with open_image(path) as image:
        orientation = _orientation(image)
        if size is not None and box is None and isinstance(image, JpegImageFile):
            height, width = (size[1], size[0]) if orientation >= 5 else size
            image.draft(None, (2 * width, 2 * height))
        pixels = _check_pixels(path, image, reducible=size is None or box is not None)
        with _one_large_at_a_time if pixels > _LARGE_PIXELS else contextlib.nullcontext(), _damage_is_named(path):
            part: Image.Image = image if box is None else image.crop(box)
            part.load()
            # Pillow turns a TIFF upright itself.
            if orientation in _UPRIGHT and image.format != "TIFF":
                part = part.transpose(_UPRIGHT[orientation])
            return resize(_to_rgb(path, part, image), size)


def upright_size(path: str | os.PathLike) -> tuple[int, int]:
    """The (height, width) in pixels of an image file once it is upright; its pixels are not decoded.

    Raises:
        UserError: the file is missing or is no image.
    """
    with open_image(path) as image:
        return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def resize(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """An RGB Pillow image as uint8 `[height, width, 3]`, resized to size (height, width) unless that is None."""
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


@contextlib.contextmanager
def open_image(path: str | os.PathLike) -> Iterator[Image.Image]:
    """Opens an image with Pillow and reads its header, not its pixels: `size` is (width, height) as stored.

    `PIL.Image.open` is not used because it tries other kinds, and refuses the photos of phones as bombs before they
    can be reduced.

    Raises:
        UserError: the file is missing or is no image.
    """
    register_kinds()
    with open_regular(path, MAX_FILE_BYTES) as file:
        with _damage_is_named(path):
            image = _identify(path, file)
        with image:
            yield image


def _identify(path: str | os.PathLike, file: IO[bytes]) -> Image.Image:
    start = file.read(16)
    for kind in KINDS:
        factory, accepts = Image.OPEN[kind]
        if accepts is None or accepts(start) is True or (kind == "WEBP" and start[8:12] == b"WEBP"):
            file.seek(0)
            # Only the first picture of a JPEG is wanted, so its factory, which looks for more, is passed by.
            return JpegImageFile(file) if kind == "JPEG" else factory(file, "")
    raise UserError(
        f"{_shown(path)}: cannot be read as an image (its content is none of {', '.join(KINDS)}); "
        "save it as JPEG or PNG"
    )


def _check_pixels(path: str | os.PathLike, image: Image.Image, reducible: bool) -> int:
    """Refuses what would need too much memory, before it is decoded.

    Returns:
        The pixels that will be decoded, or as many as need the same memory.
    """
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        advice = "give a size to which it is reduced" if reducible and image.format == "JPEG" else "make it smaller"
        raise UserError(
            f"{_shown(path)}: {image.width} x {image.height} pixels to decode are more than {MAX_PIXELS:,}; {advice}"
        )
    if isinstance(image, JpegImageFile) and image.fp is not None:
        coefficients = _coefficient_bytes(image.fp)
        if coefficients > MAX_COEFFICIENT_BYTES:
            raise UserError(
                f"{_shown(path)}: a progressive JPEG of so many pixels needs {coefficients:,} bytes of memory, more "
                f"than {MAX_COEFFICIENT_BYTES:,}; save it as a baseline JPEG or make it smaller"
            )
        pixels = max(pixels, coefficients // 4)
    return pixels


def _coefficient_bytes(file: IO[bytes]) -> int:
    """What libjpeg keeps of a JPEG that comes in several scans: 2 bytes a coefficient; 0 for a JPEG in one scan."""
    position = file.tell()
    try:
        file.seek(2)
        frame = 0
        progressive = False
        components = 0
        while True:
            while (marker := file.read(1)) and marker != b"\xff":
                pass
            while marker == b"\xff":
                marker = file.read(1)
            if not marker:
                return 0  # libjpeg will say what is wrong
            if marker == b"\0" or b"\xd0" <= marker <= b"\xd8" or marker == b"\x01":
                continue
            (length,) = struct.unpack(">H", file.read(2))
            content = file.read(length - 2)
            if b"\xc0" <= marker <= b"\xcf" and marker not in b"\xc4\xc8\xcc":
                progressive = marker in b"\xc2\xc6\xca\xce"
                height, width, components = struct.unpack_from(">HHB", content, 1)
                samplings = [content[i] for i in range(7, 6 + 3 * components, 3)]
                across, down = max(s >> 4 for s in samplings), max(s & 15 for s in samplings)
                # Rounded up to whole units of the sampling.
                wide, high = -(-width // (8 * across)) * 8, -(-height // (8 * down)) * 8
                frame = 2 * sum(wide * (s >> 4) * high * (s & 15) for s in samplings)
            elif marker == b"\xda":
                return frame if progressive or content[0] < components else 0
    except (struct.error, IndexError, ValueError, ZeroDivisionError):
        return 0  # damaged: libjpeg will say so
    finally:
        file.seek(position)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none that can be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many kinds; the pixels are sound all the same
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _to_rgb(path: str | os.PathLike, image: Image.Image, opened: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue; `opened` has the tags of the file."""
    if image.mode.startswith("I;16") or (image.mode == "I" and opened.format in ("PNG", "PPM")):
        bits, white_is_zero = 16, False
        if opened.format == "TIFF":
            tags = opened.tag_v2  # type: ignore[attr-defined]
            bits, white_is_zero = tags[ExifTags.Base.BitsPerSample][0], tags.get(262) == 0
        grey = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
        image = Image.fromarray(255 - grey if white_is_zero else grey)
    elif image.mode in ("I", "F"):
        raise UserError(
            f"{_shown(path)}: grey in 32 bits (Pillow's mode {image.mode}) does not say which value is white; scale it "
            "and save it as 8 or 16 bits"
        )
    elif image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # as it is, Pillow would warn; the colours are the same
    return image.convert("RGB")


@contextlib.contextmanager
def _damage_is_named(path: str | os.PathLike) -> Iterator[None]:
    """Around calls of Pillow, which raises many kinds of errors for damaged files."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{_shown(path)}: cannot be read as an image ({printable_reason(error)})") from None


def _shown(path: str | os.PathLike) -> str:
    return printable_name(os.fsdecode(path))
