"""Where a `.tflite` loses accuracy: the error of each operator's output beside that of the float32 form."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfplaces.common.processors import usable_processors
from tfplaces.datasets import PlaceDataset
from tfplaces.describers.litert import open_interpreter
from tfplaces.lite.float_form import float_form
from tfplaces.lite.folders import converting_folder
from tfplaces.lite.layer_names import layers_pattern
from tfplaces.models import PlaceNet

# Images that the layers of two files are compared on.
_LAYER_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class LayerError:
    """The error of an operator's output.

    Attributes:
        layer: name of the Keras layer; empty where the tensor belongs to none.
        operator: its name.
        error: ‖difference to the float32 file‖ / ‖float32 file‖.
        added: what of it this operator adds to its inputs' error, as √(error² − largest input's error²). Both are
            infinite for an output that is not finite, or that is something where float32 has zeros.
    """

    layer: str
    operator: str
    error: float
    added: float

    def to_json(self) -> dict[str, Any]:
        """The errors as plain JSON types; one that is not finite is None."""
        values = dataclasses.asdict(self)
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }


def layer_errors(path: str | os.PathLike, model: PlaceNet, dataset: PlaceDataset, precision: str) -> list[LayerError]:
    """Compares the output of every operator of integers with that of the float32 form, on some database images.

    What adds most comes first.

    Args:
        path: a `.tflite`, made from `model` by `convert`.
        model: the Keras model.
        dataset: gives the images.
        precision: precision of the file.
    """
    runner = _Activations(path)
    batch, height, width, _ = runner.shape
    dim = runner.descriptor_dim if runner.descriptor_dim != model.descriptor_dim else None
    chosen = np.linspace(0, len(dataset.database) - 1, min(_LAYER_IMAGES, len(dataset.database))).astype(int)
    power: defaultdict[str, float] = defaultdict(float)
    noise: defaultdict[str, float] = defaultdict(float)
    with converting_folder(path) as folder:
        reference = _Activations(float_form(model, folder, precision, (batch, height, width, 3), dim))
        for index in chosen:
            image = np.repeat(dataset.database.read(index, (height, width))[None], batch, axis=0)
            theirs = dict(reference.activations(image))
            for name, ours in runner.activations(image):
                exact = next((theirs[plain] for plain in _plain(name) if plain in theirs), None)
                if exact is not None and exact.shape == ours.shape:
                    power[name] += float(np.sum(np.square(exact, dtype=np.float64)))
                    noise[name] += float(np.sum(np.square(ours.astype(np.float64) - exact)))
    share = {name: _ratio(noise[name], power[name]) for name in power}
    found = []
    for operator, inputs, output in runner.operators:
        if output in share:
            before = max((share.get(name, 0.0) for name in inputs), default=0.0)
            added = math.sqrt(max(share[output] - before, 0.0)) if math.isfinite(before) else 0.0
            found.append(LayerError(_layer(output, model), operator, math.sqrt(share[output]), added))
    return sorted(found, key=lambda error: -error.added)


def _ratio(noise: float, power: float) -> float:
    """Noise / power; infinite where values are not finite, or where there is noise in place of zeros."""
    if not math.isfinite(noise) or not math.isfinite(power) or (noise and not power):
        return math.inf
    return noise / power if noise else 0.0


class _Activations:
    """A `.tflite` that shows what its operators compute.

    Attributes:
        shape: shape of the input.
        descriptor_dim: dimension of the output.
        operators: name, names of the inputs and name of the output of each that has integers, in order.
    """

    def __init__(self, path: str | os.PathLike):
        self._lite = open_interpreter(os.fspath(path), usable_processors(), keep_tensors=True)
        self._lite.allocate_tensors()
        self._details = {detail["index"]: detail for detail in self._lite.get_tensor_details()}
        (self._input,), (output,) = self._lite.get_input_details(), self._lite.get_output_details()
        self.shape = tuple(int(n) for n in self._input["shape"])
        self.descriptor_dim = int(output["shape"][-1])
        names = {index: detail["name"] for index, detail in self._details.items()}
        self._outputs = [int(i) for op in self._lite._get_ops_details() for i in op["outputs"] if int(i) in names]
        self.operators = [
            (op["op_name"], [names[int(i)] for i in op["inputs"] if int(i) in names], names[int(op["outputs"][0])])
            for op in self._lite._get_ops_details()
            if op["op_name"] != "DELEGATE"
            and np.int8 in (*op["operand_types"], *op["result_types"])
            and int(op["outputs"][0]) in names
        ]

    def activations(self, image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Name and float32 value of every operator's output for an image."""
        self._lite.set_tensor(self._input["index"], image.astype(self._input["dtype"]))
        self._lite.invoke()
        for index in dict.fromkeys(self._outputs):
            detail = self._details[index]
            scale, zero = detail["quantization"]
            values = self._lite.get_tensor(index).astype(np.float32)
            yield detail["name"], (values - zero) * scale if scale else values


def _plain(name: str) -> tuple[str, str]:
    """Names that a tensor may have had before the quantizer, or TensorFlow's, put its conversions beside it."""
    return re.sub(r"(_quantized|_dequant)+$", "", name), name.removesuffix("1")


def _layer(tensor: str, model: PlaceNet) -> str:
    """The Keras layer that a tensor is of, empty for none."""
    named = [layer.name for layer in model.layers if re.search(layers_pattern([layer]), f"{tensor}/")]
    return max(named, key=len, default="")
