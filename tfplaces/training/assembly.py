"""Initialises NetVLAD's vocabulary from images, by k-means over their local features."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfplaces.common.progress import progress
from tfplaces.datasets import Images, read_batches
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
