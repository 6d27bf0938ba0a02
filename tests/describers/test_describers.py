"""Opening models as describers; what is particular to `.places` and `.tflite` is tested beside their modules."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfplaces.describers import check_images
from tfplaces.describers.keras import KerasDescriber
from tfplaces.models import PlaceNet
from tfplaces.opening import load_describer

RNG = np.random.default_rng(0)


def images(count: int, height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> PlaceNet:
    return PlaceNet("squeezenet", clusters=2, cut="fire3", input_size=(40, 56))


@pytest.fixture(scope="module")
def path(model: PlaceNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.keras"
    model.save(path)
    return path


@pytest.mark.parametrize("count", [0, 1, 16, 35])
def test_gives_the_models_descriptors(model: PlaceNet, path: Path, count: int) -> None:
    """Whatever the number of images, also beyond the 16 that are run at a time."""
    describer = load_describer(path)
    assert (describer.input_size, describer.descriptor_dim) == ((40, 56), model.descriptor_dim)
    x = images(count, 40, 56)
    descriptors = describer.describe(x)
    assert descriptors.shape == (count, model.descriptor_dim)
    assert descriptors.dtype == np.float32
    if count:
        np.testing.assert_allclose(descriptors, model(x.astype(np.float32)), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)


def test_another_input_size(model: PlaceNet, path: Path) -> None:
    describer = load_describer(path, (32, 64))
    assert describer.input_size == (32, 64)
    x = images(2, 32, 64)
    np.testing.assert_allclose(describer.describe(x), model(x.astype(np.float32)), atol=1e-5)


def test_follows_the_weights(path: Path) -> None:
    """Training changes the model under the describer."""
    describer = load_describer(path)
    x = images(1, 40, 56)
    before = describer.describe(x)
    kernel = describer.model.get_layer("conv1").kernel
    kernel.assign(-kernel)
    assert np.abs(describer.describe(x) - before).max() > 1e-3


def test_a_users_model_is_a_describer() -> None:
    """Without an `input_size` attribute the shape of its input says it."""
    inputs = keras.Input((5, 7, 3))
    describer = KerasDescriber(keras.Model(inputs, layers.GlobalAveragePooling2D()(inputs)))
    assert (describer.input_size, describer.descriptor_dim) == ((5, 7), 3)
    x = images(3, 5, 7)
    np.testing.assert_allclose(describer.describe(x), x.mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    "bad", [np.zeros((1, 40, 56, 3)), images(1, 56, 40), images(1, 40, 56)[0], images(1, 40, 56)[..., :1]]
)
def test_other_images_are_refused(path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[n, 40, 56, 3\]") as error:
        load_describer(path).describe(bad)
    assert str(bad.dtype) in str(error.value)
    assert str(list(bad.shape)) in str(error.value)


def test_check_images_takes_what_is_right() -> None:
    check_images(images(0, 4, 5), (4, 5))
    check_images(images(3, 4, 5), (4, 5))


def test_too_little_memory_is_an_error_of_the_users(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describer = load_describer(path)

    def exhausted(_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nHint: a long one")

    monkeypatch.setattr(describer, "_run", exhausted)
    with pytest.raises(ValueError, match=r"^the model 'place_net.*' needs more memory .* images of 40x56; .*$"):
        describer.describe(images(1, 40, 56))


def test_too_small_an_input_size(path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{path}: the model cannot take images of 6x6$"):
        load_describer(path, (6, 6))


def chain(shape: tuple[int | None, ...], *following: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *following])


def two_outputs() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, [layers.Flatten()(inputs), layers.Flatten()(inputs)])


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        (lambda: chain((5,), layers.Dense(3)), None, "not a model from one RGB image to one descriptor"),
        (lambda: chain((8, 8, 1), layers.Flatten()), None, "not a model from one RGB image"),
        (lambda: chain((8, 8, 3), layers.Conv2D(2, 1)), None, "not a model from one RGB image"),
        (two_outputs, None, "not a model from one RGB image"),
        (lambda: chain((8, 8, 3), layers.Flatten(), layers.Dense(3)), (9, 8), "the model cannot take images of 9x8"),
        (lambda: chain((None, None, 3), layers.GlobalAveragePooling2D()), None, "does not say its input size"),
    ],
)
def test_models_that_describe_nothing(
    model: Callable[[], keras.Model], size: tuple[int, int] | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.keras"
    model().save(path)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
        load_describer(path, size)


@pytest.mark.parametrize("name", ["no.keras", "no.places", "no.tflite", "model.txt"])
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name}: "):
        load_describer(tmp_path / name)
