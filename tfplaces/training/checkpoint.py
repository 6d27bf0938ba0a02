"""The state of a fit in a file."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import replacing


class Checkpoint:
    """The state of a fit in a file: variables of model and optimizer, and how far it was.

    Args:
        path: an `.npz` file, which may not be there yet.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)

    def save(
        self, fitted: keras.Model, state: Mapping[str, Any], extra: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Replaces the file. One variable at a time is copied.

        Args:
            fitted: a compiled model.
            state: what JSON can hold.
            extra: further arrays.
        """
        arrays = {f"variable{i}": v for i, v in enumerate(_variables(fitted))} | dict(extra or {})
        arrays["state"] = np.array(json.dumps(dict(state)))
        with replacing(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                value = array.numpy() if isinstance(array, keras.Variable) else array  # of a replica's, the first
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asanyarray(value), allow_pickle=False)

    def restore(self, fitted: keras.Model) -> dict[str, Any] | None:
        """Sets a model's and its optimizer's variables as saved.

        Returns:
            the state, with the extra arrays beside it; None where there is no file.

        Raises:
            ValueError: the file is of another fit, or damaged.
        """
        if not os.path.exists(self.path):
            return None
        try:
            with np.load(self.path) as saved:
                state = json.loads(str(saved["state"]))
                variables = _variables(fitted)
                names = [f"variable{i}" for i in range(len(variables))]
                if any(
                    tuple(variable.shape) != saved[name].shape for name, variable in zip(names, variables, strict=True)
                ):
                    raise UserError("variables of other shapes")
                for name, variable in zip(names, variables, strict=True):
                    variable.assign(saved[name])
                extra = {name: saved[name] for name in saved.files if name != "state" and name not in names}
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.path}: not the state of this run ({error}); remove it to start anew") from None
        return {**state, **extra}


def _variables(fitted: keras.Model) -> list[keras.Variable]:
    """The variables of the model and of its optimizer, whose variables Keras makes only in the first step."""
    if not fitted.optimizer.built:
        fitted.optimizer.build(fitted.trainable_variables)
    return [*fitted.variables, *fitted.optimizer.variables]
