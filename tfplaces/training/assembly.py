"""Assembles a network that was never trained: a backbone and an aggregation, NetVLAD with a vocabulary of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfplaces.common.progress import progress
from tfplaces.datasets import Images, read_batches
from tfplaces.layers.netvlad import DEFAULT_SHARPNESS
from tfplaces.models import PlaceNet
from tfplaces.pretrained import load_backbone_weights, published_preprocessing

# As in the published recipe: 50,000 local features, 100 of an image.
LOCAL_FEATURES = 50_000
FEATURES_PER_IMAGE = 100


def assemble(
    backbone: str,
    image_sets: Sequence[Images],
    *,
    weights: str = "none",
    aggregation: str = "netvlad",
    input_size: tuple[int, int] | None = None,
    cut: str | None = None,
    sharpness: float = DEFAULT_SHARPNESS,
    seed: int = 0,
    **options: Any,
) -> PlaceNet:
    """Makes a PlaceNet without a whitening, to be used as it is, whitened by `add_whitening`, or trained.

    The same seed gives the same network on the same machine and number of CPU cores; k-means adds up in another order
    on another number.

    Args:
        backbone: a key of `tfplaces.models.BACKBONES`.
        image_sets: database images that NetVLAD's vocabulary is made of, as much from each set; queries are not to be
            used. Other aggregations need none: their linear layers stay random until they are trained.
        weights: none, imagenet or a file, as `load_backbone_weights` takes them.
        aggregation: a key of `tfplaces.models.AGGREGATIONS`.
        input_size: (height, width) in pixels; by default the backbone's.
        cut: name of the backbone layer whose features are aggregated; by default the backbone's.
        sharpness: see `NetVLAD.adapt`; `TRAINING_SHARPNESS` for a network that will be trained.
        seed: gives random weights, the choice of local features and the start of k-means.
        options: options of the aggregation, for example `clusters=64`.

    Raises:
        UserError: the backbone, its weights, the aggregation, the cut or the size cannot be had, or there are too few
            local features.
    """
    keras.utils.set_random_seed(seed)
    preprocessing = published_preprocessing(backbone, weights)
    model = PlaceNet(backbone, aggregation=aggregation, input_size=input_size, cut=cut, **preprocessing, **options)
    load_backbone_weights(model, weights)
    if aggregation == "netvlad":
        initialize_netvlad(model, image_sets, sharpness, seed)
    return model


def initialize_netvlad(
    model: PlaceNet, image_sets: Sequence[Images], sharpness: float = DEFAULT_SHARPNESS, seed: int = 0
) -> None:
    """Sets NetVLAD's centroids and assignment from local features of images, as many from each set.

    Args:
        model: its layer `netvlad` is changed.
        image_sets: database images; queries are not to be used.
        sharpness: see `NetVLAD.adapt`.
        seed: gives the choice of local features and the start of k-means.

    Raises:
        UserError: too few local features for the clusters.
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
