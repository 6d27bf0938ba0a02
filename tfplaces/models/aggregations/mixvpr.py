"""MixVPR: mixing over places of the map by multi-layer perceptrons (Ali-bey et al., WACV 2023)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import keras
from keras import layers

from tfplaces.common.errors import UserError
from tfplaces.layers import L2Normalization, Positions
from tfplaces.models.aggregations.base import Aggregation

_MAX_POSITIONS = 16_384


@dataclasses.dataclass(frozen=True)
class MixVPRAggregation(Aggregation):
    """Blocks x + project(relu(expand(norm(x)))) over the positions of each channel, then two projections.

    With n positions, row by row: `positions` gives `[batch, channels in, n]`; block k has the layers `mixer_{k}_norm`
    (over the positions), `mixer_{k}_expand`, `mixer_{k}_relu`, `mixer_{k}_project` and `mixer_{k}_add`;
    `channel_projection` goes from the backbone's channels to `channels`, `row_projection` from n to `rows`. The vector
    is channel-major (index = row + rows · channel) and L2-normalised.

    Attributes:
        channels: channels after the channel projection.
        rows: numbers of each channel after the row projection.
        depth: number of blocks.
    """

    kind: ClassVar[str] = "mixvpr"
    fixed_size: ClassVar[bool] = True

    channels: int = 1024
    rows: int = 4
    depth: int = 4

    def build(self, features: Any, shape: tuple[int, int, int], norm: str) -> Any:
        height, width, _ = shape
        positions = height * width
        if positions > _MAX_POSITIONS:
            raise UserError(
                f"mixvpr: a map of {height}x{width}; it has weights for each pair of its positions, of which "
                f"{_MAX_POSITIONS:,} are allowed: lower the input size"
            )
        x = Positions(height, width, name="positions")(features)
        x = layers.Permute((2, 1), name="channels_first")(x)
        for k in range(self.depth):
            y = layers.LayerNormalization(epsilon=1e-5, name=f"mixer_{k}_norm")(x)
            y = layers.Dense(positions, name=f"mixer_{k}_expand")(y)
            y = layers.ReLU(name=f"mixer_{k}_relu")(y)
            # So that a network that nobody has trained starts with blocks that change little, as the authors' does.
            y = layers.Dense(
                positions, kernel_initializer=keras.initializers.TruncatedNormal(0.02), name=f"mixer_{k}_project"
            )(y)
            x = layers.Add(name=f"mixer_{k}_add")([x, y])
        x = layers.Permute((2, 1), name="channels_last")(x)
        x = layers.Dense(self.channels, name="channel_projection")(x)
        x = layers.Permute((2, 1), name="projected")(x)
        x = layers.Dense(self.rows, name="row_projection")(x)
        x = layers.Flatten(name="flatten")(x)
        return L2Normalization(norm=norm, name="global_norm")(x)

    def truncated(self, dim: int) -> Aggregation:
        if dim % self.rows or not 1 <= dim // self.rows <= self.channels:
            raise UserError(
                f"descriptor_dim={dim}: {self.title} has {self.channels * self.rows} dimensions, of which multiples of "
                f"{self.rows} can be kept"
            )
        return dataclasses.replace(self, channels=dim // self.rows)
