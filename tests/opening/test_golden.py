"""Files that earlier versions wrote still open and describe images as they did.

The files, and what they gave then, are in `tests/golden`: a `.keras` and a `.places` of MobileNetV1's first layers with
a whitening and an assignment bias, and a `.places` of AlexNet's, on the int8 grid and pruned, written before a
PlaceNet's configuration held its dtype policy and its frozen layers; and, of when the aggregation could first be
chosen, a `.places` each of GeM, MixVPR and ConvAP after MobileNetV1's first layers.

These three were made by `compress`, with half of the weights pruned, and `save_places` of networks with random weights,
biases and scales: GeM (p 2.7, unit features, 16 linear units, norms as in PyTorch, three scales of the preprocessing, a
source with its licence) and MixVPR (8 channels, 2 rows, 2 blocks, of one size of image) at 5 bits on the int8 grid,
ConvAP (8 channels, 3x3 bins, norms as in MatConvNet, an unfitted whitening to 6) at 4 bits with levels of any value.
What they give was recorded from the Keras networks that the files opened as.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tfplaces.opening import load_describer

GOLDEN = Path(__file__).parents[1] / "golden"
DESCRIPTORS = json.loads((GOLDEN / "descriptors.json").read_text())


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_descriptors_are_those_of_then(name: str) -> None:
    y, x = np.mgrid[:48, :64]
    images = [
        np.stack([(x * (3 + k) + y * (5 - k)) % 256, (x * y * (k + 1)) % 256, (x * 7 + k * y * 3) % 256], -1)
        for k in range(2)
    ]
    describer = load_describer(GOLDEN / name)
    height, width = describer.input_size
    described = describer.describe(np.stack(images)[:, :height, :width].astype(np.uint8))
    # Of the long descriptor of AlexNet every eighth element is recorded.
    np.testing.assert_allclose(described[:, :: 8 if "alexnet" in name else 1], DESCRIPTORS[name], atol=1e-5)
