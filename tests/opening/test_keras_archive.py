"""A `.keras` that asks for more than it holds is refused in one line, before Keras builds anything of it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
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
        ({"clusters": 65_536}, "asks for weights of 201,"),
        ({"clusters": 1e300}, "not a readable Keras model (netvlad: clusters=1e"),
        ({"clusters": 60_000, "whitening": 60_000}, "asks for weights of 1,843,"),
        ({"whitening": 5}, "more than the"),
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


def test_a_model_of_keras_asks_for_what_it_holds_and_no_memory_is_kept(
    parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer of 2^20 x 2^20 float32 has 4 TiB; no variable of it may wait for a value, as Keras would give it one."""
    inputs = keras.Input((8, 8, 2**20))
    with keras.StatelessScope(initialize_variables=False):
        dense = keras.layers.Dense(2**20, use_bias=False)
        model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(inputs)))
    config = keras.saving.serialize_keras_object(model)
    keras.src.backend.common.global_state.set_global_attribute("uninitialized_variables", [])
    path = with_config(parts, json.dumps(config).encode(), tmp_path / "model.keras")
    assert "asks for weights of 4,398,046,511,104 bytes" in refused(path, monkeypatch)
    with keras.StatelessScope():
        pass  # here Keras gives values to all variables that wait for them


def test_layers_that_the_model_is_without_in_the_end(
    parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras builds whatever layer a config has, also one that leads nowhere."""
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(2, name="dead")
    config = keras.saving.serialize_keras_object(keras.Model(inputs, [keras.layers.Dense(1)(inputs), dense(inputs)]))
    config["config"]["output_layers"] = config["config"]["output_layers"][:1]
    dead = next(layer for layer in config["config"]["layers"] if layer["name"] == "dead")
    dead["config"]["units"] = 10**9
    path = with_config(parts, json.dumps(config).encode(), tmp_path / "model.keras")
    assert "asks for weights of 20,000,000,0" in refused(path, monkeypatch)


def test_shared_layers_are_counted_once(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(4)
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(shared(shared(inputs))))
    model.save(tmp_path / "model.keras")
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(load_model(tmp_path / "model.keras")(x), model(x))


def weights_file(path: Path, fill: Callable[[h5py.File], None]) -> bytes:
    with h5py.File(path, "w") as file:
        fill(file)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        # 4 GB that take no room in the file.
        (lambda f: f.create_dataset("vars/0", (10**9,), "f4", chunks=(1000,)), "its weights inflate to 4,000,000,000"),
        (lambda f: f.__setitem__("vars", h5py.ExternalLink("other.h5", "/")), "refer to other places"),
        (lambda f: f.__setitem__("vars", h5py.SoftLink("/layers")), "refer to other places"),
        (
            lambda f: f.create_dataset("0", (9,), "u1", external=[("/etc/hosts", 0, 9)]),
            "refer to other places",
        ),
    ],
)
def test_weights_that_are_not_in_the_file(
    fill: Callable, message: str, parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_file(tmp_path / "weights.h5", fill)
    path = with_config({**parts, "model.weights.h5": weights}, parts["config.json"], tmp_path / "model.keras")
    assert message in refused(path, monkeypatch)


def test_an_archive_without_weights_or_of_another_compression(
    parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.keras"
    rest = {name: content for name, content in parts.items() if name != "model.weights.h5"}
    assert "holds no model.weights.h5" in refused(with_config(rest, parts["config.json"], path), monkeypatch)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert "compressed by a method that Keras does not use" in refused(path, monkeypatch)


@pytest.mark.parametrize("size", [1, 100, 2**30, 2**32 - 2])
def test_sizes_that_lie(size: int, parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The uncompressed size of each part, at byte 24 of its entry in the archive's directory."""
    data = bytearray(with_config(parts, parts["config.json"], tmp_path / "model.keras").read_bytes())
    place = data.find(b"PK\1\2")
    while place >= 0:
        struct.pack_into("<I", data, place + 24, size)
        place = data.find(b"PK\1\2", place + 4)
    (tmp_path / "model.keras").write_bytes(data)
    refused(tmp_path / "model.keras", monkeypatch)


FUZZ = """
import random, sys
from pathlib import Path
from tfplaces.common.errors import UserError
from tfplaces.opening import load_model

path, data = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes()
for seed in range(int(sys.argv[2])):
    draw, changed = random.Random(seed), bytearray(data)
    for _ in range(draw.choice((1, 1, 4))):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(changed)
    try:
        load_model(path)
        print("opened")
    except UserError as error:
        assert "\\n" not in str(error)
        print("refused")
"""


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_flipped_bits(count: int, tmp_path: Path) -> None:
    """In a process of its own, which a crash of HDF5 would end."""
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "model.keras")
    command = [sys.executable, "-c", FUZZ, str(tmp_path / "model.keras"), str(count)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    found = Counter(run.stdout.split())
    assert run.returncode == 0 and found.total() == count, (found, run.returncode, run.stderr[-1500:])
    assert found["refused"] > count / 2
