"""One small network and its `.tflite` files, for every test of what is made of them."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from tfplaces.datasets import PlaceDataset, load_dataset
from tfplaces.lite import convert
from tfplaces.models import PlaceNet
from tfplaces.training import add_whitening, initialize_netvlad

SIZE = (48, 64)


@pytest.fixture(scope="session", autouse=True)
def _quick(converter_here: None) -> None:
    """Everything here converts."""


@pytest.fixture(scope="session")
def town() -> PlaceDataset:
    return load_dataset("toytown?places=6")


@pytest.fixture(scope="session")
def model(town: PlaceDataset) -> PlaceNet:
    keras.utils.set_random_seed(0)
    net = PlaceNet("squeezenet", clusters=4, input_size=SIZE, cut="fire3")
    initialize_netvlad(net, [town.database], sharpness=1.0)
    return add_whitening(net, 12, [town.database])


@pytest.fixture(scope="session")
def floats(model: PlaceNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "float32.tflite"
    convert(model, path, "float32")
    return path


@pytest.fixture(scope="session")
def integers(model: PlaceNet, town: PlaceDataset, floats: Path) -> Path:
    """Also of another kind in every other way: two images at once, resizable, half the dimensions, int8 out."""
    path = floats.with_name("mixed_int8.tflite")
    convert(
        model, path, calibration=town.database, input_size="any", batch=2, int8_output=True, descriptor_dim=6
    )  # fmt: skip
    return path
