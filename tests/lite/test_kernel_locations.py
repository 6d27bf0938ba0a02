"""The comparison of a file's kernels with the model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfplaces.lite.kernel_locations import kernel_errors, locate_kernels
from tfplaces.lite.tflite_model import TFLiteModel
from tfplaces.models import PlaceNet


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-38, 1e30])
def test_an_error_is_zero_for_equal_weights_only(model: PlaceNet, floats: Path, scale: float) -> None:
    """One weight is off by its last bit, where float32 squares would be zero, or infinite."""
    data = bytearray(floats.read_bytes())
    location = next(found for found in locate_kernels(model, data) if found.kernel.name == "whitening/kernel")
    variable, values = location.kernel.variable, location.constant(TFLiteModel(data)).values
    before = variable.numpy()
    try:
        variable.assign(before * np.float32(scale))
        values[:] = location.arranged(variable.numpy())
        assert kernel_errors(data, [location]) == {"whitening/kernel": 0.0}
        values.flat[3] = np.nextafter(values.flat[3], np.float32(1))
        assert 0 < kernel_errors(data, [location])["whitening/kernel"] < 1e-3
    finally:
        variable.assign(before)


def test_zeros_that_the_file_does_not_have(model: PlaceNet, floats: Path) -> None:
    """The error is relative to the model's kernel, or 1.0 where that is zero."""
    data = bytearray(floats.read_bytes())
    location = next(found for found in locate_kernels(model, data) if found.kernel.name == "whitening/kernel")
    variable = location.kernel.variable
    before = variable.numpy()
    try:
        variable.assign(np.zeros_like(before))
        assert kernel_errors(data, [location]) == {"whitening/kernel": 1.0}
    finally:
        variable.assign(before)
