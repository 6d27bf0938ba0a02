"""The model of an index and that of a query: whether their descriptors may be compared."""

from __future__ import annotations

import hashlib
import os

import numpy as np
from PIL import Image

from tfplaces import coding
from tfplaces.common.errors import UserError
from tfplaces.common.files import sha256
from tfplaces.datasets import resize
from tfplaces.describers import Describer
from tfplaces.evaluation.unit_descriptors import UnitDescriptors
from tfplaces.index import ModelIdentity, PlaceIndex, TestVector
from tfplaces.toytown import render

# The cosine of the test image's two descriptors below which another runtime is told of, and below which nothing that is
# found can be trusted. Other kernels for the same model were measured to be at .98.
SAME_RUNTIME, COMPARABLE = 0.999, 0.9


def identify(model: str | os.PathLike, describer: Describer) -> ModelIdentity:
    """What tells a model from every other: a `.tflpack` is the `.tflite` that it unpacks to."""
    path = os.fspath(model)
    if path.lower().endswith(".tflpack"):
        digest = hashlib.sha256(coding.unpack_bytes(path)).hexdigest()
    else:
        digest = sha256(path)
    height, width = describer.input_size
    precision = str(getattr(describer, "precision", "float32"))
    return ModelIdentity(digest, precision, (int(height), int(width)), int(describer.descriptor_dim))


def make_test_vector(describer: Describer) -> TestVector:
    """A drawn street and the descriptor that a model gives of it here."""
    image = resize(Image.fromarray(render(0, "test", 0, "day", 0)), describer.input_size)
    return TestVector(image, _describe(describer, image))


def check_model(index: PlaceIndex, identity: ModelIdentity, describer: Describer, force: bool) -> list[str]:
    """Looks whether a model describes photos as the places of an index were described.

    Args:
        index: the index.
        identity: of the model.
        describer: the model.
        force: go on with another model, if its descriptors are as long.

    Returns:
        what the user should know, a sentence each.

    Raises:
        UserError: the model is another one, unless forced; or its descriptors are of another length.
    """
    ours, theirs = identity, index.model
    found = [
        f"{what} {new}, the index {old}"
        for what, new, old in (
            ("descriptors of", f"{ours.dimensions} numbers", f"{theirs.dimensions}"),
            ("images of", "{}x{}".format(*ours.input_size), "{}x{}".format(*theirs.input_size)),
            ("precision", ours.precision, theirs.precision),
            ("SHA-256", f"{ours.sha256[:12]}…", f"{theirs.sha256[:12]}…"),
        )
        if new.removesuffix(" numbers") != old
    ]
    if ours.dimensions != theirs.dimensions:
        raise UserError(f"{index.path}: was made by another model ({found[0]}); take that one, or build it again")
    cosine = _cosine(index, describer) if ours.input_size == theirs.input_size else None
    if found:
        differs = f"{index.path}: was made by another model than the query's ({'; '.join(found)})"
        if not force:
            raise UserError(f"{differs}; take that one, build the index again, or give --force")
        cost = "" if cosine is None else f": its descriptor of the index's test image is at a cosine of {cosine:.4f}"
        return [f"{differs}; scores are lower and places may be missed{cost}"]
    if cosine is None or cosine >= SAME_RUNTIME:
        return []
    runtime = (
        f"{index.path}: this runtime computes the model otherwise than the one that the index was built on (cosine "
        f"{cosine:.4f} of its test image, where the same kernels give 1)"
    )
    if cosine < COMPARABLE and not force:
        raise UserError(f"{runtime}; build the index on the runtime that queries it, or give --force")
    return [f"{runtime}; scores are lower and places may be missed: build the index on the runtime that queries it"]


def _cosine(index: PlaceIndex, describer: Describer) -> float | None:
    vector = index.test_vector
    return None if vector is None else float(vector.descriptor @ _describe(describer, vector.image))


def _describe(describer: Describer, image: np.ndarray) -> np.ndarray:
    return UnitDescriptors(describer.describe(image[None]), "the test image")[0:1][0]
