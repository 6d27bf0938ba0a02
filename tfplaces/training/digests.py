"""What tells networks apart whose results are kept on the disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import keras

from tfplaces.models import PlaceNet


def network_digest(model: PlaceNet) -> str:
    """SHA-256 of what a network is and of all its weights: what tells networks of different descriptors apart."""
    return weights_digest(model.get_config(), model.weights)


def weights_digest(description: Any, weights: Sequence[keras.Variable]) -> str:
    """SHA-256 of some layers: what they are, as JSON can hold it, and the values of their weights."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for variable in weights:
        digest.update(keras.ops.convert_to_numpy(variable).tobytes())
    return digest.hexdigest()
