"""Each aggregation through the whole chain: search, distillation, `.places`, `.tflite`, layer errors, `.tflpack`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tfplaces.coding.tflpack_encoder import pack
from tfplaces.compression import Distillation, Recipe, save_places, search
from tfplaces.compression.places import load_compressed
from tfplaces.datasets import load_dataset
from tfplaces.describers.keras import KerasDescriber
from tfplaces.lite import convert
from tfplaces.lite.layer_errors import layer_errors
from tfplaces.models import PlaceNet
from tfplaces.models.summary import summarize
from tfplaces.opening import load_describer
from tfplaces.training import WorkDir

SIZE = (48, 64)
# Each with the layers that have weights of 8 bits after the backbone.
AGGREGATIONS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "gem": ({"linear": 8, "l2_first": True}, {"linear"}),
    "mixvpr": (
        {"channels": 6, "rows": 2, "depth": 1},
        {"mixer_0_expand", "mixer_0_project", "channel_projection", "row_projection"},
    ),
    "convap": ({"channels": 4, "grid": 2}, {"channel_pooling"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_from_a_network_to_a_packed_file(aggregation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TRIALS": 1, "OPTIONS": ((4, 0.0), (6, 0.0), (6, 0.5)), "_PROBES": 4}.items():
        monkeypatch.setattr(importlib.import_module("tfplaces.compression.smallest_file"), name, value)
    town = load_dataset("toytown?places=6")
    keras.utils.set_random_seed(0)
    options, dense = AGGREGATIONS[aggregation]
    model = PlaceNet("squeezenet", aggregation=aggregation, input_size=SIZE, cut="fire2", **options)
    assert sum(row.parameters for row in summarize(model)) == model.count_params()

    tune = Distillation(model, town.database, epochs=1, learning_rate=1e-4)
    found = search(model, [town], 100.0, Recipe(), tune, WorkDir(tmp_path / "search"))
    assert set(found.shared) >= {f"{layer}/kernel" for layer in dense}
    size = save_places(tmp_path / "a.places", found)
    assert size < 1.2 * model.count_params()
    loaded = load_compressed(tmp_path / "a.places")
    assert loaded.model.description == model.description
    for ours, theirs in zip(loaded.model.weights, found.model.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())

    path = tmp_path / "a.tflite"
    errors = convert(loaded.model, path, shared=loaded.shared, calibration=town.database)
    assert set(errors.values()) == {0.0}
    blamed = layer_errors(path, loaded.model, town, "mixed_int8")
    assert all(0 <= error.added <= error.error < 0.5 for error in blamed)
    assert dense <= {error.layer for error in blamed}
    pack(path, tmp_path / "a.tflpack")
    images = np.stack([town.database.read(i, SIZE) for i in range(4)])
    described = load_describer(tmp_path / "a.tflpack").describe(images)
    np.testing.assert_array_equal(described, load_describer(path).describe(images))
    assert np.sum(described * KerasDescriber(loaded.model).describe(images), axis=1).min() > 0.98
