"""Training from the features of the frozen layers, which are computed once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.progress import say_step
from tfplaces.datasets import Images, Subset
from tfplaces.describers import DescriptorFile, KerasDescriber, describe_images
from tfplaces.models import PlaceNet
from tfplaces.training.batches import ImageBatches
from tfplaces.training.digests import weights_digest
from tfplaces.training.teaching import Versions

_LARGEST = float(np.finfo(np.float16).max)


class FeatureBatches(ImageBatches):
    """The batches of others, with what the frozen layers of a network give in place of images.

    Each image of a batch is in one of its versions, drawn by the seed, the epoch and the step. Targets are those of the
    others, which must not depend on pixels.

    Args:
        batches: what comes when, and with which targets.
        features: float `[versions · images, height, width, channels]`, of the images that may come, version by version.
        seed: see above.
    """

    def __init__(self, batches: ImageBatches, features: np.ndarray, seed: int = 0):
        super().__init__(batches.images, batches.size, len(batches), seed=seed)
        self._batches, self._features = batches, features
        used = batches.used()
        self._versions, self._count = len(features) // len(used), len(used)
        self._row = np.full(len(batches.images), -1)
        self._row[used] = np.arange(len(used))

    def choose(self, epoch: int) -> Iterator[list[np.ndarray]]:
        return self._batches.choose(epoch)

    def targets(self, batch: np.ndarray, images: np.ndarray) -> Any:
        return self._batches.targets(batch, images)

    def read(self, indices: np.ndarray, epoch: int, step: int) -> np.ndarray:
        version = np.random.default_rng([self._seed, epoch, step]).integers(self._versions, size=len(indices))
        return self._features[version * self._count + self._row[indices]]

    def used(self) -> np.ndarray:
        return self._batches.used()

    def state(self) -> dict[str, np.ndarray]:
        return self._batches.state()

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._batches.set_state(state)


def cache_features(
    model: PlaceNet,
    layer: str,
    batches: ImageBatches,
    folder: str | os.PathLike,
    versions: int = 1,
    seed: int = 0,
) -> tuple[FeatureBatches, keras.Model]:
    """Computes what the layers before one give for each image that may come, and what trains the rest from it.

    with trained_from(model, layer):
        features, rest = cache_features(model, layer, batches, folder)
        train(model, features, validation, epochs=10, fitted=ModelTraining(rest))

    Features are kept as float16 `[versions · images, height, width, channels]` in one file, whose space is taken before
    anything is computed. A call that finds the file of an interrupted one goes on from it. The file stays in its folder
    until that is removed.

    Args:
        model: the network.
        layer: the first layer that is trained, as `trained_from` takes it.
        batches: what would be trained on otherwise; its targets must not depend on pixels.
        folder: where the file is.
        versions: of each image, with the image as it is, if `batches` has an augmentation; each is changed once and for
            all. One of them is drawn whenever the image comes.
        seed: gives the versions and which comes when.

    Returns:
        batches of features, and a model from them to descriptors that has the very layers of `model`.

    Raises:
        UserError: no layer is before that one, there is no room on the disk, or a feature is beyond float16.
    """
    last, boundary = _boundary(model, layer)
    frozen = keras.Model(model.inputs[0], keras.layers.Flatten(dtype="float32")(boundary))
    describer = _FrozenLayers(frozen, model.input_size)
    shape = keras.Model(model.inputs[0], boundary).compute_output_shape((1, *model.input_size, 3))[1:]
    images: Images = Subset(batches.images, batches.used())
    if batches.augmentation is not None:
        images = Versions(images, batches.augmentation, versions, seed)
    size = 2 * len(images) * describer.descriptor_dim
    say_step(
        f"features of the frozen layers up to {last}: {len(images):,} times {'x'.join(map(str, shape))}, "
        f"{size / 1e6:,.0f} MB in {os.fspath(folder)}"
    )
    # What the frozen layers are, without the one that flattens.
    layers = [layer.name for layer in frozen.layers[:-1]]
    identity = f"{weights_digest([model.description, layers], frozen.weights)} {batches.augmentation!r}"
    file = DescriptorFile(folder, identity, model.input_size, images, describer.descriptor_dim, np.float16)
    rows = describe_images(describer, images, "features of the frozen layers", file)
    return FeatureBatches(batches, rows.reshape(len(rows), *shape), seed), keras.Model(boundary, model.output)


class _FrozenLayers(KerasDescriber):
    """A describer whose vectors are flattened maps that float16 can hold."""

    def describe(self, images: np.ndarray) -> np.ndarray:
        found = super().describe(images)
        if np.max(np.abs(found), initial=0) > _LARGEST:
            raise UserError(
                f"a feature of {np.max(np.abs(found)):.3g} is beyond float16, in which the features of frozen layers "
                "are kept: train without keeping them"
            )
        return found


def _boundary(model: PlaceNet, layer: str) -> tuple[str, Any]:
    """The layer whose output alone reaches from the layers before one to the others, and that symbolic output.

    In the middle of a block with a short cut there are two; it is then the last one before the block.
    """
    order = [each.name for each in (*model.backbone_layers, *model.head_layers)]
    if layer not in order:
        raise UserError(f"layer {layer!r} to train from: {model.config['backbone']} has none of that name")
    for count in range(order.index(layer), 0, -1):
        after = [model.get_layer(name) for name in order[count:]]
        taken = {id(tensor) for each in after for tensor in keras.tree.flatten(each.input)}
        reaching = [each for each in model.layers if each not in after and id(each.output) in taken]
        if len(reaching) == 1:
            return reaching[0].name, reaching[0].output
    raise UserError(f"layer {layer!r} to train from: no layers before it, whose features could be kept")
