"""The start of a student whose local features are made its teacher's, so that it can take over the teacher's NetVLAD.

A convolution of 1 x 1 at the end of the student's backbone is found by least squares, from the student's features to
what the teacher's backbone gives of the same images. What comes after it is then the teacher's own.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfplaces.common.files import replacing
from tfplaces.common.progress import progress
from tfplaces.datasets import Images, read_batches
from tfplaces.describers import Describer, KerasDescriber
from tfplaces.describers.descriptor_file import images_digest
from tfplaces.models import PlaceNet
from tfplaces.training.digests import network_digest
from tfplaces.training.teaching import TeacherBatches
from tfplaces.training.whitening import replace

# What is added to the variances, as a share of their mean: tried in turn.
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
# Images that the convolution is found on, at most. A map of 14 x 14 has 196 features, so that these are 200,000.
MAX_IMAGES = 1024
_BATCH = 16
# Images after which the sums are kept.
_SHARD = 256


def local_teacher(student: PlaceNet, teacher: Describer) -> PlaceNet | str:
    """The network of a teacher whose NetVLAD a student can take over.

    Args:
        student: the student, whose weights need not have values.
        teacher: the teacher.

    Returns:
        the network, or why there is none, in words that follow "because".
    """
    net = getattr(teacher, "model", None)
    if not isinstance(net, PlaceNet):
        return "the teacher is no network whose layers are known"
    theirs, ours = net.aggregation, student.aggregation
    if theirs.kind != "netvlad":
        return f"the teacher has {theirs.title}, and only NetVLAD can be taken over"
    if ours.title != theirs.title:
        return f"the teacher has {theirs.title} and the student {ours.title}: only the same NetVLAD can be taken over"
    return net


def local_form(student: PlaceNet, teacher: PlaceNet) -> dict[str, Any]:
    """What a student is once it has its teacher's NetVLAD: arguments of `PlaceNet`.

    Where the student's features come from a 1 x 1 convolution with nothing after it, that one is to give the teacher's,
    if it has as many channels; with another number a projection takes its place. Behind any other layer a projection is
    put. So EfficientNet-Lite0, whose features have 112 channels, gets a convolution to VGG16's 512; MobileNetV1's last
    one is changed alone, and in MobileNetV2 the 576 channels of block_13_expand become 512.

    Args:
        student: the student, whose weights need not have values.
        teacher: the teacher.
    """
    channels = teacher.feature_layer.output.shape[-1]
    last = student.feature_layer
    form = {**student.get_config(), "assignment_bias": teacher.config["assignment_bias"]}
    form |= {key: teacher.config[key] for key in ("whitening", "whitening_power")}
    if not _is_pointwise(last):
        return {**form, "projection": channels}
    if last.filters == channels:
        return form
    return {**form, "projection": channels, "cut": _before(student, last)}


def fit_local(
    student: PlaceNet,
    teacher: KerasDescriber,
    batches: TeacherBatches,
    folder: str | os.PathLike | None = None,
) -> PlaceNet:
    """A student with its teacher's NetVLAD and whitening, whose local features are as near to the teacher's as can be.

    Where the networks' grids differ, by their strides or the sizes of their images, the teacher's unit features are
    interpolated to the student's. Of the versions of the images at most 1024, drawn at random, are used; the penalty of
    the ridge regression is the one of six with the least squared error on the images that are held out. Memory does not
    grow with the number of images: it is that of the sums over them, of as many rows as the student's features have
    channels.

    Args:
        student: the student; it is copied.
        teacher: the teacher, of which `local_teacher` gives a network.
        batches: the images.
        folder: keeps the sums, for a call that goes on where another was killed; None for memory alone.

    Raises:
        ValueError: `local_teacher` gives no network.
    """
    net = local_teacher(student, teacher)
    if isinstance(net, str):
        raise ValueError(f"this student cannot take over the NetVLAD of its teacher: {net}")
    form = local_form(student, net)
    taught = replace(student, **form)
    convolution = taught.feature_layer
    pairs = _Pairs(taught, convolution, net, teacher.input_size)
    identity = network_digest(student) + network_digest(net) + str(teacher.input_size)
    sums = []
    for name, images in (("learned", batches.sample(MAX_IMAGES)[0]), ("held_out", batches.held_out[0])):
        path = None if folder is None else os.path.join(folder, f"{name}.npz")
        sums.append(_summed(pairs, images, path, identity + images_digest(images), "local features"))
    kernel, bias = ridge_of_sums(*sums)
    convolution.set_weights([kernel[None, None], bias])
    for layer in ("netvlad", "whitening") if net.config["whitening"] else ("netvlad",):
        taught.get_layer(layer).set_weights(net.get_layer(layer).get_weights())
    return taught


class Sums:
    """Sums over pairs of vectors that a linear map is found from, in float64.

    Args:
        dim: length of the vectors x.
        out: length of the vectors y that they are to give.

    Attributes:
        xx: Σ (x, 1)ᵀ (x, 1), `[dim + 1, dim + 1]`; its last number is how many pairs there are.
        xy: Σ (x, 1)ᵀ y, `[dim + 1, out]`.
        done: images whose pairs are in them.
    """

    def __init__(self, dim: int, out: int):
        self.xx, self.xy = np.zeros((dim + 1, dim + 1)), np.zeros((dim + 1, out))
        self.done = 0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Adds the pairs of an image or more, `[n, dim]` and `[n, out]`."""
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1, dtype=np.float64)
        self.xx += x.T @ x
        self.xy += x.T @ y.astype(np.float64)


