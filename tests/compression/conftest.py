"""A small network and its compressed form, made once."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.compression import Compressed, Recipe, compress, save_places
from tfplaces.models import PlaceNet


@pytest.fixture(scope="session")
def compressed() -> Compressed:
    """SqueezeNet's first layers, NetVLAD of 4 clusters and a whitening: 13 kernels, half of each pruned."""
    keras.utils.set_random_seed(0)
    model = PlaceNet("squeezenet", clusters=4, whitening=6, input_size=(48, 64), cut="fire4")
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            layer.bias.assign(np.random.default_rng(0).normal(0, 0.01, layer.bias.shape))
    return compress(model, Recipe(bits=5, sparsity=0.5, sparsity_scope="layer", grid="none"))


@pytest.fixture(scope="session")
def places_file(compressed: Compressed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("places") / "model.places"
    save_places(path, compressed)
    return path
