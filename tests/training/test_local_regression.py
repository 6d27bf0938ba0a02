"""A student that takes over its teacher's NetVLAD: what it then is, how near it comes, and where it cannot."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.datasets import PlaceDataset, cached, load_dataset
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.models import PlaceNet, outline
from tfplaces.training import (
    TeacherBatches,
    add_whitening,
    fit_local,
    initialize_netvlad,
    local_form,
    local_regression,
    local_teacher,
)
from tfplaces.training.assembly import sample_local_features
from tfplaces.training.local_regression import PENALTIES, Sums, ridge_of_sums

SIZE = (48, 64)
DIM = 8


@pytest.fixture(scope="module")
def town() -> PlaceDataset:
    return cached(load_dataset("toytown?places=12"))


def make_lengths_alike(model: PlaceNet, town: PlaceDataset) -> None:
    """By a large bias, so that not only the features are linear, but nearly so are those of unit length."""
    features = sample_local_features(model, town.database, 1000)
    model.feature_layer.bias.assign(np.random.default_rng(0).normal(0, 20 * features.std(), 128))


@pytest.fixture(scope="module")
def teacher(town: PlaceDataset) -> KerasDescriber:
    """Features of a linear 1 x 1 convolution from 64 channels to 128, at stride 4."""
    keras.utils.set_random_seed(0)
    model = PlaceNet("mobilenet_v1", clusters=4, input_size=SIZE, cut="conv_pw_2")
    make_lengths_alike(model, town)
    initialize_netvlad(model, [town.database], sharpness=1.0)
    return KerasDescriber(add_whitening(model, DIM, [town.database]))


def untaught(teacher: KerasDescriber, cut: str, size: tuple[int, int] = SIZE) -> PlaceNet:
    """A network with the teacher's first layers and all others at random."""
    keras.utils.set_random_seed(1)
    student = PlaceNet("mobilenet_v1", clusters=4, input_size=size, cut=cut)
    assert isinstance(teacher.model, PlaceNet)
    for layer in teacher.model.backbone_layers[:-1]:
        if layer.weights and layer.name in {each.name for each in student.layers}:
            student.get_layer(layer.name).set_weights(layer.get_weights())
    return student


def distance(student: PlaceNet, teacher: KerasDescriber, town: PlaceDataset) -> float:
    """The mean cosine distance of the two descriptors of an image."""
    ours, theirs = (describe_images(d, town.database) for d in (KerasDescriber(student), teacher))
    return float(np.mean(1 - np.sum(ours * theirs, axis=1)))


@pytest.mark.parametrize(
    ("cut", "last"),
    [
        ("conv_pw_2", "conv_pw_2"),  # has as many channels, and is changed
        ("conv_dw_2_relu", "projection"),  # no convolution: one is put behind it
    ],
)
def test_a_student_that_can_be_its_teacher_becomes_it(cut: str, last: str, teacher, town: PlaceDataset) -> None:
    batches = TeacherBatches(teacher, town.database, SIZE)
    taught = fit_local(untaught(teacher, cut), teacher, batches)
    assert taught.feature_layer.name == last and taught.descriptor_dim == DIM
    assert distance(taught, teacher, town) < 1e-4


def test_a_convolution_of_other_channels_gives_way_to_a_projection(teacher, town: PlaceDataset) -> None:
    """The layer conv_pw_1, from 32 channels to 64, is left out; its 32, at stride 2, are to give 128 at stride 4."""
    student = untaught(teacher, "conv_pw_1")
    taught = fit_local(student, teacher, TeacherBatches(teacher, town.database, SIZE))
    assert taught.config["cut"] == "conv_dw_1_relu"
    assert taught.feature_layer.output.shape == (None, None, None, 128)
    assert "conv_pw_1" not in {layer.name for layer in taught.layers}
    assert distance(taught, teacher, town) < 0.6 < distance(add_whitening(student, DIM, [town.database]), teacher, town)


def test_images_of_another_size(teacher, town: PlaceDataset) -> None:
    """A map of 24 x 16 has to give what the teacher's, of 12 x 16, has there, of images that are not so tall."""
    student = untaught(teacher, "conv_pw_2", (96, 64))
    taught = fit_local(student, teacher, TeacherBatches(teacher, town.database, (96, 64)))
    assert taught.input_size == (96, 64)
    own = add_whitening(student, DIM, [town.database])
    assert distance(taught, teacher, town) < 0.8 * distance(own, teacher, town)


def test_a_teacher_without_a_whitening(teacher, town: PlaceDataset) -> None:
    model = PlaceNet("mobilenet_v1", clusters=4, input_size=SIZE, cut="conv_pw_2", assignment_bias=True)
    model.get_layer("conv1").set_weights(teacher.model.get_layer("conv1").get_weights())
    make_lengths_alike(model, town)
    initialize_netvlad(model, [town.database], sharpness=1.0)
    model.get_layer("netvlad").bias.assign([1, 0, -1, 2])
    bare = KerasDescriber(model)
    taught = fit_local(untaught(bare, "conv_pw_2"), bare, TeacherBatches(bare, town.database, SIZE))
    assert taught.config["whitening"] == 0 and taught.descriptor_dim == 512
    assert distance(taught, bare, town) < 1e-4


