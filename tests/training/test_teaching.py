"""A small network that learns another's descriptors: its batches, its linear layer in closed form, and its training."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.datasets import Images, PlaceDataset, Subset, cached, load_dataset
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.models import PlaceNet
from tfplaces.training import (
    Checkpoint,
    CropAndJitter,
    TeacherBatches,
    add_whitening,
    fit_head,
    initialize_netvlad,
    teach,
    teaching,
)
from tfplaces.training.head_regression import PENALTIES, ridge_regression

SIZE, TEACHER_SIZE = (48, 64), (64, 64)
DIM = 8


@pytest.fixture(scope="module")
def town() -> PlaceDataset:
    return cached(load_dataset("toytown?places=12"))


def network(town: PlaceDataset, backbone: str, cut: str, size: tuple[int, int], seed: int) -> PlaceNet:
    keras.utils.set_random_seed(seed)
    model = PlaceNet(backbone, clusters=4, input_size=size, cut=cut)
    initialize_netvlad(model, [town.database], sharpness=1.0)
    return add_whitening(model, DIM, [town.database])


class CountedDescriber(KerasDescriber):
    """Counts the images that it describes."""

    described = 0

    def describe(self, images: np.ndarray) -> np.ndarray:
        self.described += len(images)
        return super().describe(images)


@pytest.fixture(scope="module")
def teacher(town: PlaceDataset) -> CountedDescriber:
    return CountedDescriber(network(town, "mobilenet_v1", "conv_pw_3_relu", TEACHER_SIZE, 0))


@pytest.fixture
def student(town: PlaceDataset) -> PlaceNet:
    return network(town, "squeezenet", "fire3", SIZE, 1)


def found(student: PlaceNet, teacher: KerasDescriber, images: Images) -> float:
    """The share of images that the student finds, as the nearest, among those that the teacher has described."""
    ours, theirs = describe_images(KerasDescriber(student), images), describe_images(teacher, images)
    return float(np.mean(np.argmax(ours @ theirs.T, axis=1) == np.arange(len(images))))


def distance(student: PlaceNet, teacher: KerasDescriber, images: Images) -> float:
    """The mean cosine distance of the two descriptors of an image."""
    ours, theirs = describe_images(KerasDescriber(student), images), describe_images(teacher, images)
    return float(np.mean(1 - np.sum(ours * theirs, axis=1)))


def test_a_student_finds_what_its_teacher_has_described(town: PlaceDataset, teacher, student) -> None:
    """Of another backbone, at another input size; in the town that is learned from, and in one that neither has seen.

    By chance one of 48 images is found.
    """
    batches = TeacherBatches(teacher, town.database, SIZE, augmentation=CropAndJitter(0.8, 0.2), versions=2)
    elsewhere = load_dataset("toytown?places=8", "val").database
    taught = fit_head(student, batches)
    assert found(student, teacher, town.database) < 0.3 and found(taught, teacher, town.database) > 0.8
    assert distance(taught, teacher, elsewhere) < 0.7 * distance(student, teacher, elsewhere)
    assert taught.descriptor_dim == DIM and taught.count_params() == student.count_params()
    kernel = taught.get_layer("whitening").kernel.numpy()
    assert np.sqrt(np.mean(kernel**2)) == pytest.approx(0.01, rel=1e-4)


def test_teaching_comes_nearer_and_keeps_the_best(
    town: PlaceDataset, teacher, student, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    batches = TeacherBatches(teacher, town.database, SIZE)
    before = distance(student, teacher, town.database)
    history = teach(student, batches, epochs=6, learning_rate=3e-4)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert [line.endswith(" s left") for line in told] == [True] * 5 + [False]
    assert told[0].startswith(f"epoch 1/6: distance from the teacher {history[1]:.4f} (distance")
    assert len(history) == 7 and distance(student, teacher, town.database) < before - 0.1
    assert distance(student, teacher, batches.held_out[0]) == pytest.approx(min(history), abs=1e-5)
    # Nothing of the training stays with the model.
    assert getattr(student, "optimizer", None) is None
    student.save(tmp_path / "student.keras")


@pytest.mark.slow
def test_teaching_that_was_killed_goes_on_to_the_same_weights(town, teacher, tmp_path: Path) -> None:
    """Killed in the third epoch, and then while the teacher describes for the second time."""

    class Killed(Exception):
        pass

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Killed

    def run(folder: str, *callbacks: keras.callbacks.Callback) -> list[np.ndarray]:
        model = network(town, "squeezenet", "fire3", SIZE, 1)
        batches = TeacherBatches(
            teacher, town.database, SIZE, augmentation=CropAndJitter(), versions=2, folder=tmp_path / folder
        )
        checkpoint = Checkpoint(tmp_path / f"{folder}.npz")
        teach(model, batches, epochs=4, learning_rate=1e-3, callbacks=callbacks, checkpoint=checkpoint)
        return model.get_weights()

    whole = run("whole")
    before = teacher.described
    with pytest.raises(Killed):
        run("killed", Kill())
    described = teacher.described - before
    assert described == 2 * len(town.database)
    for ours, theirs in zip(run("killed"), whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert teacher.described - before == described


def test_a_batch_has_the_versions_that_the_teacher_has_seen(town: PlaceDataset, teacher) -> None:
    """Each image once an epoch, held-out ones never, all versions in turn; at the teacher's size the same part."""
    versions = 3
    batches = TeacherBatches(teacher, town.database, TEACHER_SIZE, augmentation=CropAndJitter(), versions=versions)
    count, seen = len(town.database), []
    held_out = set(batches.held_out[0].indices)
    assert len(held_out) == 4
    for epoch in range(versions):
        chosen = np.concatenate(next(batches.choose(epoch)))
        assert sorted(chosen % count) == sorted(set(range(count)) - held_out)
        seen.append(dict(zip(chosen % count, chosen // count, strict=True)))
    assert all({epoch[i] for epoch in seen} == set(range(versions)) for i in seen[0])
    batches.start_epoch(0)
    images, targets = batches[0]
    np.testing.assert_allclose(teacher.describe(images), targets, atol=1e-5)


def test_the_same_part_of_an_image_at_every_size(town: PlaceDataset) -> None:
    """Enlarged, the small version of a crop looks like the large one, and unlike the next version."""
    versions = teaching.Versions(town.database, CropAndJitter(0.5, 0), 3, 0)
    assert len(versions) == 3 * len(town.database) and len(set(versions.names)) == len(versions)
    index = len(town.database) + 5

    def small(index: int, size: tuple[int, int]) -> np.ndarray:
        image = versions.read(index, size).astype(float)
        return image.reshape(8, size[0] // 8, 8, size[1] // 8, 3).mean((1, 3))

    same = np.abs(small(index, (64, 128)) - small(index, (32, 32))).mean()
    other = np.abs(small(index, (64, 128)) - small(index + len(town.database), (32, 32))).mean()
    assert same < 0.3 * other


@pytest.mark.parametrize("n, dim", [(60, 7), (30, 90)])
def test_ridge_regression_is_that_of_the_normal_equations(n: int, dim: int) -> None:
    """K = (XᵀX + p I)⁻¹ XᵀY of centred X and Y, whichever of n and dim is smaller, with the best of the penalties."""
    rng = np.random.default_rng(0)
    x, true = rng.normal(2, 1, (n, dim)), rng.normal(0, 1, (dim, 3))
    y = x @ true + 4 + rng.normal(0, 2, (n, 3))
    judged = rng.normal(2, 1, (20, dim))
    wanted = judged @ true + 4
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    kernel, bias = ridge_regression(x, y, judged, wanted)
    xc, yc = x - x.mean(0), y - y.mean(0)
    unit = np.square(xc).sum() / min(n, dim)
    kernels = [np.linalg.solve(xc.T @ xc + p * unit * np.eye(dim), xc.T @ yc) for p in PENALTIES]
    given = [(judged - x.mean(0)) @ k + y.mean(0) for k in kernels]
    cosines = [np.mean(np.sum(g * wanted, axis=1) / np.linalg.norm(g, axis=1)) for g in given]
    np.testing.assert_allclose(kernel, kernels[int(np.argmax(cosines))], atol=1e-5)
    np.testing.assert_allclose(x.mean(0) @ kernel + bias, y.mean(0), atol=1e-4)


def test_what_cannot_be_taught_is_said_in_one_line(town: PlaceDataset, teacher, student, monkeypatch) -> None:
    with pytest.raises(ValueError, match="7 images to teach a network on: at least 8"):
        TeacherBatches(teacher, Subset(town.database, range(7)), SIZE)
    with pytest.raises(ValueError, match="0 versions of each image"):
        TeacherBatches(teacher, town.database, SIZE, versions=0)
    batches = TeacherBatches(teacher, town.database, SIZE)
    other = PlaceNet("squeezenet", clusters=4, input_size=SIZE, cut="fire2")
    with pytest.raises(ValueError, match=r"student's descriptors have 512 numbers and the teacher's 8: .*g=8"):
        teach(other, batches, epochs=1)
    monkeypatch.setattr("tfplaces.training.head_regression._MAX_KERNEL", 100)
    with pytest.raises(ValueError, match=r"from the 512 numbers of NetVLAD.* to the teacher's 8 has more than 100"):
        fit_head(student, batches)
