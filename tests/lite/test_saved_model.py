"""The converter in a process of its own, as it always runs outside of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfplaces.common.errors import UserError
from tfplaces.lite import float_form, saved_model
from tfplaces.lite.float_form import run_converter  # before a fixture replaces it
from tfplaces.models import PlaceNet


def test_the_process_writes_what_a_call_writes(model: PlaceNet, tmp_path: Path) -> None:
    saved = float_form.export(model, str(tmp_path), (1, *model.input_size, 3), False, "usual")
    assert float_form.run_converter is not run_converter
    run_converter([saved, str(tmp_path / "process.tflite"), "a network", "MIT", "uint8"])
    saved_model.main(saved, str(tmp_path / "call.tflite"), "a network", "MIT", "uint8")
    assert (tmp_path / "process.tflite").read_bytes() == (tmp_path / "call.tflite").read_bytes()


def test_its_failure_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^the TFLite converter failed: .*none") as error:
        run_converter([str(tmp_path / "none"), str(tmp_path / "m.tflite"), "a network", "MIT", "uint8"])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "m.tflite").exists()
