"""PlaceNet: what it is configured to be, and that it stays so when saved."""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.models import BACKBONES, PlaceNet
from tfplaces.opening import load_model

OPTIONS = {
    "clusters": 3,
    "whitening": 5,
    "whitening_power": 0.5,
    "input_size": (48, 64),
    "cut": "fire3",
    "scale": 0.5,
    "offset": (-1.0, 2.0, 3.5),
    "assignment_bias": True,
}
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> PlaceNet:
    return PlaceNet("squeezenet", **OPTIONS)


def test_is_what_was_asked_for(model: PlaceNet) -> None:
    assert model.input_size == (48, 64)
    assert model.descriptor_dim == 5 == model(IMAGES).shape[1]
    assert model.feature_layer.name == "fire3"
    assert model.feature_layer.output.shape[-1] == 128
    assert model.get_layer("netvlad").use_bias
    fixed = {"backbone": "squeezenet", "aggregation": "netvlad", "norm": "tflite", "name": "place_net"}
    assert model.description == {**fixed, **OPTIONS}
    assert model.get_config() == {**model.description, "trainable": True, "dtype": "float32", "frozen": ()}


def test_preprocessing(model: PlaceNet) -> None:
    """x · scale + offset, the offset by channel of RGB."""
    preprocessing = keras.Model(model.inputs[0], model.get_layer("preprocessing").output)
    np.testing.assert_allclose(preprocessing(IMAGES), IMAGES * 0.5 + np.array([-1, 2, 3.5]), rtol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "pixel"),
    [
        ("vgg16", (-123.68, -116.779, -103.939)),
        ("squeezenet", (-123, -117, -104)),
        ("mobilenet_v1", (-1, -1, -1)),
        ("mobilenet_v2", (-1, -1, -1)),
    ],
)
def test_default_preprocessing_of_black(backbone: str, pixel: tuple[float, ...]) -> None:
    """Caffe's networks subtract the mean of ImageNet, here in RGB; the MobileNets map 0 … 255 to −1 … 1."""
    cut = keras.layers.Rescaling(BACKBONES[backbone].scale, list(BACKBONES[backbone].offset))
    np.testing.assert_allclose(cut(np.zeros((1, 1, 1, 3)))[0, 0, 0], pixel, rtol=1e-6)
    if backbone.startswith("mobilenet"):
        np.testing.assert_allclose(cut(np.full((1, 1, 1, 3), 255.0)), 1, rtol=1e-6)


def test_round_trips_through_its_config(model: PlaceNet) -> None:
    copy = PlaceNet.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    assert copy.get_config() == model.get_config()
    np.testing.assert_allclose(copy(IMAGES), model(IMAGES), atol=1e-6)


def test_a_projection_is_the_backbones_last_layer(tmp_path: Path) -> None:
    plain, model = PlaceNet("squeezenet", **OPTIONS), PlaceNet("squeezenet", projection=6, **OPTIONS)
    assert "projection" not in plain.config and model.feature_layer.name == "projection"
    assert [layer.name for layer in model.backbone_layers] == [
        *(layer.name for layer in plain.backbone_layers),
        "projection",
    ]
    assert model.feature_layer.kernel.shape == (1, 1, plain.feature_layer.output.shape[-1], 6)
    assert model.get_layer("netvlad").centroids.shape[1] == 6
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), atol=1e-6)


def test_a_config_without_power_is_of_the_time_when_it_was_a_half(model: PlaceNet) -> None:
    config = model.get_config()
    assert config.pop("whitening_power") == PlaceNet.from_config(config).config["whitening_power"] == 0.5
    assert PlaceNet("squeezenet").config["whitening_power"] == 0.25


def test_round_trips_through_a_file(model: PlaceNet, tmp_path: Path) -> None:
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert type(loaded) is PlaceNet
    assert loaded.get_config() == model.get_config()
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), atol=1e-6)


def test_frozen_layers_stay_frozen_in_a_file_and_in_a_copy(tmp_path: Path) -> None:
    model = PlaceNet("squeezenet", **OPTIONS)
    model.get_layer("conv1").trainable = model.get_layer("netvlad").trainable = False
    model.save(tmp_path / "model.keras")
    for copy in (load_model(tmp_path / "model.keras"), PlaceNet(**model.get_config())):
        assert copy.get_config()["frozen"] == ("conv1", "netvlad") and copy.trainable
        assert [v.path for v in copy.trainable_variables] == [v.path for v in model.trainable_variables]
    model.trainable = False
    model.save(tmp_path / "frozen.keras")
    frozen = load_model(tmp_path / "frozen.keras")
    assert not frozen.trainable and not frozen.trainable_variables


@pytest.fixture
def global_policy() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float64"])
def test_a_file_keeps_its_policy_whatever_the_global_one(policy: str, tmp_path: Path, global_policy: None) -> None:
    keras.config.set_dtype_policy(policy)
    model = PlaceNet("squeezenet", **OPTIONS)
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("mixed_float16")
    loaded = load_model(tmp_path / "model.keras")
    assert keras.config.dtype_policy().name == "mixed_float16"
    assert {layer.dtype_policy.name for layer in loaded.layers if layer.weights} == {policy}
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))


def test_channels_first_is_refused_in_one_line() -> None:
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"channels_first, .* need channels_last: keras"):
            PlaceNet("squeezenet")
    finally:
        keras.config.set_image_data_format("channels_last")


def test_is_the_end_of_a_users_model(model: PlaceNet) -> None:
    """It is an ordinary functional model: parts of it can be taken, and it can be part of another."""
    features = keras.Model(model.inputs[0], model.feature_layer.output)
    vlad = model.get_layer("netvlad")(features(IMAGES))
    np.testing.assert_allclose(
        model.get_layer("descriptor")(model.get_layer("whitening")(vlad)), model(IMAGES), atol=1e-5
    )
    inputs = keras.Input((48, 64, 3))
    outer = keras.Model(inputs, keras.layers.Dense(2)(model(inputs)))
    assert outer(IMAGES).shape == (3, 2)


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("lenet", {}, "backbone 'lenet' is not known; there are .*squeezenet.*vgg16"),
        ("squeezenet", {"cut": "fire99"}, "squeezenet has no layer 'fire99'; there are .*fire9"),
        ("squeezenet", {"cut": "preprocessing"}, "no layer 'preprocessing'"),
        ("squeezenet", {"clusters": 0}, "clusters=0"),
        ("squeezenet", {"clusters": 2_000_000}, "clusters=2000000"),
        ("squeezenet", {"whitening": 65_537}, "whitening=65537"),
        ("squeezenet", {"input_size": (8192, 8192)}, r"input_size=\(8192, 8192\): .* 4,194,304 pixels"),
        ("squeezenet", {"input_size": (8193, 64)}, r"input_size=\(8193, 64\)"),
        ("squeezenet", {"frozen": ["conv99"]}, "frozen layer 'conv99'"),
        ("squeezenet", {"whitening": -1}, "whitening=-1"),
        ("squeezenet", {"whitening_power": 0.6}, "power=0.6 of a whitening"),
        ("squeezenet", {"input_size": (224,)}, r"input_size=\(224,\)"),
        ("squeezenet", {"input_size": (224, 0)}, r"input_size=\(224, 0\)"),
        ("squeezenet", {"offset": (1, 2)}, r"offset=\(1.0, 2.0\)"),
    ],
)
def test_errors(backbone: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlaceNet(backbone, **options)
