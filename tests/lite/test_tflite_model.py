"""Reading a `.tflite`, and renaming its tensors in place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfplaces.lite.tflite_model import TFLiteModel, _unpack_int4


def test_unpacking_int4() -> None:
    """Two's complement, the lower four bits first: 0x8F is -1 and then -8."""
    assert _unpack_int4(np.array([0x8F, 0x70], np.uint8)).tolist() == [-1, -8, 0, 7]


def test_the_output_is_called_descriptor(floats: Path, integers: Path) -> None:
    """The tensor, in float and in int8, and no other tensor."""
    for path in (floats, integers):
        lite = TFLiteModel(path.read_bytes())
        assert [lite.name(index) for index in lite.outputs] == ["descriptor"]
        assert lite.names().count("descriptor") == 1


def test_a_name_that_is_too_long(floats: Path) -> None:
    lite = TFLiteModel(bytearray(floats.read_bytes()))
    with pytest.raises(RuntimeError, match="no room for the name"):
        lite.rename(lite.outputs[0], "descriptors")
