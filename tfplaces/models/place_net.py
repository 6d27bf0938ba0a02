"""PlaceNet: image → preprocessing → backbone → NetVLAD → optional whitening → L2-normalised descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfplaces.common.errors import UserError
from tfplaces.layers import L2Normalization, NetVLAD, PCAWhitening
from tfplaces.layers.whitening import DEFAULT_POWER, FULL_POWER, check_power
from tfplaces.models.backbones import BACKBONES
from tfplaces.models.summary import summarize


@keras.saving.register_keras_serializable(package="tfplaces")
class PlaceNet(keras.Model):
    """A functional Keras model that turns an image into a descriptor.

    Input: RGB, 0 to 255, `[batch, height, width, 3]`, any size that the backbone can take. Output: float32
    `[batch, descriptor_dim]` of unit length.

    The layers named `netvlad` and `whitening`, the backbone's under their own names, are `keras.layers.Layer` to do
    anything with. `get_config` describes the network in these few words, from which it can be rebuilt.

    Args:
        backbone: a key of `tfplaces.models.BACKBONES`.
        clusters: clusters of NetVLAD, K.
        whitening: dimensions of the PCA whitening, 0 for none.
        whitening_power: the power of the eigenvalues that the whitening is fitted with, see `PCAWhitening`.
            Configurations saved before there was a choice mean 0.5.
        input_size: (height, width) that the network is meant to be used at; by default the backbone's.
        cut: name of the backbone layer whose output goes to NetVLAD; by default the backbone's.
        scale, offset: preprocessing x · scale + offset, offset one per channel; by default what the backbone's
            published weights expect.
        assignment_bias: a bias in the assignment of NetVLAD.

    Raises:
        ValueError: an unknown backbone or cut, a number out of range, or an input size too small for the backbone.
    """

    def __init__(
        self,
        backbone: str,
        *,
        clusters: int = 64,
        whitening: int = 0,
        whitening_power: float = DEFAULT_POWER,
        input_size: Sequence[int] | None = None,
        cut: str | None = None,
        scale: float | None = None,
        offset: Sequence[float] | None = None,
        assignment_bias: bool = False,
        name: str = "place_net",
        **kwargs: Any,
    ):
        if backbone not in BACKBONES:
            raise UserError(f"backbone {backbone!r} is not known; there are {', '.join(BACKBONES)}")
        if whitening < 0:
            raise UserError(f"whitening={whitening}: the number of dimensions, 0 for none")
        check_power(whitening_power)
        spec = BACKBONES[backbone]
        input_size = tuple(int(s) for s in (input_size or spec.input_size))
        if len(input_size) != 2 or min(input_size) < 1:
            raise UserError(f"input_size={input_size}: expected (height, width) in pixels")
        offset = tuple(float(o) for o in (spec.offset if offset is None else offset))
        if len(offset) != 3:
            raise UserError(f"offset={offset}: expected three numbers, for red, green and blue")
        config = {
            "backbone": backbone,
            "clusters": clusters,
            "whitening": whitening,
            "whitening_power": float(whitening_power),
            "input_size": input_size,
            "cut": cut or spec.cut,
            "scale": float(spec.scale if scale is None else scale),
            "offset": offset,
            "assignment_bias": assignment_bias,
        }
        inputs = keras.Input((None, None, 3), name="image")
        super().__init__(inputs, _build(inputs, config), name=name, **kwargs)
        self.config = config
        summarize(self)  # raises ValueError where the input size is too small

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the network is meant to be used at."""
        return self.config["input_size"]

    @property
    def descriptor_dim(self) -> int:
        """Length of the descriptor."""
        return self.output_shape[-1]

    @property
    def feature_layer(self) -> keras.layers.Layer:
        """The backbone's last layer: its output is the map of local features."""
        return self.get_layer(self.config["cut"])

    def get_config(self) -> dict[str, Any]:
        return {**self.config, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**{"whitening_power": FULL_POWER, **config})


def _build(image, config: dict[str, Any]):
    """Connects the layers of a PlaceNet to a symbolic image `[batch, height, width, 3]`."""
    x = keras.layers.Rescaling(config["scale"], list(config["offset"]), name="preprocessing")(image)
    backbone = keras.Model(image, BACKBONES[config["backbone"]].build(x))
    names = [layer.name for layer in backbone.layers[2:]]
    if config["cut"] not in names:
        raise UserError(f"{config['backbone']} has no layer {config['cut']!r}; there are {', '.join(names)}")
    x = backbone.get_layer(config["cut"]).output
    x = NetVLAD(config["clusters"], use_bias=config["assignment_bias"], name="netvlad")(x)
    if config["whitening"]:
        x = PCAWhitening(config["whitening"], config["whitening_power"], name="whitening")(x)
        x = L2Normalization(name="descriptor")(x)
    return x
