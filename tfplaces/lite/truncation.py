"""Shorter descriptors: the first dimensions of a network's linear layer, then L2 (Jégou and Chum, 2012)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfplaces.coding import SharedKernel
from tfplaces.common.errors import UserError
from tfplaces.compression import find_kernels
from tfplaces.models import PlaceNet


def truncate(
    model: PlaceNet, shared: Mapping[str, SharedKernel], dim: int
) -> tuple[PlaceNet, Mapping[str, SharedKernel]]:
    """The network that gives the first dimensions of its descriptor (Jégou and Chum, 2012), and its sharing.

    Those of the whitening, or where there is none of the aggregation's last linear layer, whose other outputs are left
    out of the network.

    Args:
        model: a network with such a layer, see `Aggregation.truncated`.
        shared: how its kernels are shared, by name.
        dim: dimensions to keep, at most as many as there are.
    """
    shorter = PlaceNet(**{**model.config, **truncated_config(model, dim)}, dtype="float32")
    for ours, theirs in zip(shorter.weights, model.weights, strict=True):
        ours.assign(theirs.numpy()[..., : ours.shape[-1]])
    kept = dict(shared)
    for kernel in find_kernels(shorter):
        units = kernel.variable.shape[-1]
        if (whole := shared.get(kernel.name)) is not None and whole.indices.shape[-1] > units:
            indices = np.ascontiguousarray(whole.indices[..., :units])
            kept[kernel.name] = dataclasses.replace(whole, indices=indices, scales=whole.scales[:units])
    return shorter, kept


def truncated_config(model: PlaceNet, dim: int) -> dict[str, Any]:
    """What of a network's configuration changes where its descriptor is cut to its first dimensions.

    Raises:
        UserError: they cannot be had.
    """
    whitening = model.config["whitening"]
    if not whitening:
        return model.aggregation.truncated(dim).options
    if not 1 <= dim <= whitening:
        raise UserError(
            f"descriptor_dim={dim}: the network has a whitening to {whitening} dimensions, of which the first can be "
            "kept"
        )
    return {"whitening": dim}
