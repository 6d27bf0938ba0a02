"""A file of a given rate: its size, its exactness, the second moments it goes by, and rates that cannot be."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.compression import Compressed, Recipe, compress, compress_to_rate, load_compressed, save_places
from tfplaces.compression.kernels import find_kernels
from tfplaces.compression.second_moments import dense_kernels, second_moments
from tfplaces.datasets import Images
from tfplaces.models import PlaceNet

RATE = 2.0


class Noise(Images):
    """Images of random colours."""

    def __init__(self, count: int):
        self.names: Sequence[str] = [str(i) for i in range(count)]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        rng = np.random.default_rng(index)
        return np.kron(rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def network() -> PlaceNet:
    keras.utils.set_random_seed(0)
    return PlaceNet("squeezenet", clusters=8, whitening=96, input_size=(48, 64), cut="fire2")


def recipe(**values) -> Recipe:
    return Recipe(**{"quantizer": "rate_distortion", "rate": RATE, "bits": 4, **values})


@pytest.fixture(scope="module")
def made() -> Compressed:
    return compress_to_rate(network(), recipe(), Noise(100), {"seed": 7})


def test_the_file_is_at_most_the_rate_and_at_most_1_percent_less(made: Compressed, tmp_path: Path) -> None:
    size = save_places(tmp_path / "m.places", made)
    assert size == os.path.getsize(tmp_path / "m.places")
    assert 0.99 * RATE <= 8 * size / made.model.count_params() <= RATE


def test_the_file_gives_back_whole_numbers_times_a_scale(made: Compressed, tmp_path: Path) -> None:
    save_places(tmp_path / "m.places", made)
    read = load_compressed(tmp_path / "m.places")
    whitening = read.shared["whitening/kernel"]
    integers = whitening.levels[whitening.indices]
    assert whitening.on_int8_grid and np.count_nonzero(integers)
    for model in (made.model, read.model):
        np.testing.assert_array_equal(model.get_layer("whitening").kernel.numpy(), integers * whitening.scales)
    for kernel in find_kernels(read.model):
        assert kernel.name == "whitening/kernel" or len(read.shared[kernel.name].levels) <= 16
    assert {"quantizer": "rate_distortion", "rate": RATE, "bits": 4, "seed": 7}.items() <= read.provenance.items()


def test_the_moments_are_of_what_the_layer_is_given() -> None:
    """Oracle: the layer's inputs of all images at once."""
    model = network()
    layers = dense_kernels(model, find_kernels(model))
    assert list(layers) == ["whitening/kernel"]
    images = Noise(100)
    found = second_moments(model, layers, images)["whitening/kernel"]
    inputs = model.get_layer("whitening").kernel.shape[0]
    assert found.shape[0] * found.shape[1] == inputs and found.shape[1] <= 512 and found.shape[0] > 1
    pixels = np.stack([images.read(i, (48, 64)) for i in range(100)]).astype(np.float32)
    x = np.asarray(keras.Model(model.inputs, model.get_layer("whitening").input)(pixels)).reshape(100, *found.shape[:2])
    np.testing.assert_allclose(found, np.einsum("ibm,ibn->bmn", x, x) / 100, rtol=1e-3, atol=1e-6)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments without correlation, which take no time."""

    def identities(model, layers, images) -> dict[str, np.ndarray]:
        return {
            name: np.broadcast_to(np.eye(2, dtype=np.float32), (layer.kernel.shape[0] // 2, 2, 2))
            for name, layer in layers.items()
        }

    monkeypatch.setattr(sys.modules["tfplaces.compression.rate"], "second_moments", identities)


@pytest.mark.usefixtures("plain")
def test_a_rate_below_what_the_other_layers_take() -> None:
    with pytest.raises(UserError, match=r"^rate=0\.1: no step comes within 1 % of it; .* are not those of whitening"):
        compress_to_rate(network(), recipe(rate=0.1), Noise(100))


@pytest.mark.usefixtures("plain")
def test_a_rate_above_what_eight_bits_take() -> None:
    with pytest.raises(UserError, match=r"^rate=12: no step comes within 1 % of it"):
        compress_to_rate(network(), recipe(rate=12), Noise(100))


def test_too_few_images_change_nothing() -> None:
    model = network()
    before = model.get_weights()
    with pytest.raises(UserError, match=r"^second moments from 99 database images: at least 100 are needed"):
        compress_to_rate(model, recipe(), Noise(99))
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_without_a_dense_layer() -> None:
    model = PlaceNet("squeezenet", clusters=4, input_size=(48, 64), cut="fire2")
    with pytest.raises(UserError, match="needs a dense layer"):
        compress_to_rate(model, recipe(), Noise(100))


def test_the_other_way_of_calling() -> None:
    with pytest.raises(UserError, match="call compress_to_rate"):
        compress(network(), recipe())
    with pytest.raises(UserError, match="needs a rate"):
        compress_to_rate(network(), Recipe(), Noise(100))


@pytest.mark.parametrize("rate", [None, 0, -1, 16.5, float("nan"), float("inf"), True, "1"])
def test_a_rate_that_is_none(rate) -> None:
    with pytest.raises(UserError, match=r"^rate=.*: mean bits a parameter of the file, above 0 and at most 16"):
        recipe(rate=rate)


@pytest.mark.parametrize(
    "values", [{"sparsity": 0.5}, {"threshold": 0.1}, {"l1": 1.0}, {"refresh": 2}, {"grid": "none"}]
)
def test_what_does_not_go_with_a_rate(values: dict) -> None:
    with pytest.raises(UserError, match="the quantizer rate_distortion"):
        recipe(**values)
    with pytest.raises(UserError, match="a rate needs the quantizer"):
        Recipe(rate=1.0)
