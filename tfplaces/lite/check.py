"""The check that travels with a `.tflite`: the file that ships, run beside the Keras model on real images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfplaces.common.files import sha256
from tfplaces.common.processors import usable_processors
from tfplaces.datasets import Images, PlaceDataset, read_batches
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.describers.litert import LiteRTDescriber, open_interpreter, operators
from tfplaces.evaluation import Evaluation, check_positives, measure_latency, measure_memory, score
from tfplaces.models import PlaceNet


class UnusableDescriptorError(Exception):
    """A file describes an image by a descriptor that is not finite, or zero; the message says so of the file."""


@dataclasses.dataclass(frozen=True)
class Check:
    """What a `.tflite` gives beside the Keras model that it was made from.

    Attributes:
        dataset: spec of the images.
        cosine_mean, cosine_min: mean and least cosine of the two descriptors of an image, over all of the data set's.
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
        """The check as plain JSON types."""
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
        UserError: no query has a positive, or the file cannot be run.
        UnusableDescriptorError: a descriptor of the file is not finite, or zero.
    """
    check_positives(dataset)
    lite = _UsableDescriber(path, input_size)
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


def check_usable(path: str | os.PathLike, images: Images) -> None:
    """Describes images with a `.tflite` and refuses it where a descriptor is not finite, or zero.

    Raises:
        UserError: the file cannot be run.
        UnusableDescriptorError: a descriptor is not finite, or zero.
    """
    describer = _UsableDescriber(path)
    for batch in read_batches(images, describer.input_size):
        describer.describe(batch)


class _UsableDescriber(LiteRTDescriber):
    """A describer of a `.tflite` that stops at the first descriptor that is not finite, or zero."""

    def __init__(self, path: str | os.PathLike, input_size: tuple[int, int] | None = None):
        super().__init__(path, input_size, threads=usable_processors())

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Describes images, as `LiteRTDescriber` does.

        Raises:
            UnusableDescriptorError: a descriptor is not finite, or zero.
        """
        found = super().describe(images)
        if not np.isfinite(found).all():
            raise UnusableDescriptorError("describes images by numbers that are not finite")
        if not found.any(axis=1).all():
            raise UnusableDescriptorError("describes images by zeros")
        return found


def _normalized(descriptors: np.ndarray) -> np.ndarray:
    return descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6)


def file_report(
    path: str | os.PathLike, precision: str, kernel_errors: Mapping[str, float], checks: Sequence[Check] = ()
) -> dict[str, Any]:
    """What is known of a `.tflite`, plain JSON types, to stand beside it.

    Args:
        path: the file, under its name.
        precision: precision that the file was converted in.
        kernel_errors: what `convert` returned.
        checks: the checks of the file; where there are any, latency and memory are measured as well, and `drop` is that
            of the data set that loses most.
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
        latencies = {str(n): measure_latency([path], threads=n)[0] for n in (1, 2)}
        facts |= {
            "checks": [check.to_json() for check in checks],
            "drop": max(check.drop for check in checks),
            "latency_ms": {threads: latency.ms for threads, latency in latencies.items()},
            "ms_per_call": {threads: latency.ms_per_call for threads, latency in latencies.items()},
            "batch": latencies["1"].batch,
            "memory_bytes": None if memory is None else memory.above_runtime,
        }
    return facts
