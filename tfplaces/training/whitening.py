"""Fits a network's PCA whitening on images."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import Images
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.models import PlaceNet


def add_whitening(model: PlaceNet, dimensions: int, image_sets: Sequence[Images]) -> PlaceNet:
    """A PlaceNet with a PCA whitening in place of any it had.

    The vectors go through a temporary file, so that memory does not grow with the number of images times dimensions.

    Args:
        model: its backbone and NetVLAD are copied.
        dimensions: of the whitened descriptor.
        image_sets: database images; queries are not to be used.

    Raises:
        ValueError: more dimensions than images − 1 or than NetVLAD has; raised before any work.
    """
    check_whitening(model, dimensions, image_sets)
    total = sum(len(images) for images in image_sets)
    bare = replace(model, whitening=0)
    whitened = replace(model, whitening=dimensions)
    describer = KerasDescriber(bare)
    with tempfile.TemporaryDirectory() as folder:
        shape = (total, bare.descriptor_dim)
        vectors = np.memmap(os.path.join(folder, "vectors"), np.float32, "w+", shape=shape)
        done = 0
        for images in image_sets:
            describe_images(describer, images, "whitening", vectors[done : done + len(images)])
            done += len(images)
        whitened.get_layer("whitening").adapt(vectors)
        del vectors
    return whitened


def check_whitening(model: PlaceNet, dimensions: int, image_sets: Sequence[Images]) -> None:
    """Raises ValueError unless a whitening to so many dimensions can be fitted on the images."""
    total = sum(len(images) for images in image_sets)
    if dimensions > total - 1:
        raise UserError(
            f"a whitening to {dimensions} dimensions cannot be fitted on {total} images: at most {total - 1}; lower "
            "the dimensions or name more images to fit it on"
        )
    vlad = model.get_layer("netvlad").output.shape[-1]
    if dimensions > vlad:
        raise UserError(f"a whitening to {dimensions} dimensions: NetVLAD has {vlad}; lower the dimensions")


def replace(model: PlaceNet, **changes) -> PlaceNet:
    """A PlaceNet with some of its configuration changed and the weights of all layers that fit copied."""
    other = PlaceNet(**{**model.get_config(), **changes})
    for layer in other.layers:
        if layer.weights and layer.name in {ours.name for ours in model.layers}:
            values = model.get_layer(layer.name).get_weights()
            if [v.shape for v in values] == [tuple(w.shape) for w in layer.weights]:
                layer.set_weights(values)
    return other
