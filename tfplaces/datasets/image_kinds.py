"""Which kinds of image are read, and by which endings a folder's images are known.

Pillow is given these kinds and no other. It knows forty more, among them PostScript, for which it starts a program.
"""

from __future__ import annotations

import functools
import importlib.util

from PIL import Image, features

# Pillow's name of the kind: its endings. An image is opened by its content, whatever its ending is.
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2",),
}

# What Pillow may have been built without, by the name that `PIL.features` gives it.
_OPTIONAL = {"JPEG": "jpg", "WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}


def _is_read(kind: str) -> bool:
    if kind == "HEIF":
        return importlib.util.find_spec("pillow_heif") is not None
    # Not features.check(), which warns of what an older Pillow has not heard of.
    return kind not in _OPTIONAL or _OPTIONAL[kind] in features.get_supported()


KINDS = tuple(kind for kind in _ENDINGS if _is_read(kind))
EXTENSIONS = tuple(ending for kind in KINDS for ending in _ENDINGS[kind])

_RAW = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw")
_FILMS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".3gp")

# What to say about endings that are not read.
_ADVICE = {
    **dict.fromkeys(_ENDINGS["HEIF"], "pip install pillow-heif"),
    **dict.fromkeys(_ENDINGS["AVIF"], "pip install 'pillow>=11.3'"),
    **dict.fromkeys(_RAW, "a camera's raw image"),
    **dict.fromkeys(_FILMS, "a film"),
}


def advice_for(ending: str) -> str:
    """What to say about images of an ending that is not read; empty for an ending that nothing is known of."""
    return _ADVICE.get(ending.lower(), "")


@functools.cache
def register_kinds() -> None:
    """Makes Pillow load what reads `KINDS`."""
    Image.init()
    if "HEIF" in KINDS:
        import pillow_heif

        pillow_heif.register_heif_opener()
