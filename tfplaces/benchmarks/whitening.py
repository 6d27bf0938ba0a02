"""Measures what the power of a whitening and the number of its dimensions do to mAP."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from tfplaces.datasets import Images, PlaceDataset
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.evaluation import Evaluation, evaluate, mean_drop_interval, score
from tfplaces.layers.principal_components import PrincipalComponents
from tfplaces.models import PlaceNet
from tfplaces.training.whitening import bare_components, replace

POWERS = (0.0, 0.125, 0.25, 0.375, 0.5)


def measure_whitening(
    model: PlaceNet,
    sets: Sequence[PlaceDataset],
    image_sets: Sequence[Images],
    dimensions: Sequence[int],
    powers: Sequence[float] = POWERS,
    folder: str | os.PathLike | None = None,
) -> list[dict]:
    """Measures a network without a whitening, and with whitenings of several lengths and powers, fitted once.

    Memory: the descriptors of the largest data set at the largest number of dimensions, beside what `add_whitening`
    takes.

    Args:
        model: the network; if it has a whitening, that is left out.
        sets: the data sets to measure mAP on; their specs have to differ.
        image_sets: the database images that the whitening is fitted on.
        dimensions: lengths of the whitened descriptor; the shorter ones are the first dimensions of the longest.
        powers: the powers of the eigenvalues, 0 to 0.5.
        folder: see `add_whitening`.

    Returns:
        a row for the network without whitening, whose `dimensions` are those of NetVLAD and whose `power` is None, and
        one for each number of dimensions and power. A row holds `dimensions`, `power`, `map` (of each data set by its
        spec, 0 to 100), `mean` (over the data sets), `gain` (how many points the mean is above that of the network
        without whitening) and `gain_interval` (the 95 % interval of the gain, see
        `tfplaces.evaluation.mean_drop_interval`); the last two are None in the first row.

    Raises:
        UserError: as `add_whitening`.
    """
    components = bare_components(model, max(dimensions), image_sets, folder)
    bare = KerasDescriber(replace(model, whitening=0))
    plain = {dataset.spec: evaluate(bare, dataset) for dataset in sets}
    rows = [_row(bare.descriptor_dim, None, plain)]
    projection = _Projection(bare, components)
    projected = {
        dataset.spec: [
            describe_images(projection, images, what)
            for images, what in ((dataset.queries, "queries"), (dataset.database, "database"))
        ]
        for dataset in sets
    }
    for length in dimensions:
        for power in powers:
            weights = components.weights(power)[:length]
            found = {}
            for dataset in sets:
                queries, database = (_unit(vectors[:, :length] * weights) for vectors in projected[dataset.spec])
                found[dataset.spec] = score(dataset, queries, database)
            rows.append(_row(length, power, found, plain))
    return rows


def _row(
    dimensions: int, power: float | None, found: dict[str, Evaluation], plain: dict[str, Evaluation] | None = None
) -> dict:
    maps = {spec: evaluation.map for spec, evaluation in found.items()}
    mean = float(np.mean(list(maps.values())))
    row = {"dimensions": dimensions, "power": power, "map": maps, "mean": mean}
    if plain is None:
        return {**row, "gain": None, "gain_interval": None}
    gain = mean - float(np.mean([evaluation.map for evaluation in plain.values()]))
    precisions, bases = ([e.average_precisions for e in each.values()] for each in (found, plain))
    return {**row, "gain": gain, "gain_interval": list(mean_drop_interval(precisions, bases))}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


class _Projection:
    """Describes images by the principal components of what another describer gives: a whitening of power 0, without
    its L2 normalisation."""

    def __init__(self, describer: KerasDescriber, components: PrincipalComponents):
        self._describer, self._directions = describer, components.directions
        self._offset = (components.mean @ components.directions).astype(np.float32)
        self.input_size, self.descriptor_dim = describer.input_size, len(self._offset)

    def describe(self, images: np.ndarray) -> np.ndarray:
        return self._describer.describe(images) @ self._directions - self._offset
