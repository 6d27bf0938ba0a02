"""Keras layers of place-recognition networks; each is registered and round-trips through `.keras`."""

import keras

from tfplaces.common.errors import UserError

if keras.backend.backend() != "tensorflow":
    raise UserError(
        f"Keras runs on {keras.backend.backend()}, and tfplaces needs TensorFlow: set KERAS_BACKEND=tensorflow before "
        "Keras is imported"
    )

from tfplaces.layers.adaptive_pooling import AdaptiveAveragePooling
from tfplaces.layers.gem import GeM
from tfplaces.layers.netvlad import NetVLAD
from tfplaces.layers.normalization import NORMS, L2Normalization, LocalResponseNormalization, l2_normalize
from tfplaces.layers.positions import Positions
from tfplaces.layers.whitening import PCAWhitening

__all__ = [
    "NORMS",
    "AdaptiveAveragePooling",
    "GeM",
    "L2Normalization",
    "LocalResponseNormalization",
    "NetVLAD",
    "PCAWhitening",
    "Positions",
    "l2_normalize",
]
