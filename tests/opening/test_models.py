"""Opening model files: one clear line for everything that is not one."""

from pathlib import Path

import keras
import pytest

from tfplaces.opening import load_model


def small_model(*layers: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), *layers])


def test_opens_any_keras_model(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    model = small_model(keras.layers.Dense(2))
    model.save(path)
    for name in (path, str(path)):
        assert (load_model(name).get_weights()[0] == model.get_weights()[0]).all()


def test_code_in_a_model_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    small_model(keras.layers.Lambda(lambda x: x + 1)).save(path)
    with pytest.raises(ValueError, match=r"model\.keras: not a readable Keras model .*[Ll]ambda") as error:
        load_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.keras", None, "no such model file"),
        ("folder.keras", "folder", "no such model file"),
        ("text.keras", b"hello", "not a readable Keras model"),
        ("empty.keras", b"", "not a readable Keras model"),
        ("half.keras", "half", "not a readable Keras model"),
        ("model.h5", b"hello", "not a model this can open"),
    ],
)
def test_errors(name: str, content: bytes | str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content == "half":
        small_model(keras.layers.Dense(2)).save(tmp_path / "whole.keras")
        whole = (tmp_path / "whole.keras").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: {message}") as error:
        load_model(path)
    assert "\n" not in str(error.value)
