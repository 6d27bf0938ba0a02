"""Fits a network's PCA whitening on images."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from tfplaces.common.errors import UserError
from tfplaces.common.files import working_folder
from tfplaces.datasets import Images, PlaceDataset, concatenate
from tfplaces.describers import DescriptorFile, KerasDescriber, describe_images
from tfplaces.evaluation import check_positives, evaluate
from tfplaces.layers.principal_components import PrincipalComponents, principal_components
from tfplaces.layers.whitening import DEFAULT_POWER, FULL_POWER
from tfplaces.models import PlaceNet
from tfplaces.training.digests import network_digest

# Those that a validation set chooses among; where it has no preference, the first.
POWERS = (DEFAULT_POWER, 0.0, FULL_POWER)


def add_whitening(
    model: PlaceNet,
    dimensions: int,
    image_sets: Sequence[Images],
    power: float = DEFAULT_POWER,
    validation: PlaceDataset | None = None,
    folder: str | os.PathLike | None = None,
    work_dir: str | os.PathLike | None = None,
) -> PlaceNet:
    """A PlaceNet with a PCA whitening in place of any it had.

    The vectors, 4 bytes for each image and each dimension of the aggregation, go through a file that is removed in the
    end, so that memory does not grow with the number of images.

    Args:
        model: its backbone and aggregation are copied.
        dimensions: length of the whitened descriptor.
        image_sets: database images; queries are not to be used.
        power: the power of the eigenvalues, 0 to 0.5, see `PCAWhitening`.
        validation: places to choose the power by: that of 0, 0.25 and 0.5 with the highest mAP takes the place of
            `power`, and is printed.
        folder: where the file with the vectors is made; by default the system's folder for temporary files.
        work_dir: a folder in which the vectors lie instead, and stay when it is interrupted, for the next call of the
            same network and images to go on with. When the whitening is fitted they are removed.

    Raises:
        UserError: more dimensions than images − 1 or than the aggregation has, or validation queries of which none has
            a positive, which is found before any work; no room on the disk; images that are copies of one another, so
            that fewer directions can be fitted.
    """
    if validation is not None:
        check_positives(validation)
    components = bare_components(model, dimensions, image_sets, folder, work_dir)
    if validation is not None:
        scores = {}
        for candidate in POWERS:
            described = KerasDescriber(_whitened(model, components, candidate))
            scores[candidate] = evaluate(described, validation).map
        power = max(scores, key=scores.__getitem__)
        found = ", ".join(f"{score:.1f} with {p}" for p, score in sorted(scores.items()))
        print(f"whitening: mAP on {validation.spec} {found}; power {power} is taken")
    return _whitened(model, components, power)


def bare_components(
    model: PlaceNet,
    count: int,
    image_sets: Sequence[Images],
    folder: str | os.PathLike | None = None,
    work_dir: str | os.PathLike | None = None,
) -> PrincipalComponents:
    """Principal components of the unwhitened descriptors of images; arguments and errors as of `add_whitening`."""
    check_whitening(model, count, image_sets)
    bare = replace(model, whitening=0)
    images = concatenate(image_sets)
    with contextlib.ExitStack() as stack:
        if work_dir is None:
            place = stack.enter_context(working_folder(folder or tempfile.gettempdir()))
        else:
            place = os.path.join(work_dir, "whitening")
        vectors = DescriptorFile(place, network_digest(bare), bare.input_size, images, bare.descriptor_dim)
        if vectors.done:
            print(f"whitening: goes on from {vectors.done:,} of {len(images):,} images")
        found = principal_components(describe_images(KerasDescriber(bare), images, "whitening", vectors), count)
        vectors.remove()
        return found


def check_whitening(model: PlaceNet, dimensions: int, image_sets: Sequence[Images]) -> None:
    """Raises UserError unless a whitening to so many dimensions can be fitted on the images."""
    total = sum(len(images) for images in image_sets)
    if dimensions > total - 1:
        raise UserError(
            f"a whitening to {dimensions} dimensions cannot be fitted on {total} images: at most {total - 1}; lower "
            "the dimensions or name more images to fit it on"
        )
    whitening = [layer for layer in model.layers if layer.name == "whitening"]
    given = (whitening[0].input if whitening else model.output).shape[-1]
    if dimensions > given:
        raise UserError(
            f"a whitening to {dimensions} dimensions: {model.aggregation.title} has {given}; lower the dimensions"
        )


def replace(model: PlaceNet, **changes: Any) -> PlaceNet:
    """A PlaceNet with some of its configuration changed and the weights of all layers that fit copied."""
    other = PlaceNet(**{**model.get_config(), **changes})
    for layer in other.layers:
        if layer.weights and layer.name in {ours.name for ours in model.layers}:
            values = model.get_layer(layer.name).get_weights()
            if [v.shape for v in values] == [tuple(w.shape) for w in layer.weights]:
                layer.set_weights(values)
    return other


def _whitened(model: PlaceNet, components: PrincipalComponents, power: float) -> PlaceNet:
    whitened = replace(model, whitening=len(components.variances), whitening_power=power)
    whitened.get_layer("whitening").set_components(components)
    return whitened
