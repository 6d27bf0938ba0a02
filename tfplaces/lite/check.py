"""The check that travels with a `.tflite`: the file that ships, run beside the Keras model on real images."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfplaces.common.files import sha256
from tfplaces.common.processors import usable_processors
from tfplaces.datasets import PlaceDataset
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.describers.litert import LiteRTDescriber, open_interpreter, operators
from tfplaces.evaluation import Evaluation, check_positives, measure_latency, measure_memory, score
from tfplaces.models import PlaceNet

# Images that the layers of two files are compared on.
_LAYER_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class Check:
    """What a `.tflite` gives beside the Keras model that it was made from.

    Attributes:
        dataset: spec of the images.
        cosine_mean, cosine_min: of the two descriptors of an image, over all of the data set's.
        keras, tflite: the retrieval scores of both.
    """

    dataset: str
    cosine_mean: float
    cosine_min: float
    keras: Evaluation
    tflite: Evaluation

    @property
    def drop(self) -> float:
        """Points of mAP that the file loses to the Keras model."""
        return self.keras.map - self.tflite.map

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        scores = {"keras": self.keras.to_json(), "tflite": self.tflite.to_json()}
        cosine = {"mean": self.cosine_mean, "min": self.cosine_min}
        return {"dataset": self.dataset, "cosine": cosine, **scores, "drop": self.drop}


def check(
    path: str | os.PathLike, model: PlaceNet, dataset: PlaceDataset, input_size: tuple[int, int] | None = None
) -> Check:
    """Runs a `.tflite` in LiteRT and the Keras model that it was made from on the same images.

    Args:
        path: the file.
        model: the Keras model.
        dataset: what to score both by.
        input_size: (height, width) in pixels; by default the file's.

    Raises:
        ValueError: no query has a positive, or the file cannot be run.
    """
    check_positives(dataset)
    lite = LiteRTDescriber(path, input_size, threads=usable_processors())
    sides = []
    for name, describer in (("Keras", KerasDescriber(model, lite.input_size)), ("LiteRT", lite)):
        database = describe_images(describer, dataset.database, f"{name}: database")
        queries = describe_images(describer, dataset.queries, f"{name}: queries")
        # An int8 output is of nearly unit length only, and a shorter descriptor is the first dimensions, then L2.
        sides.append([_normalized(part[:, : lite.descriptor_dim]) for part in (queries, database)])
    ours, theirs = (np.concatenate(side) for side in sides)
    cosines = np.sum(ours * theirs, axis=1)
    keras, tflite = (score(dataset, *side) for side in sides)
    return Check(dataset.spec, float(np.mean(cosines)), float(np.min(cosines)), keras, tflite)


def _normalized(descriptors: np.ndarray) -> np.ndarray:
    return descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6)


def file_report(
    path: str | os.PathLike, precision: str, kernel_errors: Mapping[str, float], checks: Sequence[Check] = ()
) -> dict[str, Any]:
    """What is known of a `.tflite`, plain JSON types, to stand beside it.

    Args:
        path: the file, under its name.
        precision: that it was converted in.
        kernel_errors: what `convert` returned.
        checks: of the file; where there are any, latency and memory are measured as well.
    """
    facts: dict[str, Any] = {"file": os.path.basename(path), "sha256": sha256(path), "bytes": os.path.getsize(path)}
    facts["precision"] = precision
    lite = open_interpreter(os.fspath(path))
    for end, (detail,) in (("input", lite.get_input_details()), ("output", lite.get_output_details())):
        shape = [int(n) if n > 0 else "any" for n in detail["shape_signature"]]
        facts[end] = {"type": detail["dtype"].__name__, "shape": shape}
    facts |= {"operators": operators(path), "kernel_errors": dict(kernel_errors)}
    if checks:
        memory = measure_memory(path)
        facts |= {
            "checks": [check.to_json() for check in checks],
            "drop": float(np.mean([check.drop for check in checks])),
            "latency_ms": {str(n): measure_latency([path], threads=n)[0].ms for n in (1, 2)},
            "memory_bytes": None if memory is None else memory.above_runtime,
        }
    return facts


@dataclasses.dataclass(frozen=True)
class LayerError:
    """The error of an operator's output.

    Attributes:
        layer: of the Keras model; empty where it is none's.
        operator: its name.
        error: ‖difference to the float32 file‖ / ‖float32 file‖.
        added: what of it this operator adds to its inputs' error, as √(error² − largest input's error²).
    """

    layer: str
    operator: str
    error: float
    added: float


def layer_errors(path: str | os.PathLike, model: PlaceNet, dataset: PlaceDataset, precision: str) -> list[LayerError]:
    """Compares the output of every operator of integers with that of the float32 form, on some database images.

    What adds most comes first.

    Args:
        path: a `.tflite`, made from `model` by `convert`.
        model: the Keras model.
        dataset: gives the images.
        precision: of the file.
    """
    from tfplaces.lite.converter import float_form

    runner = _Runner(path)
    batch, height, width, _ = runner.shape
    dim = runner.descriptor_dim if runner.descriptor_dim != model.descriptor_dim else None
    chosen = np.linspace(0, len(dataset.database) - 1, min(_LAYER_IMAGES, len(dataset.database))).astype(int)
    power, noise = defaultdict(float), defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        reference = _Runner(float_form(model, folder, precision, (batch, height, width, 3), dim))
        for index in chosen:
            image = np.repeat(dataset.database.read(index, (height, width))[None], batch, axis=0)
            theirs = dict(reference.activations(image))
            for name, ours in runner.activations(image):
                exact = next((theirs[plain] for plain in _plain(name) if plain in theirs), None)
                if exact is not None and exact.shape == ours.shape:
                    power[name] += float(np.sum(np.square(exact, dtype=np.float64)))
                    noise[name] += float(np.sum(np.square(ours - exact, dtype=np.float64)))
    share = {name: noise[name] / max(power[name], 1e-30) for name in power}
    found = []
    for operator, inputs, output in runner.operators:
        if output in share:
            before = max((share.get(name, 0.0) for name in inputs), default=0.0)
            added = float(np.sqrt(max(share[output] - before, 0.0)))
            found.append(LayerError(_layer(output, model), operator, float(np.sqrt(share[output])), added))
    return sorted(found, key=lambda error: -error.added)


class _Runner:
    """A `.tflite` that shows what its operators compute.

    Attributes:
        shape: of the input.
        descriptor_dim: of the output.
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
    named = [layer.name for layer in model.layers if re.search(rf"/{re.escape(layer.name)}(_\d+)?/", f"/{tensor}/")]
    return max(named, key=len, default="")
