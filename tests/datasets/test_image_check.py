"""Every image is read once: what is missing or damaged is named, the rest measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfplaces.common.progress import progress
from tfplaces.datasets import ImageFiles, Toytown
from tfplaces.datasets.base import Images
from tfplaces.datasets.image_check import CheckedImages, check_images, copies


def check(images: Images, decode: bool = True) -> CheckedImages:
    with progress(len(images), "reading", "image") as bar:
        found = check_images(images, decode, bar)
        assert bar.n == len(images)
    return found


@pytest.mark.parametrize("decode", [True, False])
def test_what_is_wrong_is_named_and_the_rest_is_measured(write_photos: Callable[..., Path], decode: bool) -> None:
    names = ["a.png", "cut.jpg", "none.png", "text.png", "empty.jpg", "b.png"]
    root = write_photos(*names, size=(60, 80))
    (root / "none.png").unlink()
    (root / "cut.jpg").write_bytes((root / "cut.jpg").read_bytes()[:-500])  # its header is sound
    (root / "text.png").write_text("no image")
    (root / "empty.jpg").write_bytes(b"")
    found = check(ImageFiles(str(root), names), decode)
    assert found.missing == [2]
    assert [index for index, _ in found.damaged] == ([1, 3, 4] if decode else [3, 4])
    assert all(names[index] in why and "cannot be read as an image" in why for index, why in found.damaged)
    # Height and width.
    sound = [0, 5] if decode else [0, 1, 5]
    assert found.sizes.tolist() == [[60, 80] if index in sound else [0, 0] for index in range(6)]
    assert (found.digests > 0).tolist() == [decode and index in sound for index in range(6)]


def test_pictures_that_are_alike_have_one_number_whatever_their_files_hold(write_photos: Callable[..., Path]) -> None:
    root = write_photos("a.png", "b.png")
    with Image.open(root / "a.png") as image:
        exif = image.getexif()
        exif[271] = "another camera"
        image.save(root / "c.tif", exif=exif)
    for name in ("black.png", "black.bmp"):
        Image.new("RGB", (16, 12)).save(root / name)
    ours = check(ImageFiles(str(root), ["c.tif", "black.bmp", "gone.png"]))
    theirs = check(ImageFiles(str(root), ["b.png", "a.png", "black.png", "a.png"]))
    assert ours.blank.tolist() == [False, True, False]
    assert copies(ours, theirs).tolist() == [2, 0, 0]
    assert copies(theirs, theirs).tolist() == [1, 2, 0, 2]


def test_images_that_are_drawn_have_no_size_and_none_are_alike() -> None:
    found = check(Toytown(places=2).open().queries)
    assert not found.sizes.any() and len(np.unique(found.digests)) == 6
