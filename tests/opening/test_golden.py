"""Files that earlier versions wrote still open and describe images as they did.

The files, and what they gave then, are in `tests/golden`: a `.keras` and a `.places` of MobileNetV1's first layers with
a whitening and an assignment bias, and a `.places` of AlexNet's, on the int8 grid and pruned, written before a
PlaceNet's configuration held its dtype policy and its frozen layers.
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
    described = load_describer(GOLDEN / name).describe(np.stack(images).astype(np.uint8))
    # Of the long descriptor of AlexNet every eighth element is recorded.
    np.testing.assert_allclose(described[:, :: 8 if "alexnet" in name else 1], DESCRIPTORS[name], atol=1e-5)
