"""Opens model files as Keras models."""

from __future__ import annotations

import os

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name

# Importing it registers the layers with Keras.
from tfplaces.models.place_net import PlaceNet
from tfplaces.opening.keras_archive import check_archive


def load_model(path: str | os.PathLike) -> keras.Model:
    """Opens a `.keras` or `.places` file as a Keras model.

    Args:
        path: the file. Nothing in it is executed: a `.keras` with Lambda layers is refused.

    Raises:
        UserError: the file is missing, damaged or of another kind, it asks for more than its weights account for, or
            its weights are not finite.
    """
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise UserError(f"{name}: no such model file")
    if name.endswith(".places"):
        from tfplaces.compression import load_places

        return load_places(name)
    if not name.endswith(".keras"):
        raise UserError(f"{name}: not a model this can open as Keras; there are .keras and .places")
    check_archive(name)
    try:
        model = keras.saving.load_model(name, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds for a damaged archive
        first_line = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise UserError(f"{name}: not a readable Keras model ({first_line[0]})") from None
    if not isinstance(model, keras.Model):
        raise UserError(f"{name}: holds a {type(model).__name__}, not a model")
    for variable in model.weights:
        value = np.asarray(variable)
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise UserError(
                f"{name}: {printable_name(variable.path)} is not finite: the model is broken; train it again"
            )
    return model


def load_place_net(path: str | os.PathLike) -> PlaceNet:
    """Opens a `.keras` or `.places` file that holds a PlaceNet.

    Raises:
        ValueError: as `load_model`, or the file holds another model.
    """
    model = load_model(path)
    if not isinstance(model, PlaceNet):
        raise UserError(f"{os.fspath(path)}: holds a {type(model).__name__}, not a PlaceNet")
    return model
