"""Measures what networks cost on a CPU, in latency, memory and bytes, with Keras and in the precisions of phones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras

from tfplaces import datasets
from tfplaces.benchmarks.models import measure_models
from tfplaces.common.files import replacing
from tfplaces.lite import convert
from tfplaces.models import PlaceNet
from tfplaces.training import initialize_netvlad

# The whitening's dimensions for each backbone; the paper's networks have 4096.
WHITENING = {"alexnet": 4096, "vgg16": 4096, "mobilenet_v1": 1024, "mobilenet_v2": 1024}
PRECISIONS = ("float32", "dynamic_int8", "mixed_int8", "mixed_int4")


def measure_cost(
    folder: str,
    whitening: Mapping[str, int] = WHITENING,
    input_size: tuple[int, int] = (224, 224),
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measures networks with NetVLAD64 and a whitening, in Keras and in each of `PRECISIONS`.

    All weights but NetVLAD's are random, as latency, memory and size before packing do not depend on them.

    Args:
        folder: where the networks' files are made, which take 4 GB; a file that is there already is not made again.
        whitening: the number of the whitening's dimensions for each backbone.
        input_size: (height, width) of the images in pixels.
        seed: gives the random weights.

    Returns:
        a row for each network and precision: what `measure_models` gives, with ratios to Keras, and the keys `backbone`
        and `precision`, which is keras or one of `PRECISIONS`.
    """
    images = datasets.load_dataset("toytown?places=10").database
    rows = []
    for backbone, dimensions in whitening.items():
        paths = {"keras": os.path.join(folder, backbone, "model.keras")}
        paths |= {name: os.path.join(folder, backbone, f"{name}.tflite") for name in PRECISIONS}
        if missing := [name for name, path in paths.items() if not os.path.exists(path)]:
            os.makedirs(os.path.join(folder, backbone), exist_ok=True)
            keras.utils.set_random_seed(seed)
            model = PlaceNet(backbone, whitening=dimensions, input_size=input_size)
            initialize_netvlad(model, [images])
            for name in missing:
                if name == "keras":
                    with replacing(paths[name]) as temporary:
                        model.save(temporary)
                else:
                    convert(model, paths[name], name, calibration=images)
        measured = measure_models(list(paths.values()))
        rows += [{"backbone": backbone, "precision": name, **row} for name, row in zip(paths, measured, strict=True)]
    return rows
