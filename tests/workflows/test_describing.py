"""Descriptors in the formats of other programs, read back as those read them; a run that was killed goes on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tfplaces.common.errors import UserError
from tfplaces.datasets import ImageFiles, Images, load_dataset
from tfplaces.evaluation.unit_descriptors import UnitDescriptors
from tfplaces.workflows import describing


class Corners:
    """Describes an image by the colours of its corners, not of unit length."""

    input_size, descriptor_dim = (8, 12), 12

    def __init__(self) -> None:
        self.images = 0
        self.before: Callable[[], None] = lambda: None

    def describe(self, images: np.ndarray) -> np.ndarray:
        self.before()
        self.images += len(images)
        return images[:, ::7, ::11].reshape(len(images), -1).astype(np.float32) + 1


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Images]:
    """Five database photos in two folders, one of them a phone's that lies on its side, and three queries."""
    rng = np.random.default_rng(0)
    for name in ("db/a/0.png", "db/a/1.png", "db/b/0.png", "db/b/1.png", "db/b/2.jpg", "q/0.png", "q/1.png", "q/2.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif} if name.endswith(".jpg") else {}
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(path, **options)
    database = ["a/0.png", "a/1.png", "b/0.png", "b/1.png", "b/2.jpg"]
    return {
        "database": ImageFiles(str(tmp_path / "photos" / "db"), database),
        "queries": ImageFiles(str(tmp_path / "photos" / "q"), ["0.png", "1.png", "2.png"]),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"one")
    return path


def expected(parts: dict[str, Images]) -> np.ndarray:
    read = [images.read(i, (8, 12)) for images in parts.values() for i in range(len(images))]
    rows = Corners().describe(np.stack(read))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("float16", 5e-4)])
def test_an_array_that_numpy_maps(dtype: str, error: float, parts, model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(describing, "_BLOCK", 12 * 3)
    with describing.described(Corners(), model, parts, tmp_path / "work") as found:
        describing.write_npy(tmp_path / "x.npy", found, dtype)
        assert found.normalized == 8
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert rows.dtype == dtype and rows.shape == (8, 12)
    np.testing.assert_allclose(rows, expected(parts), atol=error)
    assert not (tmp_path / "work").exists()


def test_the_names_beside(parts, tmp_path: Path) -> None:
    describing.write_names(tmp_path / "x.csv", parts)
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["row", "part", "name"] and rows[1] == ["0", "database", "a/0.png"]
    assert rows[6] == ["5", "queries", "0.png"] and len(rows) == 9


def test_global_features_of_hloc(parts, model: Path, tmp_path: Path) -> None:
    """As hloc reads them: h5py.File(path)[name]["global_descriptor"], names being paths below its image_dir."""
    names, root = describing.hloc_names(parts)
    assert (
        root == str(tmp_path / "photos") and names["database"][0] == "db/a/0.png" and names["queries"][0] == "q/0.png"
    )
    with describing.described(Corners(), model, parts, tmp_path / "work") as found:
        describing.write_hloc(tmp_path / "x.h5", found, "float16", parts, names, (8, 12))
    with h5py.File(tmp_path / "x.h5") as file:
        for row, name in zip(expected(parts), [*names["database"], *names["queries"]], strict=True):
            assert file[name]["global_descriptor"].dtype == np.float16
            np.testing.assert_allclose(file[name]["global_descriptor"][()], row, atol=5e-4)
            # (width, height), of the phone's photo upright.
            assert file[name]["image_size"][()].tolist() == ([30, 40] if name.endswith("jpg") else [40, 30])


def test_drawn_images_have_names_too(tmp_path: Path) -> None:
    dataset = load_dataset("toytown?places=3&split=test")
    parts = describing.parts_of(dataset, "all")
    names, root = describing.hloc_names(parts)
    assert root is None and names["queries"][0] == f"queries/{dataset.queries.names[0]}"
    assert list(describing.parts_of(dataset, "queries")) == ["queries"]
    rows = UnitDescriptors(np.eye(len(dataset.queries)))
    describing.write_hloc(tmp_path / "x.h5", rows, "float32", {"queries": dataset.queries}, names, (48, 64))
    with h5py.File(tmp_path / "x.h5") as file:
        assert file[names["queries"][1]]["image_size"][()].tolist() == [64, 48]


def test_pairs_of_hloc(tmp_path: Path) -> None:
    """No image is paired with itself, and none with an opposite one; else the nearest, best first."""
    names = {"database": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "queries": ["a.jpg", "q/1.jpg"]}
    rows = np.array([[1, 0], [0.9, 0.5], [0, 1], [-1, 0.1], [1, 0], [0.2, 1]])
    assert describing.write_pairs(tmp_path / "pairs.txt", UnitDescriptors(rows), names, 2) == 4
    pairs = [line.split() for line in (tmp_path / "pairs.txt").read_text().splitlines()]
    assert pairs == [["a.jpg", "b.jpg"], ["a.jpg", "c.jpg"], ["q/1.jpg", "c.jpg"], ["q/1.jpg", "b.jpg"]]
    with pytest.raises(UserError, match=r"my photo\.jpg: hloc cannot read pairs of names with spaces"):
        describing.write_pairs(
            tmp_path / "p.txt", UnitDescriptors(rows), {**names, "queries": ["a.jpg", "my photo.jpg"]}, 2
        )
    assert not (tmp_path / "p.txt").exists()


def test_a_run_that_was_interrupted_goes_on(parts, model: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("tfplaces.describers.descriptor_file._SHARD", 2)
    monkeypatch.setattr("tfplaces.describers.describing.read_batches", single)
    first = Corners()

    def stop() -> None:
        if first.images == 5:
            raise KeyboardInterrupt

    first.before = stop
    with pytest.raises(KeyboardInterrupt), describing.described(first, model, parts, tmp_path / "work"):
        pass
    second = Corners()
    with describing.described(second, model, parts, tmp_path / "work") as found:
        np.testing.assert_allclose(found[0:8], expected(parts), atol=1e-6)
        with (
            pytest.raises(UserError, match="work: another run is at work in this folder"),
            describing.described(Corners(), model, parts, tmp_path / "work"),
        ):
            pass
    assert second.images == 4 and "goes on from 4 of 8 images" in capsys.readouterr().out


def single(images: Images, size: tuple[int, int], indices):
    """As read_batches, one image at a time."""
    return (images.read(i, size)[None] for i in indices)


def test_a_mistake_leaves_nothing(parts, model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "db" / "a" / "0.png").write_bytes(b"no image")
    with (
        pytest.raises(UserError, match=r"0\.png: cannot be read as an image"),
        describing.described(Corners(), model, parts, tmp_path / "work"),
    ):
        pass
    assert not (tmp_path / "work").exists()
