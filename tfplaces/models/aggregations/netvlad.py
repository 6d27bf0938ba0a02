"""NetVLAD (Arandjelović et al., CVPR 2016)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tfplaces.layers import NetVLAD
from tfplaces.models.aggregations.base import Aggregation


@dataclasses.dataclass(frozen=True)
class NetVLADAggregation(Aggregation):
    """The layer `netvlad`, see `tfplaces.layers.NetVLAD`; the vector is cluster-major.

    Attributes:
        clusters: number of clusters, K.
        assignment_bias: whether the assignment has a bias, as MatConvNet's `layerVLADv2` has.
    """

    kind: ClassVar[str] = "netvlad"

    clusters: int = 64
    assignment_bias: bool = False

    def build(self, features: Any, shape: tuple[int, int, int], norm: str) -> Any:
        return NetVLAD(self.clusters, use_bias=self.assignment_bias, norm=norm, name="netvlad")(features)
