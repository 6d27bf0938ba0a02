"""The linear layer of a network found in closed form, so that the network gives descriptors that are known."""

from __future__ import annotations

import contextlib
import os
import tempfile

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import working_folder
from tfplaces.describers import DescriptorFile, KerasDescriber, describe_images
from tfplaces.models import PlaceNet
from tfplaces.training.digests import network_digest
from tfplaces.training.teaching import TeacherBatches
from tfplaces.training.whitening import replace

# What is added to the variances, as a share of their mean: tried in turn.
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# Images that the layer is found on, at most: their products take 537 MB in float64.
MAX_IMAGES = 8192
# The most numbers in the layer: 1 GB.
_MAX_KERNEL = 2**28
# Columns of the vectors worked on at a time.
_BLOCK = 1024


def fit_head(model: PlaceNet, batches: TeacherBatches, folder: str | os.PathLike | None = None) -> PlaceNet:
    """A PlaceNet whose linear layer makes of the aggregation's vectors what is nearest to the teacher's descriptors.

    It is ridge regression: the layer `whitening` has the kernel and the bias of the least sum of squared differences
    plus a penalty on the kernel. The penalty is the one of eight that brings the descriptors of the images that are
    held out nearest to the teacher's, by their mean cosine. Of the versions of the images at most 8192, drawn at
    random, are used. Memory: a matrix of as many rows and columns in float64 and another of its eigenvectors.

    Args:
        model: its backbone and aggregation are copied; a linear layer that it has is replaced.
        batches: the images with the teacher's descriptors.
        folder: keeps the vectors of the model until the layer is found, for a call that goes on where another was
            killed; by default they are in the system's folder for temporary files.

    Raises:
        UserError: the layer would be too large, or there is no room on the disk.
    """
    bare = replace(model, whitening=0)
    check_head(bare, batches.descriptor_dim)
    images, targets = batches.sample(MAX_IMAGES)
    held_out, held_out_targets = batches.held_out
    describer = KerasDescriber(bare)
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(working_folder(tempfile.gettempdir()))
        file = DescriptorFile(folder, network_digest(bare), bare.input_size, images, bare.descriptor_dim)
        vectors = describe_images(describer, images, "the student's vectors", file)
        judged = describe_images(describer, held_out, "held-out images")
        kernel, bias = ridge_regression(vectors, targets, judged, held_out_targets)
        file.remove()
    student = replace(bare, whitening=batches.descriptor_dim)
    layer = student.get_layer("whitening")
    layer.set_weights([kernel, bias])
    layer.rescale()
    return student


def check_head(model: PlaceNet, dimensions: int) -> None:
    """Raises UserError where a linear layer from a network without a whitening to so many dimensions is too large."""
    if model.descriptor_dim * dimensions > _MAX_KERNEL:
        raise UserError(
            f"a linear layer from the {model.descriptor_dim:,} numbers of {model.aggregation.title} to the teacher's "
            f"{dimensions:,} has more than {_MAX_KERNEL:,} weights: give the teacher a whitening to fewer dimensions, "
            "or the student another aggregation"
        )


def ridge_regression(
    vectors: np.ndarray, targets: np.ndarray, judged: np.ndarray, judged_targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and the bias that map vectors to what is nearest to their targets.

    The kernel K and the bias b have the least mean of ‖x K + b − y‖² + p ‖K‖², with p the one of `PENALTIES`, times the
    mean variance of the vectors in the directions that they span, with which judged vectors come nearest to their
    targets by their mean cosine.

    Args:
        vectors: float `[n, dim]`; may be a memory map.
        targets: float `[n, out]`.
        judged: float `[m, dim]`, other vectors.
        judged_targets: float `[m, out]`, of unit length.

    Returns:
        the kernel, float32 `[dim, out]`, and the bias, float32 `[out]`.
    """
    from scipy.linalg import eigh

    n, dim = vectors.shape
    mean = np.asarray(np.mean(vectors, axis=0, dtype=np.float64))
    middle = np.asarray(np.mean(targets, axis=0, dtype=np.float64))
    centred = targets - middle
    dual = n <= dim
    # The products of all pairs of vectors, or of all pairs of their dimensions: the smaller matrix.
    products = np.zeros((min(n, dim),) * 2)
    cross = np.zeros((len(judged), n)) if dual else np.zeros((dim, targets.shape[1]))
    for start in range(0, dim if dual else n, _BLOCK):
        part = slice(start, start + _BLOCK)
        if dual:
            block = np.asarray(vectors[:, part], np.float64) - mean[part]
            products += block @ block.T
            cross += (judged[:, part] - mean[part]) @ block.T
        else:
            block = np.asarray(vectors[part], np.float64) - mean
            products += block.T @ block
            cross += block.T @ centred[part]
    penalty_unit = np.trace(products) / len(products)
    values, columns = eigh(products, overwrite_a=True, check_finite=False)
    left = columns.T @ (centred if dual else cross)
    right = (cross if dual else judged - mean) @ columns

    def solved(penalty: float) -> np.ndarray:
        return left / (np.maximum(values, 0) + penalty * penalty_unit)[:, None]

    def agreement(penalty: float) -> float:
        found = right @ solved(penalty) + middle
        return float(np.mean(np.sum(found * judged_targets, axis=1) / np.linalg.norm(found, axis=1)))

    best = max(PENALTIES, key=agreement)
    kernel = columns @ solved(best)
    if dual:
        weights, kernel = kernel, np.empty((dim, targets.shape[1]))
        for start in range(0, dim, _BLOCK):
            part = slice(start, start + _BLOCK)
            kernel[part] = (np.asarray(vectors[:, part], np.float64) - mean[part]).T @ weights
    return kernel.astype(np.float32), (middle - mean @ kernel).astype(np.float32)
