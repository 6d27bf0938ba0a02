"""PlaceNet: image → preprocessing → backbone → aggregation → optional whitening → L2-normalised descriptor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from tfplaces.coding.places import MAX_PIXELS, MAX_SIDE, MAX_UNITS, is_source
from tfplaces.common.errors import UserError
from tfplaces.layers import L2Normalization, PCAWhitening
from tfplaces.layers.normalization import check_norm
from tfplaces.layers.whitening import DEFAULT_POWER, FULL_POWER, check_power
from tfplaces.models.aggregations import Aggregation, make_aggregation
from tfplaces.models.backbones import BACKBONES
from tfplaces.models.summary import layer_shapes, summarize


@keras.saving.register_keras_serializable(package="tfplaces")
class PlaceNet(keras.Model):
    """A functional Keras model that turns an image into a descriptor.

    Input: RGB, 0 to 255, `[batch, height, width, 3]`, any size that the backbone and the aggregation can take. Output:
    `[batch, descriptor_dim]`, vectors of unit length, float32 (float64 under that dtype policy alone).

    The backbone's layers have their own names, those of the aggregation the names that its class in
    `tfplaces.models.aggregations` tells, and the whitening is the layer `whitening`; all of them are ordinary Keras
    layers. `get_config` describes the network in these few words, from which it can be rebuilt. A `.keras` file also
    keeps the dtype policy and which layers are frozen.

    Args:
        backbone: a key of `tfplaces.models.BACKBONES`.
        aggregation: a key of `tfplaces.models.AGGREGATIONS`. Configurations saved before there was a choice mean
            `netvlad`.
        whitening: dimensions of the PCA whitening, up to 65,536; 0 for none.
        whitening_power: the power of the eigenvalues that the whitening is fitted with, see `PCAWhitening`.
            Configurations saved before there was a choice mean 0.5.
        input_size: (height, width) in pixels that the network is meant to be used at, each up to 8192 and together up
            to 2^22 pixels; by default the backbone's.
        cut: name of the backbone layer whose output is aggregated; by default the backbone's.
        projection: channels of a 1 x 1 convolution of that output, the layer `projection`, which counts as the
            backbone's last; 0 for none.
        scale, offset: preprocessing x · scale + offset, offset one per channel, scale one number or one per channel; by
            default what the backbone's published weights expect.
        norm: the form of the L2 normalisations after the backbone, see `tfplaces.layers.l2_normalize`.
        source: where the weights come from, if others trained them: short texts by the keys `file`, `sha256`, `kind`,
            `licence` and `note`, any of them.
        trainable: False freezes all layers.
        dtype: dtype policy of its layers, for example `mixed_float16`; by default Keras's global policy.
        frozen: names of the layers that are not to be trained.
        options: options of the aggregation, for example `clusters=64` of NetVLAD.

    Raises:
        UserError: an unknown backbone, cut, aggregation, option or frozen layer, a number out of range, an input size
            too small for the network, or Keras is set to channels_first.
    """

    def __init__(
        self,
        backbone: str,
        *,
        aggregation: str = "netvlad",
        whitening: int = 0,
        whitening_power: float = DEFAULT_POWER,
        input_size: Sequence[int] | None = None,
        cut: str | None = None,
        projection: int = 0,
        scale: float | Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
        norm: str = "tflite",
        source: Mapping[str, str] | None = None,
        name: str = "place_net",
        trainable: bool = True,
        dtype: Any = None,
        frozen: Sequence[str] = (),
        **options: Any,
    ):
        if backbone not in BACKBONES:
            raise UserError(f"backbone {backbone!r} is not known; there are {', '.join(BACKBONES)}")
        made = make_aggregation(aggregation, options)
        if not 0 <= whitening <= MAX_UNITS:
            raise UserError(f"whitening={whitening}: the number of dimensions, at most {MAX_UNITS}, 0 for none")
        if not 0 <= projection <= MAX_UNITS:
            raise UserError(f"projection={projection}: the number of channels, at most {MAX_UNITS}, 0 for none")
        check_power(whitening_power)
        check_norm(norm)
        spec = BACKBONES[backbone]
        size = tuple(int(s) for s in (input_size or spec.input_size))
        if len(size) != 2 or min(size) < 1:
            raise UserError(f"input_size={size}: expected (height, width) in pixels")
        if max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
            raise UserError(
                f"input_size={size}: sides of up to {MAX_SIDE} and {MAX_PIXELS:,} pixels in all are allowed"
            )
        offset = tuple(float(o) for o in (spec.offset if offset is None else offset))
        if len(offset) != 3:
            raise UserError(f"offset={offset}: expected three numbers, for red, green and blue")
        if source is not None and not is_source(source):
            raise UserError("source: expected short texts by file, sha256, kind, licence or note")
        if keras.config.image_data_format() != "channels_last":
            raise UserError(
                "Keras is set to channels_first, by keras.json or set_image_data_format; place-recognition networks "
                "need channels_last: keras.config.set_image_data_format('channels_last')"
            )
        config = {
            "backbone": backbone,
            "aggregation": aggregation,
            **made.options,
            "whitening": whitening,
            "whitening_power": float(whitening_power),
            "input_size": size,
            "cut": cut or spec.cut,
            "scale": _scale(spec.scale if scale is None else scale),
            "offset": offset,
            "norm": norm,
        }
        if projection:
            config["projection"] = projection
        if source:
            config["source"] = dict(source)
        with _dtype_policy(dtype):
            inputs = keras.Input((None, None, 3), name="image")
            features, descriptor = _build(inputs, config, made)
            super().__init__(inputs, descriptor, name=name)
        self.config: dict[str, Any] = config
        self.aggregation = made
        known = {layer.name for layer in self.layers}
        through = {layer.name for layer in keras.Model(inputs, features).layers}
        # The layers from after the preprocessing to the cut, and those after it, in the model's order.
        self.backbone_layers = [layer for layer in self.layers[2:] if layer.name in through]
        self.head_layers = [layer for layer in self.layers if layer.name not in through]
        if not trainable:
            self.trainable = False
        for layer_name in frozen:
            if layer_name not in known:
                raise UserError(f"frozen layer {layer_name!r}: {backbone} has none of that name")
            self.get_layer(layer_name).trainable = False
        summarize(self)  # raises UserError where the input size is too small

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
        return self.get_layer("projection" if "projection" in self.config else self.config["cut"])

    @property
    def description(self) -> dict[str, Any]:
        """What the network computes: the arguments it can be rebuilt from, without precision and what is frozen."""
        return {**self.config, "name": self.name}

    def get_config(self) -> dict[str, Any]:
        return {
            **self.description,
            "trainable": self.trainable,
            "dtype": self.get_layer("preprocessing").dtype_policy.name,
            "frozen": tuple(layer.name for layer in self.layers if layer.weights and not layer.trainable),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # What was described before there was a policy is float32, whatever Keras's global policy is now; before there
        # was a choice of the whitening's power it was one half.
        return cls(**{"whitening_power": FULL_POWER, "dtype": "float32", **config})


@contextlib.contextmanager
def _dtype_policy(policy: Any) -> Iterator[None]:
    """Makes a policy that of new layers; None leaves Keras's global one."""
    before = keras.config.dtype_policy()
    try:
        if policy is not None:
            keras.config.set_dtype_policy(policy)
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _scale(scale: float | Sequence[float]) -> float | tuple[float, ...]:
    if isinstance(scale, (int, float)):
        return float(scale)
    values = tuple(float(s) for s in scale)
    if len(values) != 3:
        raise UserError(f"scale={values}: expected one number, or three for red, green and blue")
    return values


def _build(image, config: dict[str, Any], aggregation: Aggregation):
    """Connects the layers of a PlaceNet to a symbolic image `[batch, height, width, 3]`: features and descriptor."""
    scale = config["scale"]
    scale = list(scale) if isinstance(scale, tuple) else scale
    x = keras.layers.Rescaling(scale, list(config["offset"]), name="preprocessing")(image)
    for features in BACKBONES[config["backbone"]].build(x):
        backbone = keras.Model(image, features)
        names = [layer.name for layer in backbone.layers[2:]]
        if config["cut"] in names:
            break
    else:
        raise UserError(f"{config['backbone']} has no layer {config['cut']!r}; there are {', '.join(names)}")
    features = backbone.get_layer(config["cut"]).output
    if "projection" in config:
        features = keras.layers.Conv2D(config["projection"], 1, name="projection")(features)
    *_, (_, _, (_, height, width, channels)) = layer_shapes(
        keras.Model(image, features), config["input_size"], config["backbone"]
    )
    x = aggregation.build(features, (height, width, channels), config["norm"])
    if config["whitening"]:
        x = PCAWhitening(config["whitening"], config["whitening_power"], name="whitening")(x)
        x = L2Normalization(norm=config["norm"], name="descriptor")(x)
    return features, x
