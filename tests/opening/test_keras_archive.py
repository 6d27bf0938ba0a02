"""A `.keras` that asks for more than it holds is refused in one line, before Keras builds anything of it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.models import PlaceNet
from tfplaces.opening import load_model, models


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("archive") / "model.keras"
    PlaceNet("squeezenet", clusters=4, whitening=4, cut="fire2", input_size=(40, 56)).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_config(parts: dict[str, bytes], config: bytes, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**parts, "config.json": config}.items():
            archive.writestr(name, content)
    return path


def refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The message; Keras must not have been asked."""
    monkeypatch.setattr(models.keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras got the file"))
    with pytest.raises(UserError) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": 2_000_000}, "asks for clusters=2,000,000"),
        ({"clusters": 1e300}, "asks for clusters="),
        ({"clusters": 60_000, "whitening": 60_000}, "asks for a whitening that its weights of"),
        ({"input_size": [40_000, 40_000]}, "takes images of 40000x40000"),
        ({"input_size": [1, 8193]}, "takes images of 1x8193"),
        ({"input_size": [8192, 8192]}, "more than 8192 on a side or 16,777,216 pixels"),
    ],
)
def test_configs_that_ask_for_too_much(
    changes: dict[str, Any], message: str, parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads(parts["config.json"])
    config["config"].update(changes)
    assert message in refused(with_config(parts, json.dumps(config).encode(), tmp_path / "model.keras"), monkeypatch)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b" " * 200_000_000, "its parts inflate to"),
        (b" " * 17_000_000, "its config has more than 16,777,216 bytes"),
        (b"[" * 100_000, "not a readable Keras model"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "its config is nested more than 100 deep"),
        (b"\xff", "not a readable Keras model"),
        (b'{"units": 3e9}', "asks for units="),
    ],
)
def test_configs_that_are_bombs(
    config: bytes, message: str, parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message in refused(with_config(parts, config, tmp_path / "model.keras"), monkeypatch)


@pytest.mark.parametrize("config", [b"[1, 2]", b"1", b"{}", b'{"class_name": 3}'])
def test_configs_of_no_model(config: bytes, parts: dict[str, bytes], tmp_path: Path) -> None:
    path = with_config(parts, config, tmp_path / "model.keras")
    with pytest.raises(UserError, match=rf"^{path}: .+$"):
        load_model(path)


def test_a_layer_is_no_model(parts: dict[str, bytes], tmp_path: Path) -> None:
    config = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 4}, "registered_name": None}
    path = with_config(parts, json.dumps(config).encode(), tmp_path / "model.keras")
    with pytest.raises(UserError, match=rf"^{path}: holds a Dense, not a model$"):
        load_model(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value: float, tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(inputs))
    model.get_layer("head").bias.assign([0.0, value])
    path = tmp_path / "model.keras"
    model.save(path)
    with pytest.raises(UserError, match=rf"^{path}: head/bias is not finite: the model is broken"):
        load_model(path)
