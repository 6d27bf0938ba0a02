"""The weights that were evaluated are the weights that ship: kernels in `.tflite` files, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.compression import Recipe, SharedKernel, compress, find_kernels
from tfplaces.datasets import Images, load_dataset
from tfplaces.describers import LiteRTDescriber
from tfplaces.describers.keras import KerasDescriber
from tfplaces.lite import PRECISIONS, convert, converter
from tfplaces.lite.kernel_locations import kernel_errors, locate_kernels
from tfplaces.lite.kernel_writing import _round_int4
from tfplaces.lite.tflite_model import TFLiteModel
from tfplaces.models import PlaceNet
from tfplaces.training import initialize_netvlad

SIZE = (48, 64)


@pytest.fixture(scope="module")
def town() -> Images:
    return load_dataset("toytown?places=6").database


@pytest.fixture(scope="module")
def images(town: Images) -> np.ndarray:
    return np.stack([town.read(i, SIZE) for i in range(0, 24, 3)])


@pytest.fixture(scope="module")
def compressed(town: Images) -> Callable:
    """A MobileNet of convolutions of every kind: 5 bits, pruned by a third; a channel of zeros, a block of zeros."""
    keras.utils.set_random_seed(0)
    model = PlaceNet("mobilenet_v1", clusters=4, whitening=8, input_size=SIZE, cut="conv_pw_2")
    initialize_netvlad(model, [town], sharpness=1.0)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith("/bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    first = model.get_layer("conv_pw_1").kernel
    first.assign(np.where(np.arange(first.shape[-1]) == 3, 0, first.numpy()))
    whitening = model.get_layer("whitening").kernel.numpy()
    whitening[64:128] = 0
    model.get_layer("whitening").kernel.assign(whitening)
    return compress(model, Recipe(bits=5, sparsity=0.3, sparsity_scope="layer"))


@pytest.fixture(scope="module")
def files(compressed, town: Images, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict]]:
    folder = tmp_path_factory.mktemp("weights")
    made = {}
    for precision in PRECISIONS:
        path = folder / f"{precision}.tflite"
        errors = convert(compressed.model, path, precision, shared=compressed.shared, calibration=town)
        made[precision] = path, errors
    return made


@pytest.mark.parametrize("precision", ["float32", "dynamic_int8", "mixed_int8"])
def test_every_kernel_is_exactly_the_compressed_one(files, compressed, precision: str) -> None:
    """By the tool's own proof, and by reading the file without it: integers and scales of the shared kernels."""
    path, errors = files[precision]
    assert set(errors) == {kernel.name for kernel in find_kernels(compressed.model)} == set(compressed.shared)
    assert set(errors.values()) == {0.0}
    locations = locate_kernels(compressed.model, files["float32"][0].read_bytes())
    assert len({location.tensor for location in locations}) == len(locations)
    lite, integers = TFLiteModel(path.read_bytes()), 0
    for location in locations:
        ours, constant = compressed.shared[location.kernel.name], lite.find(location.tensor)
        stored = constant.values.transpose(np.argsort(location.axes))
        if constant.values.dtype == np.int8:
            integers += 1
            np.testing.assert_array_equal(stored, ours.levels[ours.indices])
            used = np.any(np.moveaxis(stored, ours.channel_axis, 0).reshape(len(ours.scales), -1), axis=1)
            np.testing.assert_array_equal(constant.scales[used], ours.scales[used])
            assert np.all(constant.scales > 1e-6) and (location.kernel.name != "conv_pw_1/kernel" or not used[3])
        else:
            np.testing.assert_array_equal(location.sign * stored, ours.weights())
    assert integers == {"float32": 0, "dynamic_int8": 7, "mixed_int8": 6}[precision]


def test_biases_are_within_half_a_step(files, compressed) -> None:
    """Of the scale of their 32 bits, which is the input's times the kernel's."""
    path, _ = files["mixed_int8"]
    lite = TFLiteModel(path.read_bytes())
    seen = 0
    for location in locate_kernels(compressed.model, files["float32"][0].read_bytes()):
        (inputs,) = lite.users(location.tensor) or ([],)
        if len(inputs) < 3 or lite.constant(inputs[2]).values.dtype != np.int32:
            continue
        bias, kernel = lite.constant(inputs[2]), lite.find(location.tensor)
        np.testing.assert_allclose(bias.scales, lite.scale(inputs[0]) * kernel.scales, rtol=1e-6)
        ours = compressed.model.get_layer(location.kernel.name.split("/")[0]).bias.numpy()
        assert np.all(np.abs(bias.dequantized() - ours) <= 0.5001 * bias.scales)
        seen += 1
    assert seen == 5  # conv1, two depthwise, two pointwise


def test_other_precisions_say_what_they_round(files) -> None:
    _, errors = files["float16"]
    assert all(0 < error < 2**-11 for name, error in errors.items() if name != "netvlad/centroids")
    _, errors = files["mixed_int4"]
    assert 0.01 < errors.pop("whitening/kernel") < 0.2 and set(errors.values()) == {0.0}


