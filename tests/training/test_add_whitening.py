"""The whitening of a network, fitted on images."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.datasets import Images, PlaceDataset, cached, load_dataset
from tfplaces.describers import descriptor_file
from tfplaces.describers.keras import KerasDescriber
from tfplaces.evaluation import evaluate
from tfplaces.models import PlaceNet
from tfplaces.training import add_whitening
from tfplaces.training.whitening import replace

SIZE = (48, 64)


class Noise(Images):
    """Noise of one colour range; counts what is read."""

    def __init__(self, count: int, low: int, high: int):
        self.names = [str(k) for k in range(count)]
        self.low, self.high, self.reads = low, high, []

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        self.reads.append(index)
        return np.random.default_rng(index).integers(self.low, self.high, (*size, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> PlaceNet:
    keras.utils.set_random_seed(0)
    return PlaceNet("squeezenet", clusters=3, input_size=SIZE, cut="fire2")


@pytest.mark.parametrize(
    "count, dimensions, message",
    [
        (5, 5, "cannot be fitted on 5 images: at most 4"),
        (5, 4096, "cannot be fitted on 5 images: at most 4"),
        (500, 385, "NetVLAD[0-9]+ has 384"),
    ],
)
def test_too_many_dimensions_are_refused_before_any_work(
    model: PlaceNet, count: int, dimensions: int, message: str
) -> None:
    images = Noise(count, 0, 256)
    with pytest.raises(ValueError, match=message):
        add_whitening(model, dimensions, [images])
    assert images.reads == []


def test_whitened_descriptors(model: PlaceNet) -> None:
    """With a power of a half vectors of the fitting images have mean zero and covariance ∝ identity before the last
    normalisation."""
    sets = [Noise(20, 0, 256), Noise(15, 0, 128)]
    whitened = add_whitening(model, 6, sets, power=0.5)
    assert whitened.descriptor_dim == 6
    assert whitened.config == {**model.config, "whitening": 6, "whitening_power": 0.5}
    for layer in model.layers:
        for ours, theirs in zip(whitened.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    images = np.concatenate([[s.read(i, SIZE) for i in range(len(s))] for s in sets])
    vectors = KerasDescriber(model).describe(images) @ whitened.get_layer("whitening").kernel.numpy()
    vectors += whitened.get_layer("whitening").bias.numpy()
    covariance = np.cov(vectors.T)
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-3 * np.sqrt(covariance[0, 0]))
    np.testing.assert_allclose(covariance / covariance[0, 0], np.eye(6), atol=0.02)
    again = add_whitening(whitened, 3, sets, power=0.5)  # in place of the one it had
    assert again.descriptor_dim == 3
    ours, theirs = (m.get_layer("whitening").kernel.numpy()[:, :3] for m in (again, whitened))
    cosines = np.sum(ours * theirs, 0) / np.linalg.norm(ours, axis=0) / np.linalg.norm(theirs, axis=0)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-3)


def test_replace_copies_what_fits(model: PlaceNet) -> None:
    other = replace(model, clusters=5)
    np.testing.assert_array_equal(other.get_layer("conv1").kernel.numpy(), model.get_layer("conv1").kernel.numpy())
    assert other.get_layer("netvlad").centroids.shape == (5, 128) and model.config["clusters"] == 3


def test_the_power_is_the_best_on_validation_places(model: PlaceNet, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 0, 0.25 and 0.5; it is stored in the network, and the scores are printed."""
    town = cached(load_dataset("toytown?places=8"))
    scores = {
        power: evaluate(KerasDescriber(add_whitening(model, 6, [town.database], power)), town).map
        for power in (0, 0.25, 0.5)
    }
    assert len(set(scores.values())) == 3
    chosen = add_whitening(model, 6, [town.database], power=0.1, validation=town)
    assert scores[chosen.config["whitening_power"]] == max(scores.values())
    assert chosen.get_layer("whitening").power == chosen.config["whitening_power"]
    assert evaluate(KerasDescriber(chosen), town).map == max(scores.values())
    printed = ", ".join(f"{score:.1f} with {power}" for power, score in scores.items())
    assert f"mAP on {town.spec} {printed}".replace("with 0,", "with 0.0,") in capsys.readouterr().out


def test_validation_without_positives_is_refused_before_any_work(model: PlaceNet) -> None:
    images = Noise(10, 0, 256)
    unlabelled = PlaceDataset("yard", images, images, [[] for _ in range(10)])
    with pytest.raises(ValueError, match="yard: no query has a positive"):
        add_whitening(model, 3, [images], validation=unlabelled)
    assert images.reads == []


def test_vectors_lie_where_they_are_told_to_and_are_removed(
    model: PlaceNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their file has its whole space before anything is described: 384 dimensions of 4 bytes for 10 images."""
    found = []

    class Watching(Noise):
        def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
            found.extend(os.stat(path) for path in tmp_path.glob(".writing-*/vectors"))
            return super().read(index, size)

    add_whitening(model, 3, [Watching(10, 0, 256)], folder=tmp_path)
    assert {status.st_size for status in found} == {10 * 384 * 4}
    assert all(512 * status.st_blocks >= status.st_size for status in found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("has_fallocate", [True, False])
def test_a_full_disk_is_one_line(
    model: PlaceNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_fallocate: bool
) -> None:
    """Not the death of the process, which is what writing to a mapped file on a full disk ends in."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if has_fallocate:
        monkeypatch.setattr(os, "posix_fallocate", full)
    else:
        monkeypatch.delattr(os, "posix_fallocate")
        monkeypatch.setattr(descriptor_file, "open", FullDisk, raising=False)
    images = Noise(10, 0, 256)
    message = rf"{tmp_path}: no room for the 0\.0 MB of descriptors .*No space left on device.*another folder"
    with pytest.raises(ValueError, match=message):
        add_whitening(model, 3, [images], folder=tmp_path)
    assert images.reads == [] and list(tmp_path.iterdir()) == []


class FullDisk:
    """A file on a disk that is full."""

    def __init__(self, *_: object):
        pass

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, _: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Interrupted(Noise):
    """Is interrupted at one image."""

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        if index == 290:
            raise KeyboardInterrupt
        return super().read(index, size)


def test_an_interrupted_whitening_goes_on(model: PlaceNet, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The first 256 of 300 images are not described again, and the whitening is that of one run without a break."""
    with pytest.raises(KeyboardInterrupt):
        add_whitening(model, 3, [Interrupted(300, 0, 256)], work_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["whitening"]
    images = Noise(300, 0, 256)
    found = add_whitening(model, 3, [images], work_dir=tmp_path)
    assert sorted(images.reads) == list(range(256, 300))
    assert "whitening: goes on from 256 of 300 images" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    whole = add_whitening(model, 3, [Noise(300, 0, 256)])
    for ours, theirs in zip(found.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_network_begins_anew(model: PlaceNet, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        add_whitening(model, 3, [Interrupted(300, 0, 256)], work_dir=tmp_path)
    other = replace(model)
    other.get_layer("netvlad").set_weights([2 * weights for weights in model.get_layer("netvlad").get_weights()])
    images = Noise(300, 0, 256)
    add_whitening(other, 3, [images], work_dir=tmp_path)
    assert sorted(images.reads) == list(range(300))
