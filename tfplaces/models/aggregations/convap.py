"""ConvAP: a 1 x 1 convolution and adaptive average pooling (Ali-bey et al., Neurocomputing 2022)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from keras import layers

from tfplaces.common.errors import UserError
from tfplaces.layers import AdaptiveAveragePooling, L2Normalization
from tfplaces.models.aggregations.base import Aggregation


@dataclasses.dataclass(frozen=True)
class ConvAPAggregation(Aggregation):
    """The layers `channel_pooling`, linear at every position, `average_pooling`, and `global_norm`.

    The vector is channel-major (index = bin + grid² · channel, bins row by row) and L2-normalised.

    Attributes:
        channels: channels after the first layer.
        grid: bins of the pooling on each side.
    """

    kind: ClassVar[str] = "convap"

    channels: int = 512
    grid: int = 2

    def build(self, features: Any, shape: tuple[int, int, int], norm: str) -> Any:
        if min(shape[:2]) < self.grid:
            raise UserError(f"convap: a map of {shape[0]}x{shape[1]} has no {self.grid}x{self.grid} bins")
        x = layers.Dense(self.channels, name="channel_pooling")(features)
        x = AdaptiveAveragePooling(self.grid, name="average_pooling")(x)
        return L2Normalization(norm=norm, name="global_norm")(x)

    def truncated(self, dim: int) -> Aggregation:
        bins = self.grid**2
        if dim % bins or not 1 <= dim // bins <= self.channels:
            raise UserError(
                f"descriptor_dim={dim}: {self.title} has {self.channels * bins} dimensions, of which multiples of "
                f"{bins} can be kept"
            )
        return dataclasses.replace(self, channels=dim // bins)