def test_full_int8_holds_all_kernels_exactly_but_the_centroids(files, compressed) -> None:
    """These are computed with: one scale for all of them. Integers and scales are read without the tool's own proof."""
    path, errors = files["full_int8"]
    assert 0 < errors.pop("netvlad/centroids") < 0.01 and set(errors.values()) == {0.0}
    data = TFLiteModel(path.read_bytes())
    constants = [data.find(name) for name in data.names()]
    stored = [c for c in constants if c is not None and c.values.dtype == np.int8]
    for kernel in find_kernels(compressed.model):
        ours = compressed.shared[kernel.name]
        if kernel.name != "netvlad/centroids":
            axes = (3, 0, 1, 2) if ours.indices.ndim == 4 else (1, 0)
            integers = ours.levels[ours.indices].transpose(axes)
            assert any(c.values.shape == integers.shape and np.array_equal(c.values, integers) for c in stored)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_descriptors_are_near_those_of_keras(files, compressed, images: np.ndarray, precision: str) -> None:
    ours = LiteRTDescriber(files[precision][0]).describe(images)
    cosines = np.sum(ours * KerasDescriber(compressed.model).describe(images), axis=1)
    assert cosines.min() > {"float32": 0.99999, "float16": 0.9999, "full_int8": 0.95}.get(precision, 0.98)


def test_the_proof_finds_a_single_wrong_weight(files, compressed) -> None:
    locations = locate_kernels(compressed.model, files["float32"][0].read_bytes())
    data = bytearray(files["mixed_int8"][0].read_bytes())
    for location in locations:
        values = TFLiteModel(data).find(location.tensor).values
        before = values.flat[5]
        values.flat[5] = before + 1
        errors = kernel_errors(data, locations)
        assert errors.pop(location.kernel.name) > 0 and set(errors.values()) == {0.0}
        values.flat[5] = before


def test_a_file_that_is_not_exact_is_not_written(compressed, town: Images, tmp_path: Path, monkeypatch) -> None:
    """The quantizer's own integers are not those of the file."""
    monkeypatch.setattr(converter, "write_exactly", lambda *_: set())
    with pytest.raises(RuntimeError, match="would not hold the compressed weights exactly"):
        convert(compressed.model, tmp_path / "a.tflite", shared=compressed.shared, calibration=town)
    assert not any(tmp_path.iterdir())


def test_levels_off_the_grid_are_rounded_and_said_to_be(town: Images, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = PlaceNet("squeezenet", clusters=2, input_size=SIZE, cut="fire2")
    shared = compress(model, Recipe(bits=4, grid="none")).shared
    errors = convert(model, tmp_path / "a.tflite", "dynamic_int8", shared=shared)
    assert 0 < errors["fire2_squeeze1x1/kernel"] < 0.02


@pytest.mark.parametrize("channels", [slice(None), slice(5, 6)])
def test_channels_whose_weights_are_nothing_beside_their_bias(
    channels: slice, compressed, town: Images, images: np.ndarray, tmp_path: Path
) -> None:
    """Their features are their bias, to the step of the features, and no other kernel is less exact.

    Published ImageNet networks have them: a channel that batch norm found never to vary.
    """
    name = "conv_pw_1/kernel"
    ours = compressed.shared[name]
    scales = ours.scales.copy()
    scales[channels] *= np.float32(1e-12)
    tiny = SharedKernel(ours.levels, ours.indices, scales, ours.channel_axis)
    layer = compressed.model.get_layer("conv_pw_1")
    before = layer.get_weights()
    layer.set_weights([tiny.weights(), np.linspace(0.5, 5, len(before[1]))])
    try:
        path = tmp_path / "a.tflite"
        errors = convert(compressed.model, path, shared={**compressed.shared, name: tiny}, calibration=town)
        expected = KerasDescriber(compressed.model).describe(images)
        assert {key for key, error in errors.items() if error} == {name}
        found = np.concatenate([LiteRTDescriber(path).describe(image[None]) for image in images])
        assert np.min(np.sum(found * expected, axis=1)) > 0.97
    finally:
        layer.set_weights(before)


def test_int4_blocks() -> None:
    """Never worse than the largest magnitude over 7, and a block of zeros is zeros with a scale that runtimes take."""
    rng = np.random.default_rng(0)
    blocks = (rng.standard_t(3, (500, 32)) * rng.uniform(1e-3, 1, (500, 1))).astype(np.float32)
    blocks[7] = 0
    integers, scales = _round_int4(blocks, np.dtype(np.float16))
    assert scales.dtype == np.float16 and np.all(scales > 0) and not np.any(integers[7])
    assert np.abs(integers).max() <= 7
    error = np.sum(np.square(integers * scales.astype(np.float32)[:, None] - blocks), axis=1)
    plain = np.maximum(np.max(np.abs(blocks), axis=1) / 7, 2.0**-14).astype(np.float16).astype(np.float32)[:, None]
    rounded = np.sum(np.square(np.clip(np.rint(blocks / plain), -7, 7) * plain - blocks), axis=1)
    assert np.all(error <= rounded) and error.sum() < 0.95 * rounded.sum()
