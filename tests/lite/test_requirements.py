"""What cannot be converted is refused before any work, in a line that says what and why."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset
from tfplaces.lite import PRECISIONS, convert, converter
from tfplaces.lite.requirements import check_requirements
from tfplaces.models import PlaceNet


def tiny(whitening: int = 0, clusters: int = 2) -> PlaceNet:
    keras.utils.set_random_seed(0)
    return PlaceNet("squeezenet", clusters=clusters, whitening=whitening, input_size=(32, 32), cut="fire2")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("path", ["conv1/bias", "fire2_squeeze1x1/kernel", "netvlad/centroids", "whitening/kernel"])
def test_weights_that_are_not_finite(
    precision: str, value: float, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, town: PlaceDataset
) -> None:
    """Of every kind of layer; nothing is begun, in no precision."""
    monkeypatch.setattr(converter, "converting_folder", lambda _: pytest.fail("work was begun"))
    model = tiny(whitening=4)
    variable = next(v for v in model.weights if v.path == path)
    values = variable.numpy()
    values.flat[1] = value
    variable.assign(values)
    with pytest.raises(UserError, match=f"^{path}: weights that are not finite; [^\n]*$"):
        convert(model, tmp_path / "a.tflite", precision, calibration=town.database)
    assert not any(tmp_path.iterdir())


def test_weights_that_float16_does_not_hold() -> None:
    """65504 is its largest number."""
    model = tiny()
    bias = model.get_layer("conv1").bias
    bias.assign(np.full(bias.shape, 65504, np.float32))
    check_requirements(model, "float16")
    bias.assign(np.full(bias.shape, 65505, np.float32))
    check_requirements(model, "float32")
    with pytest.raises(UserError, match=r"^conv1/bias: a weight of 6.55e\+04, more than the 65504 that float16 holds"):
        check_requirements(model, "float16")


def test_int4_without_a_whitening_is_refused(town: PlaceDataset) -> None:
    with pytest.raises(UserError, match=r"this network has none, [^\n]*: choose mixed_int8$"):
        check_requirements(tiny(), "mixed_int4", calibration=[town.database])


def test_no_images_and_no_such_dimensions(town: PlaceDataset) -> None:
    with pytest.raises(UserError, match="an int8 output needs images to calibrate on"):
        check_requirements(tiny(), "float32", int8_output=True)
    with pytest.raises(UserError, match="descriptor_dim=5: NetVLAD2 has no linear layer"):
        check_requirements(tiny(), "float32", descriptor_dim=5)