def ridge_of_sums(learned: Sums, judged: Sums) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and the bias of the least mean of ‖x K + b − y‖² + p ‖K‖².

    The penalty p is the one of `PENALTIES`, times the mean variance of x, with the least squared error on other pairs.

    Args:
        learned: sums of the pairs.
        judged: sums of the others.

    Returns:
        the kernel, float32 `[dim, out]`, and the bias, float32 `[out]`.
    """
    from scipy.linalg import eigh

    count = learned.xx[-1, -1]
    x_mean, y_mean = learned.xx[-1, :-1] / count, learned.xy[-1] / count
    values, columns = eigh(learned.xx[:-1, :-1] / count - np.outer(x_mean, x_mean))
    right = columns.T @ (learned.xy[:-1] / count - np.outer(x_mean, y_mean))
    values = np.maximum(values, 0)
    unit = max(float(values.mean()), 1e-30)

    def solved(penalty: float) -> np.ndarray:
        kernel = columns @ (right / (values + penalty * unit)[:, None])
        return np.concatenate([kernel, (y_mean - x_mean @ kernel)[None]])

    def error(penalty: float) -> float:
        """Without Σ ‖y‖², which is the same for all."""
        found = solved(penalty)
        return float(np.sum(found * (judged.xx @ found)) - 2 * np.sum(found * judged.xy))

    best = solved(min(PENALTIES, key=error)).astype(np.float32)
    return best[:-1], best[-1]


class _Pairs:
    """What goes into a student's last convolution, and the unit features that its teacher has there.

    Attributes:
        dim: channels of the one.
        out: channels of the other.
    """

    def __init__(self, student: PlaceNet, convolution: Any, teacher: PlaceNet, size: tuple[int, int]):
        self._sizes = student.input_size, size
        source, target = convolution.input, teacher.feature_layer.output
        self.dim, self.out = source.shape[-1], target.shape[-1]
        ours, theirs = keras.Model(student.inputs[0], source), keras.Model(teacher.inputs[0], target)

        def run(images: tf.Tensor, same: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            x = tf.cast(ours(tf.cast(images, tf.float32), training=False), tf.float32)
            y = tf.cast(theirs(tf.cast(same, tf.float32), training=False), tf.float32)
            # The unit features, as NetVLAD takes them.
            y = tf.image.resize(tf.math.l2_normalize(y, axis=-1), tf.shape(x)[1:3], antialias=True)
            return tf.reshape(x, (-1, self.dim)), tf.reshape(y, (-1, self.out))

        self._run = tf.function(run, input_signature=[tf.TensorSpec((None, *s, 3), tf.uint8) for s in self._sizes])

    def read(self, images: Images, start: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Pairs of the images from one on: how many images, and float32 `[n, dim]` and `[n, out]`."""
        ours, theirs = (read_batches(images, size, _BATCH, range(start, len(images))) for size in self._sizes)
        for batch, same in zip(ours, theirs, strict=True):
            x, y = self._run(batch, same)
            yield len(batch), x.numpy(), y.numpy()


def _summed(pairs: _Pairs, images: Images, path: str | None, identity: str, label: str) -> Sums:
    """The sums over all pairs of images, gone on with where a file has the first of them."""
    sums = Sums(pairs.dim, pairs.out)
    if path is not None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _restore(sums, path, identity)
    kept = sums.done
    with progress(len(images), label, "image") as bar:
        bar.update(sums.done)
        for count, x, y in pairs.read(images, sums.done):
            sums.add(x, y)
            sums.done += count
            bar.update(count)
            if path is not None and (sums.done - kept >= _SHARD or sums.done == len(images)):
                kept = sums.done
                with replacing(path) as temporary:
                    np.savez(temporary, xx=sums.xx, xy=sums.xy, done=sums.done, identity=identity)
    return sums


def _restore(sums: Sums, path: str, identity: str) -> None:
    """Sets sums to those in a file, if it is there and whole and of the same images and networks."""
    damaged = (OSError, ValueError, KeyError, zipfile.BadZipFile)
    with contextlib.suppress(*damaged), np.load(path, allow_pickle=False) as found:
        if str(found["identity"]) == identity:
            sums.xx, sums.xy, sums.done = found["xx"], found["xy"], int(found["done"])


def _is_pointwise(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a linear map of each position's channels."""
    return (
        isinstance(layer, keras.layers.Conv2D)
        and (layer.kernel_size, layer.strides, layer.groups) == ((1, 1), (1, 1), 1)
        and layer.activation is keras.activations.linear
        and layer.use_bias
    )


def _before(model: PlaceNet, layer: keras.layers.Layer) -> str:
    """The name of the layer that one has its input from."""
    return next(each.name for each in model.layers if each.output is layer.input)
