"""A conversion is judged on each data set, and by its descriptors."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset
from tfplaces.evaluation import score
from tfplaces.lite.check import Check
from tfplaces.lite.conversion import _loss, run_conversion
from tfplaces.lite.layer_errors import LayerError, _ratio
from tfplaces.models import PlaceNet


def made_up(town: PlaceDataset, dataset: str, drop: float) -> Check:
    rng = np.random.default_rng(0)
    queries, database = (rng.normal(size=(len(part), 4)) for part in (town.queries, town.database))
    normalized = [d / np.linalg.norm(d, axis=1, keepdims=True) for d in (queries, database)]
    keras_scores = dataclasses.replace(score(town, *normalized), map=50.0)
    return Check(dataset, 1.0, 1.0, keras_scores, dataclasses.replace(keras_scores, map=50.0 - drop))


def test_each_data_set_is_judged(town: PlaceDataset) -> None:
    """A gain of ten points on one does not make up for a loss of nine on another."""
    checks = [made_up(town, "folder:a", -10), made_up(town, "folder:b", 9)]
    assert _loss(checks, 1.0) == "loses 9.00 points of mAP on folder:b, more than max_drop=1"
    assert _loss(checks, 9.0) == "" and _loss(checks[:1], 1.0) == "" and _loss([], 0.0) == ""


def test_a_bound_that_is_no_number(town: PlaceDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_drop is not a number"):
        run_conversion(lambda: pytest.fail("work was begun"), str(tmp_path / "a.tflite"), max_drop=math.nan)


def test_zero_descriptors_are_rejected(town: PlaceDataset, tmp_path: Path) -> None:
    """A whitening of zeros, whose file describes every image alike, even where a loss is let pass."""
    keras.utils.set_random_seed(0)
    model = PlaceNet("squeezenet", clusters=2, whitening=4, input_size=(32, 32), cut="fire2")
    for variable in model.get_layer("whitening").weights:
        variable.assign(np.zeros(variable.shape, np.float32))
    made = run_conversion(lambda: model, str(tmp_path / "a.tflite"), "float32", calibration=[town.database], force=True)
    assert made.rejected == "describes images by zeros" == made.report["unusable"]
    assert made.path == str(tmp_path / "a.tflite.rejected")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tflite.rejected", "a.tflite.rejected.json"]


def test_descriptors_that_are_not_finite_are_rejected(
    model: PlaceNet, town: PlaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a runtime may give them for weights that are finite. What is written is JSON that any reader takes."""
    from tfplaces.describers import LiteRTDescriber

    monkeypatch.setattr(LiteRTDescriber, "describe", lambda self, images: np.full((len(images), 12), np.nan, "f4"))
    made = run_conversion(lambda: model, str(tmp_path / "a.tflite"), "float32", verify=[town])
    assert made.rejected == "describes images by numbers that are not finite"
    text = (tmp_path / "a.tflite.rejected.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["unusable"] == made.rejected


def test_errors_of_layers_are_json() -> None:
    """NaN and infinity, which JSON does not have, are null."""
    assert _ratio(0.0, 0.0) == 0.0 and _ratio(1.0, 4.0) == 0.25
    assert _ratio(1.0, 0.0) == _ratio(math.nan, 1.0) == _ratio(1.0, math.inf) == math.inf
    assert LayerError("conv1", "CONV_2D", math.inf, 0.5).to_json()["error"] is None


def test_what_stands_in_the_way_is_found_before_the_work(town: PlaceDataset, tmp_path: Path) -> None:
    """A folder of the name of any file that may be written."""
    for name in ("a.tflite", "a.json", "a.tflite.rejected", "a.tflite.rejected.json"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match="is a folder"):
            run_conversion(lambda: pytest.fail("work was begun"), str(tmp_path / "a.tflite"), verify=[town])
        (tmp_path / name).rmdir()
