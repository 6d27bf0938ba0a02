"""Aggregations: what turns a backbone's map of local features into one vector of unit length.

To add one: a file here with a frozen dataclass of its options, and a line in `AGGREGATIONS`. Its method `build` takes
the symbolic map of features and returns the vector; its fields are arguments of `PlaceNet`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfplaces.common.errors import UserError
from tfplaces.common.options import split_options, typed_options
from tfplaces.models.aggregations.base import Aggregation
from tfplaces.models.aggregations.convap import ConvAPAggregation
from tfplaces.models.aggregations.gem import GeMAggregation
from tfplaces.models.aggregations.mixvpr import MixVPRAggregation
from tfplaces.models.aggregations.netvlad import NetVLADAggregation

AGGREGATIONS: dict[str, type[Aggregation]] = {
    "convap": ConvAPAggregation,
    "gem": GeMAggregation,
    "mixvpr": MixVPRAggregation,
    "netvlad": NetVLADAggregation,
}


def make_aggregation(kind: str, options: Mapping[str, Any]) -> Aggregation:
    """An aggregation with its options.

    Args:
        kind: a key of `AGGREGATIONS`.
        options: values of its fields; those that are left out have their defaults.

    Raises:
        UserError: there is no such aggregation, it has no such option, or an option is out of range.
    """
    if kind not in AGGREGATIONS:
        raise UserError(f"aggregation {kind!r} is not known; there are {', '.join(AGGREGATIONS)}")
    known = [field.name for field in dataclasses.fields(AGGREGATIONS[kind])]
    for name in options:
        if name not in known:
            raise UserError(f"{kind} has no option {name!r}; it has {', '.join(known)}")
    return AGGREGATIONS[kind](**options)


def parse_aggregation(spec: str) -> Aggregation:
    """The aggregation of a spec, `KIND[?key=value&…]`, as in `gem?linear=512`.

    Raises:
        UserError: as of `make_aggregation`, or it is not written so.
    """
    kind, _, query = spec.partition("?")
    if kind not in AGGREGATIONS:
        raise UserError(f"aggregation {spec!r} is not known; there are {', '.join(AGGREGATIONS)}")
    made = AGGREGATIONS[kind]
    known = [field.name for field in dataclasses.fields(made)]
    return made(**typed_options(spec, split_options(spec, kind, query, known), made))
