"""Initialisation from images: NetVLAD's vocabulary by k-means, and the whitening by PCA."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfplaces.common.errors import UserError
from tfplaces.common.progress import progress
from tfplaces.datasets import Images, read_batches
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.layers.netvlad import DEFAULT_SHARPNESS
from tfplaces.models import PlaceNet

# As in the published recipe: 50,000 local features, 100 of an image.
LOCAL_FEATURES = 50_000
FEATURES_PER_IMAGE = 100


def initialize_netvlad(
    model: PlaceNet, image_sets: Sequence[Images], sharpness: float = DEFAULT_SHARPNESS, seed: int = 0
) -> None:
    """Sets NetVLAD's centroids and assignment from local features of images, as many from each set.

    Args:
        model: its layer `netvlad` is changed.
        image_sets: database images; queries are not to be used.
        sharpness: see `NetVLAD.adapt`.
        seed: of the sampling and the k-means.

    Raises:
        ValueError: too few local features for the clusters.
    """
    share = LOCAL_FEATURES // len(image_sets)
    features = [sample_local_features(model, images, share, seed) for images in image_sets]
    equal = min(len(f) for f in features)
    rng = np.random.default_rng(seed)
    features = [f[rng.permutation(len(f))[:equal]] for f in features]
    model.get_layer("netvlad").adapt(np.concatenate(features), sharpness, seed)


def sample_local_features(model: PlaceNet, images: Images, count: int, seed: int = 0) -> np.ndarray:
    """Local features at random places of random images, at most 100 of an image: float32 `[<= count, channels]`."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(images))[: max(1, -(-count // FEATURES_PER_IMAGE))])
    backbone = keras.Model(model.inputs[0], model.feature_layer.output)
    run = tf.function(lambda batch: backbone(tf.cast(batch, tf.float32), training=False), reduce_retracing=True)
    features = []
    with progress(len(chosen), "local features", "image") as bar:
        for batch in read_batches(images, model.input_size, 16, chosen):
            maps = run(batch).numpy()
            for local in maps.reshape(len(batch), -1, maps.shape[-1]):
                features.append(local[rng.permutation(len(local))[:FEATURES_PER_IMAGE]])
            bar.update(len(batch))
    return np.concatenate(features)[:count]


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
