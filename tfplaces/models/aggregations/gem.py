"""Generalised mean pooling (Radenović et al., TPAMI 2019), and a linear layer, as in CosPlace (Berton et al. 2022)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from keras import layers

from tfplaces.common.errors import UserError
from tfplaces.layers import GeM, L2Normalization
from tfplaces.models.aggregations.base import Aggregation


@dataclasses.dataclass(frozen=True)
class GeMAggregation(Aggregation):
    """The layers `gem`, `linear` where it is asked for, and `global_norm`, an L2 normalisation.

    Attributes:
        linear: units of the linear layer after the pooling; 0 for none.
        l2_first: whether local features are L2-normalised before they are pooled, in a layer `local_norm`, as CosPlace
            and EigenPlaces do.
    """

    kind: ClassVar[str] = "gem"

    linear: int = 0
    l2_first: bool = False

    def build(self, features: Any, shape: tuple[int, int, int], norm: str) -> Any:
        x = features
        if self.l2_first:
            x = L2Normalization(norm=norm, name="local_norm")(x)
        x = GeM(name="gem")(x)
        if self.linear:
            x = layers.Dense(self.linear, name="linear")(x)
        return L2Normalization(norm=norm, name="global_norm")(x)

    def truncated(self, dim: int) -> Aggregation:
        if not self.linear:
            return super().truncated(dim)
        if not 1 <= dim <= self.linear:
            raise UserError(
                f"descriptor_dim={dim}: {self.title} has {self.linear} dimensions, of which the first can be kept"
            )
        return dataclasses.replace(self, linear=dim)
