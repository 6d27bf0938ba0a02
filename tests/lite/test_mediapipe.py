"""MediaPipe's ImageEmbedder gives the descriptors of LiteRT: make test-mediapipe, which makes an environment for it.

What is compared are descriptors of the same pixels: the images have the model's size, so that nobody resizes them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import tfplaces
from tfplaces.describers import LiteRTDescriber
from tfplaces.lite import convert
from tfplaces.training import add_whitening, initialize_netvlad

pytestmark = pytest.mark.slow
SIZE = (64, 96)
PROGRAM = Path(__file__).with_name("embed_with_mediapipe.py")
# Precision, and whether the input is float32, for which MediaPipe needs the metadata.
MODELS = {
    "float32": ("float32", False),
    "float32_of_floats": ("float32", True),
    "mixed_int8": ("mixed_int8", False),
    "mixed_int8_of_floats": ("mixed_int8", True),
    "mixed_int4": ("mixed_int4", False),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, models, the descriptors of LiteRT (`.npy`) and those of MediaPipe (`.mediapipe.npy`)."""
    python = os.environ.get("TFPLACES_MEDIAPIPE")
    if not python:
        pytest.skip("TFPLACES_MEDIAPIPE is not set: no Python with MediaPipe; make test-mediapipe makes one")
    folder = tmp_path_factory.mktemp("mediapipe")
    town = tfplaces.load_dataset("toytown?places=6").database
    images = np.stack([town.read(i, SIZE) for i in range(0, 24, 3)])
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k}.png")

    keras.utils.set_random_seed(0)
    net = tfplaces.PlaceNet("squeezenet", clusters=4, input_size=SIZE)
    initialize_netvlad(net, [town], sharpness=1.0)
    net = add_whitening(net, 16, [town])
    for model, (precision, float_input) in MODELS.items():
        convert(net, folder / f"{model}.tflite", precision, calibration=town, float_input=float_input)
        np.save(folder / f"{model}.npy", LiteRTDescriber(folder / f"{model}.tflite").describe(images))
    done = subprocess.run(
        [python, PROGRAM, folder], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_the_descriptors_are_those_of_litert(folder: Path, model: str) -> None:
    ours, theirs = np.load(folder / f"{model}.npy"), np.load(folder / f"{model}.mediapipe.npy")
    assert ours.shape == theirs.shape == (8, 16)
    np.testing.assert_allclose(np.linalg.norm(theirs, axis=1), 1, atol=1e-3)
    assert np.sum(ours * theirs, 1).min() >= 0.9999
    assert (ours @ ours.T).min() < 0.9  # the images are told apart, so the above says something


@pytest.mark.parametrize("model", MODELS)
def test_the_metadata_are_understood(folder: Path, model: str) -> None:
    assert json.loads((folder / "metadata.json").read_text())[model] == {
        "outputs": ["descriptor"],
        "description": "squeezenet, NetVLAD4, 16-D descriptor",
        "image": "ImagePropertiesT",
        "rgb": True,
        "normalization": [[0, 1]] if MODELS[model][1] else [],
        "range": [0, 255],
        "descriptor": "FeaturePropertiesT",
    }
