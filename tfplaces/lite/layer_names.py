"""The names that TFLite gives what Keras layers compute, as in `place_net_1/conv1_1/convolution`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import keras


def layers_pattern(layers: Iterable[keras.layers.Layer]) -> str:
    """A regular expression, to search with, for the names of tensors that any of some layers compute.

    Args:
        layers: layers of one model; of none the expression is found nowhere.
    """
    names = "|".join(sorted(re.escape(layer.name) for layer in layers))
    return rf"(^|[/;])({names})(_\d+)?/" if names else r"(?!)"
