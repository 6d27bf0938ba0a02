"""Descriptors on the disk: a run that was interrupted, or killed, goes on; what has changed is described anew."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfplaces.datasets import Concatenation, ImageFiles, Images, Subset, cached, load_dataset
from tfplaces.describers import DescriptorFile, describe_images
from tfplaces.describers.descriptor_file import images_digest, reserve

COUNT = 600


class Numbered(Images):
    """Image k is of colour k; counts what is read."""

    def __init__(self, count: int = COUNT):
        self.names = [f"{k}.png" for k in range(count)]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return np.full((*size, 3), [index % 256, index // 256, 0], np.uint8)


class Colour:
    """Describes an image by its colour; does something before one of its calls."""

    input_size, descriptor_dim = (2, 3), 3

    def __init__(self, before: Callable[[], None] | None = None, call: int = -1):
        self.before, self.call, self.calls, self.images = before, call, 0, 0

    def describe(self, images: np.ndarray) -> np.ndarray:
        if self.calls == self.call:
            assert self.before is not None
            self.before()
        self.calls += 1
        self.images += len(images)
        return images[:, 0, 0].astype(np.float32)


def opened(folder: Path, images: Images | None = None, model: str = "a", size: tuple[int, int] = (2, 3)):
    return DescriptorFile(folder, model, size, Numbered() if images is None else images, 3)


def interrupt() -> None:
    raise KeyboardInterrupt


def killed() -> None:
    """Ends the process as a kill does, without any clean-up."""
    os._exit(9)


EXPECTED = np.array([[k % 256, k // 256, 0] for k in range(COUNT)], np.float32)


def test_descriptors_of_one_run(tmp_path: Path) -> None:
    file = opened(tmp_path / "d")
    found = describe_images(Colour(), Numbered(), out=file)
    assert isinstance(found, np.memmap) and file.done == COUNT
    np.testing.assert_array_equal(found, EXPECTED)
    again = Colour()  # all are there
    np.testing.assert_array_equal(describe_images(again, Numbered(), out=opened(tmp_path / "d")), EXPECTED)
    assert again.images == 0
    file.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("call", "done"), [(0, 0), (7, 0), (8, 256), (15, 256), (16, 512), (18, 512)])
def test_an_interrupted_run_goes_on(call: int, done: int, tmp_path: Path) -> None:
    """Batches have 32 images, shards 256: at most 255 images are described again."""
    with pytest.raises(KeyboardInterrupt):
        describe_images(Colour(interrupt, call), Numbered(), out=opened(tmp_path))
    file, describer = opened(tmp_path), Colour()
    assert file.done == done
    np.testing.assert_array_equal(describe_images(describer, Numbered(), out=file), EXPECTED)
    assert describer.images == COUNT - done


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.describers.test_descriptor_file import *; "
        "describe_images(Colour(killed, 12), Numbered(), out=opened(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == 9
    file, describer = opened(tmp_path), Colour()
    np.testing.assert_array_equal(describe_images(describer, Numbered(), out=file), EXPECTED)
    assert describer.images == COUNT - 256


@pytest.mark.parametrize("change", [{"model": "b"}, {"size": (3, 2)}, {"images": Numbered(COUNT + 1)}])
def test_what_is_of_something_else_begins_anew(change: dict, tmp_path: Path) -> None:
    describe_images(Colour(), Numbered(), out=opened(tmp_path))
    assert opened(tmp_path, **change).done == 0
    assert opened(tmp_path).done == 0  # it is gone


@pytest.mark.parametrize("state", ["", "{", "[]", '{"identity": 3}', '{"identity": "", "done": 1000000}'])
def test_a_damaged_state_begins_anew(state: str, tmp_path: Path) -> None:
    describe_images(Colour(), Numbered(), out=opened(tmp_path))
    (tmp_path / "state.json").write_text(state)
    assert opened(tmp_path).done == 0


def test_descriptors_cut_short_begin_anew(tmp_path: Path) -> None:
    describe_images(Colour(), Numbered(), out=opened(tmp_path))
    os.truncate(tmp_path / "vectors", 1000)
    assert opened(tmp_path).done == 0


def test_images_are_known_by_name_size_and_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
        os.utime(tmp_path / name, (1, 1))
    images = ImageFiles(str(tmp_path), ["a.png", "b.png"])
    before = images_digest(images)
    assert images_digest(ImageFiles(str(tmp_path), ["a.png", "b.png"])) == before
    assert images_digest(Concatenation(Subset(images, [0]), Subset(images, [1]))) == before
    assert images_digest(ImageFiles(str(tmp_path), ["b.png", "a.png"])) != before
    os.utime(tmp_path / "b.png", (1, 2))
    assert images_digest(images) != before
    assert images_digest(ImageFiles(str(tmp_path), ["a.png", "missing.png"])) != before
    seeds = [cached(load_dataset(f"toytown?places=2&seed={seed}")).database for seed in (0, 1)]
    assert images_digest(seeds[0]) != images_digest(seeds[1])


def test_no_images(tmp_path: Path) -> None:
    assert describe_images(Colour(), Numbered(0), out=opened(tmp_path, Numbered(0))).shape == (0, 3)


def test_without_fallocate_space_is_taken_by_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    path = tmp_path / "vectors"
    reserve(str(path), 2_500_000)
    assert path.read_bytes() == bytes(2_500_000)
