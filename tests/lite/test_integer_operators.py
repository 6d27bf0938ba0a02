"""Each operator of the backbone in integers, asserted on the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfplaces.datasets import PlaceDataset
from tfplaces.lite import convert, quantizing
from tfplaces.lite.integer_operators import check_integer_operators
from tfplaces.models import PlaceNet


def test_files_as_they_should_be(model: PlaceNet, floats: Path, integers: Path) -> None:
    check_integer_operators(integers.read_bytes(), model, "mixed_int8")
    check_integer_operators(floats.read_bytes(), model, "float32")


@pytest.mark.parametrize("precision", ["mixed_int8", "mixed_int4", "full_int8"])
def test_a_float_file_is_refused(model: PlaceNet, floats: Path, precision: str) -> None:
    with pytest.raises(RuntimeError, match=f"is not in integers of 8 bits, which {precision} promises"):
        check_integer_operators(floats.read_bytes(), model, precision)


def test_a_float_head_is_refused_in_full_int8(model: PlaceNet, integers: Path) -> None:
    with pytest.raises(RuntimeError, match="which full_int8 promises"):
        check_integer_operators(integers.read_bytes(), model, "full_int8")


def test_a_layer_that_the_recipe_leaves_out(
    model: PlaceNet, town: PlaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quantizer computes it in float without a word; the file is not written."""
    pattern = quantizing.backbone_pattern(model)
    assert "fire3_expand1x1|" in pattern
    without = pattern.replace("fire3_expand1x1|", "").replace("fire3_expand1x1_relu|", "")
    monkeypatch.setattr(quantizing, "backbone_pattern", lambda _: without)
    with pytest.raises(RuntimeError, match=r"CONV_2D, which computes \S*fire3_expand1x1"):
        convert(model, tmp_path / "a.tflite", calibration=town.database)
    assert not any(tmp_path.iterdir())
