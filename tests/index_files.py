"""A small index and what makes it, without TensorFlow; run as a program it is killed from within while it works."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tfplaces.datasets import load_dataset
from tfplaces.workflows import indexing

SIZE = (8, 8)


class PixelDescriber:
    """Describes an image by its pixels, in a rotation that a seed gives."""

    precision = "float32"
    input_size = SIZE

    def __init__(self, descriptor_dim: int = 24, seed: int = 0, turned: float = 0.0):
        self.descriptor_dim = descriptor_dim
        rng = np.random.default_rng(seed)
        self._matrix = rng.normal(size=(SIZE[0] * SIZE[1] * 3, descriptor_dim)).astype(np.float32)
        self._matrix += turned * np.random.default_rng(99).normal(size=self._matrix.shape).astype(np.float32)
        self.described = 0

    def describe(self, images: np.ndarray) -> np.ndarray:
        self.described += len(images)
        found = (images.reshape(len(images), -1).astype(np.float32) - 127.5) @ self._matrix
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def write_photo(path: Path, seed: int, size: tuple[int, int] = (12, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)


def write_model(folder: Path, content: bytes = b"a model") -> Path:
    """A file that stands for the describer's."""
    path = folder / "model.keras"
    path.write_bytes(content)
    return path


def act(action: str, folder: Path) -> None:
    """Builds the index of `first`, adds `second` to it, or removes some."""
    output, model = folder / "town.index", folder / "model.keras"
    if action == "remove":
        indexing.remove_places(output, ["1*.png"])
        return
    describer = PixelDescriber()
    if action == "build":
        indexing.build_index(output, model, describer, load_dataset(f"folder:{folder / 'first'}"), "int8", 8)
    else:
        indexing.add_places(output, model, describer, load_dataset(f"folder:{folder / 'second'}"))


def count_events(happens: Callable[[], None]) -> None:
    """Calls a function at every hundred steps of SQLite, and whenever a file is opened, moved or removed."""
    connect = sqlite3.connect

    def watched(*args, **named):
        connection = connect(*args, **named)
        connection.set_progress_handler(lambda: happens(), 100)
        return connection

    sqlite3.connect = watched  # type: ignore[assignment]
    names = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "sqlite3.connect")
    sys.addaudithook(lambda name, _: happens() if name in names else None)


def main(action: str, folder: str, moment: str) -> None:
    """Acts, and is killed at a moment, the number of an event; prints how many there were if it is not."""
    counter = itertools.count(1)
    me = threading.get_ident()
    last = 0

    def happens() -> None:
        nonlocal last
        if threading.get_ident() == me:
            last = next(counter)
            if last == int(moment):
                os.kill(os.getpid(), signal.SIGKILL)

    count_events(happens)
    act(action, Path(folder))
    print(last)


if __name__ == "__main__":
    main(*sys.argv[1:])