@pytest.mark.parametrize(
    ("student", "teacher", "cut", "last"),
    [
        ("mobilenet_v1", "vgg16", "conv_pw_11", "conv_pw_11"),
        ("mobilenet_v1", "alexnet", "conv_dw_11_relu", "projection"),
        ("mobilenet_v2", "vgg16", "block_12_add", "projection"),
        ("efficientnet_lite0", "vgg16", "block_10", "projection"),
        ("squeezenet", "vgg16", "fire9", "projection"),
        ("alexnet", "alexnet", "conv5", "projection"),  # not 1 x 1
    ],
)
def test_where_the_teachers_features_come_from(student: str, teacher: str, cut: str, last: str) -> None:
    large = outline(PlaceNet, teacher, whitening=16)
    taught = outline(PlaceNet, **local_form(outline(PlaceNet, student), large))
    assert (taught.config["cut"], taught.feature_layer.name) == (cut, last)
    assert taught.feature_layer.output.shape[-1] == large.feature_layer.output.shape[-1]
    ours, theirs = ([v.shape for each in net.head_layers for v in each.weights] for net in (taught, large))
    assert ours == theirs


class Table:
    """A describer whose layers nobody knows, as of a `.tflite`."""

    input_size, descriptor_dim = SIZE, DIM

    def describe(self, images: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def test_where_nothing_can_be_taken_over(teacher) -> None:
    student = outline(PlaceNet, "squeezenet", clusters=4, cut="fire2")
    assert local_teacher(student, teacher) is teacher.model
    assert local_teacher(student, Table()) == "the teacher is no network whose layers are known"
    gem = KerasDescriber(PlaceNet("squeezenet", aggregation="gem", cut="fire2", input_size=SIZE))
    assert local_teacher(student, gem) == "the teacher has GeM, and only NetVLAD can be taken over"
    assert local_teacher(outline(PlaceNet, "squeezenet", cut="fire2"), teacher) == (
        "the teacher has NetVLAD4 and the student NetVLAD64: only the same NetVLAD can be taken over"
    )
    with pytest.raises(
        ValueError, match="this student cannot take over the NetVLAD of its teacher: the teacher has Ge"
    ):
        fit_local(PlaceNet("squeezenet", clusters=4, cut="fire2"), gem, None)


def test_a_call_that_was_killed_goes_on_to_the_same_weights(
    teacher, town: PlaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the fifth image and among those that are held out; a file that is damaged is made anew."""

    class Killed(Exception):
        pass

    batches = TeacherBatches(teacher, town.database, SIZE)
    seen: list[int] = []
    limit = len(town.database)

    def add(self: Sums, x: np.ndarray, y: np.ndarray) -> None:
        if len(seen) == limit:
            raise Killed
        seen.append(len(x))
        added(self, x, y)

    def run(folder: str) -> list[np.ndarray]:
        seen.clear()
        return fit_local(untaught(teacher, "conv_pw_1"), teacher, batches, tmp_path / folder).get_weights()

    added = Sums.add
    monkeypatch.setattr(Sums, "add", add)
    monkeypatch.setattr(local_regression, "_BATCH", 1)
    monkeypatch.setattr(local_regression, "_SHARD", 2)
    expected = run("whole")
    assert len(seen) == limit == len(town.database)
    for limit, left in ((5, 44), (42, 2)):  # noqa: B007
        with pytest.raises(Killed):
            run("again")
    limit = 48
    for ours, theirs in zip(run("again"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(seen) == 2
    (tmp_path / "again/learned.npz").write_bytes((tmp_path / "again/learned.npz").read_bytes()[:200])
    for ours, theirs in zip(run("again"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(seen) == 44


def test_the_map_is_that_of_the_normal_equations() -> None:
    """K = (XᵀX + p I)⁻¹ XᵀY of centred X and Y, with the penalty that is best on other pairs; in parts."""
    rng = np.random.default_rng(0)
    x, true = rng.normal(2, 1, (40, 7)), rng.normal(0, 1, (7, 3))
    y = x @ true + 4 + rng.normal(0, 3, (40, 3))
    judged = rng.normal(2, 1, (20, 7))
    wanted = judged @ true + 4
    learned, others = Sums(7, 3), Sums(7, 3)
    for part in (slice(0, 1), slice(1, 30), slice(30, 40)):
        learned.add(x[part], y[part])
    others.add(judged, wanted)
    kernel, bias = ridge_of_sums(learned, others)
    xc, yc = x - x.mean(0), y - y.mean(0)
    unit = xc.var(0).mean()
    kernels = [np.linalg.solve(xc.T @ xc / 40 + p * unit * np.eye(7), xc.T @ yc / 40) for p in PENALTIES]
    errors = [np.sum(((judged - x.mean(0)) @ k + y.mean(0) - wanted) ** 2) for k in kernels]
    np.testing.assert_allclose(kernel, kernels[int(np.argmin(errors))], atol=1e-5)
    np.testing.assert_allclose(x.mean(0) @ kernel + bias, y.mean(0), atol=1e-5)
