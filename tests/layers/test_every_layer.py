"""Every layer and network that the library registers with Keras, under every dtype policy.

Layers are found in Keras's registry, so that a new one fails here until it has an entry in `CASES`. Each is called on
inputs of every magnitude, compared with float32, saved and loaded in a model.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tfplaces.layers
import tfplaces.models
from tfplaces.layers import (
    AdaptiveAveragePooling,
    GeM,
    L2Normalization,
    LocalResponseNormalization,
    NetVLAD,
    PCAWhitening,
    Positions,
)
from tfplaces.models import BACKBONES, PlaceNet

for package in (tfplaces.layers, tfplaces.models):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")
# Least cosine to what float32 gives, of inputs that both are given alike: of what is computed in float32 from weights
# of half precision, and of a product in half precision, which has 8 bits in bfloat16.
COSINE = {"float16": 0.9999, "bfloat16": 0.999}
# Arguments that are not the defaults, and the shape of an input.
CASES: dict[type, list[tuple[dict[str, Any], tuple[int, ...]]]] = {
    NetVLAD: [({"clusters": 3, "use_bias": True}, (4, 5, 16)), ({"clusters": 1}, (1, 1, 3))],
    L2Normalization: [({"axis": 1}, (6, 4)), ({}, (32,))],
    LocalResponseNormalization: [({"size": 3, "alpha": 0.2, "beta": 0.6, "k": 1.5}, (4, 5, 6)), ({}, (2, 2, 8))],
    AdaptiveAveragePooling: [({"grid": 2}, (5, 4, 8)), ({"grid": 1}, (2, 2, 4))],
    GeM: [({"p": 2.5}, (4, 5, 6)), ({"epsilon": 1e-3}, (1, 1, 8))],
    Positions: [({"height": 3, "width": 4}, (3, 4, 2)), ({"height": 1, "width": 1}, (1, 1, 5))],
    PCAWhitening: [({"units": 4}, (9,)), ({"units": 3, "trainable": False}, (16,))],
}
# Those that always give at least float32, as the last layer of a network does.
WIDE = (GeM, NetVLAD, L2Normalization)
# Largest magnitudes of the inputs. 60,000 is nearly the largest number of float16. A whitening, which is a Dense like
# any other, takes vectors of unit length, and its sums overflow beyond.
MAGNITUDES = (0.0, 1e-4, 1.0, 300.0, 6e4)
MAGNITUDES_OF = {PCAWhitening: (0.0, 1e-4, 1.0)}


def registered(kind: type) -> set[type]:
    objects = keras.saving.get_custom_objects()
    return {v for k, v in objects.items() if k.startswith("tfplaces>") and isinstance(v, type) and issubclass(v, kind)}


def test_every_registered_layer_has_a_case() -> None:
    layers = {layer for layer in registered(keras.layers.Layer) if layer.__module__.startswith("tfplaces.layers")}
    assert layers == CASES.keys()
    networks = {net for net in registered(keras.Model) if net.__module__.startswith("tfplaces.models")}
    assert networks == {PlaceNet}


ALL = [(kind, options, shape) for kind, cases in CASES.items() for options, shape in cases]


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    """The global policy, as users set it."""
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def least_cosine(policy: str) -> float:
    return COSINE.get(policy.removeprefix("mixed_"), 0.999999)


def inputs_of(shape: tuple[int, ...], magnitude: float) -> np.ndarray:
    """Two inputs; of the second the first position is all zero, as after a ReLU. Half precision holds them exactly."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, *shape))
    x[1, 0] = 0
    # Three significant bits and a power of two are the same number in every precision.
    x = np.round(x * 4) / 4
    return (x * 2.0 ** np.floor(np.log2(magnitude)) if magnitude else x * 0).astype(np.float32)


def cosine(a, b) -> float:
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / length) if length else float(np.array_equal(a, b))


@pytest.mark.parametrize(("kind", "options", "shape"), ALL, ids=lambda v: getattr(v, "__name__", None))
def test_layer(kind: type, options: dict[str, Any], shape: tuple[int, ...], policy: str, tmp_path: Path) -> None:
    inputs = keras.Input(shape)
    layer = kind(**options)
    outputs = layer(inputs)
    model = keras.Model(inputs, outputs)
    assert layer.dtype_policy.name == policy
    assert layer.trainable is options.get("trainable", True)
    least = least_cosine(policy)

    # What is said of the output without computing it.
    given = layer(inputs_of(shape, 1.0))
    assert layer.compute_output_shape((2, *shape)) == given.shape
    assert outputs.shape == (None, *given.shape[1:]) and outputs.dtype == given.dtype.name
    expected = "float64" if policy == "float64" else "float32"
    assert given.dtype.name == (expected if kind in WIDE else layer.compute_dtype)

    # Finite and near float32, whatever comes in.
    reference = kind.from_config({**layer.get_config(), "dtype": "float32"})
    reference.build((None, *shape))
    reference.set_weights([np.asarray(w, np.float32) for w in layer.get_weights()])
    for magnitude in MAGNITUDES_OF.get(kind, MAGNITUDES):
        x = inputs_of(shape, magnitude)
        ours = np.asarray(model(x), np.float64)
        assert np.all(np.isfinite(ours)), magnitude
        assert cosine(ours, reference(x)) > least, magnitude

    # Saved and loaded, under another global policy.
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32" if policy != "float32" else "mixed_float16")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    ours = loaded.layers[-1]
    assert type(ours) is kind and ours.get_config() == layer.get_config()
    assert ours.trainable is layer.trainable and ours.dtype_policy.name == policy
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))


NETWORKS = [
    ("alexnet", {"cut": "conv2", "whitening": 3}),
    ("mobilenet_v1", {"cut": "conv_pw_2"}),
    ("squeezenet", {"cut": "fire2", "whitening": 5, "assignment_bias": True}),
]


@pytest.mark.parametrize(("backbone", "options"), NETWORKS, ids=[backbone for backbone, _ in NETWORKS])
def test_network(backbone: str, options: dict[str, Any], policy: str, tmp_path: Path) -> None:
    """Black, white and noise: descriptors are finite, of unit length, near float32, and float32 themselves."""
    assert backbone in BACKBONES
    model = PlaceNet(backbone, clusters=2, input_size=(48, 64), frozen=["netvlad"], **options)
    reference = PlaceNet.from_config({**model.get_config(), "dtype": "float32"})
    reference.set_weights([np.asarray(w, np.float32) for w in model.get_weights()])
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3))
    images = np.stack([np.zeros((48, 64, 3)), np.full((48, 64, 3), 255), noise]).astype(np.float32)
    given = model(images)
    expected = "float64" if policy == "float64" else "float32"
    assert given.dtype.name == expected == model.output.dtype
    np.testing.assert_allclose(np.linalg.norm(given, axis=1), 1, atol=1e-4)
    for ours, theirs in zip(np.asarray(given), np.asarray(reference(images)), strict=True):
        assert cosine(ours, theirs) > {"float16": 0.999, "bfloat16": 0.99}.get(policy.removeprefix("mixed_"), 0.99999)
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config() and loaded.get_config()["dtype"] == policy
    assert len(loaded.trainable_variables) == len(model.trainable_variables) < len(model.weights)
    np.testing.assert_array_equal(np.asarray(loaded(images)), np.asarray(given))
