"""Measures how much mAP networks lose when they are pruned, shared and fine-tuned."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfplaces import datasets
from tfplaces.common.files import write_json
from tfplaces.common.progress import say_step
from tfplaces.compression import Distillation, Recipe, compress, load_places, places_statistics, save_places
from tfplaces.describers import KerasDescriber
from tfplaces.evaluation import evaluate, mean_drop_interval
from tfplaces.opening import load_place_net
from tfplaces.training import WorkDir

# The share of all parameters that is pruned, the bits, and n where every n-th database image is fine-tuned on: networks
# of few levels need more images.
ROWS = {
    "8 bits, 50 %": (0.50, 8, 3),
    "8 bits, 70 %": (0.70, 8, 3),
    "8 bits, 85 %": (0.85, 8, 3),
    "5 bits, 55 %": (0.55, 5, 1),
    "5 bits, 75 %": (0.75, 5, 1),
}
# First and depthwise layers, under 1 % of the parameters, keep 8 bits where the others get fewer. In backbones that are
# not named here all layers get the same.
SENSITIVE = {
    "efficientnet_lite0": ("stem", "*depthwise*"),
    "mobilenet_v1": ("conv1", "conv_dw_*"),
    "mobilenet_v2": ("Conv1", "*depthwise*"),
    "resnet18": ("conv1",),
    "resnet50": ("conv1",),
    "squeezenet": ("conv1",),
}


def measure_accuracy(
    paths: Sequence[str],
    sets: Sequence[datasets.PlaceDataset],
    work_dir: WorkDir,
    *,
    seeds: Sequence[int] = (0,),
    epochs: int = 1,
    learning_rate: float = 1e-4,
) -> list[dict[str, Any]]:
    """Measures each row of `ROWS` of each network.

    Networks are fine-tuned towards the float network, after pruning and after sharing, on the database images of the
    data sets, never on queries.

    Args:
        paths: the `.keras` and `.places` files of the networks.
        sets: the data sets to measure mAP on; their specs have to differ.
        work_dir: the folder that keeps what is measured; a call that finds it there goes on from it.
        seeds: the seeds to fine-tune with; the figures are means over them.
        epochs: how often to go through the images after pruning, and again after sharing; at least 1.
        learning_rate: the step size of Adam.

    Returns:
        for each network a row of the float network, then one for each of `ROWS`. A row holds `model` (the path),
        `parameters`, `row` (the key in `ROWS`, None for the float network), `map` (mAP of each data set by its spec),
        `drop` (points of mAP lost against the float network, the mean of the data sets), `drops` (the same of each data
        set), `drop_interval` (the 95 % interval of `drop` by a paired bootstrap over the queries, see
        `tfplaces.evaluation.mean_drop_interval`), `drop_error` (its standard error over the seeds; None where there is
        one seed), `pruned` (a percentage of the parameters) and `bytes` (the size of the first seed's file).
    """
    images = datasets.concatenate([dataset.database for dataset in sets])
    parts = {every: datasets.Subset(images, range(0, len(images), every)) for _, _, every in ROWS.values()}
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        network = _Network(path, parts, sets, epochs, learning_rate)
        base = _measured(work_dir.file(f"{number}-float.json"), network.scores)
        common = {"model": path, "parameters": network.parameters}
        rows.append({**common, "row": None, **_figures(sets, base, [base]), "pruned": 0.0, "bytes": None})
        for k, (name, row) in enumerate(ROWS.items()):
            runs = []
            for seed in seeds:
                say_step(f"{os.path.basename(path)}, {name} pruned, seed {seed}")
                measure = functools.partial(network.compressed_scores, *row, seed)
                runs.append(_measured(work_dir.file(f"{number}-{k}-{seed}.json"), measure))
            sizes = {key: runs[0][key] for key in ("pruned", "bytes")}
            rows.append({**common, "row": name, **_figures(sets, base, runs), **sizes})
    return rows


class _Network:
    """A network that is compressed many times, each time from its float weights."""

    def __init__(
        self,
        path: str,
        parts: Mapping[int, datasets.Images],
        sets: Sequence[datasets.PlaceDataset],
        epochs: int,
        learning_rate: float,
    ):
        self._model = load_place_net(path)
        self._weights = self._model.get_weights()
        self._parts, self._sets, self._epochs, self._learning_rate = parts, sets, epochs, learning_rate
        self._tunes: dict[tuple[int, int], Distillation] = {}
        self.parameters = self._model.count_params()

    def scores(self) -> dict[str, Any]:
        """The average precisions of the float network."""
        self._model.set_weights(self._weights)
        return _scores(self._model, self._sets)

    def compressed_scores(self, sparsity: float, bits: int, every: int, seed: int) -> dict[str, Any]:
        """The average precisions of the compressed network as it is read from its file, and the figures of the file."""
        self._model.set_weights(self._weights)
        if (seed, every) not in self._tunes:
            self._tunes[seed, every] = Distillation(
                self._model, self._parts[every], epochs=self._epochs, learning_rate=self._learning_rate, seed=seed
            )
        keras.utils.set_random_seed(seed)
        kept = dict.fromkeys(SENSITIVE.get(self._model.config["backbone"], ()), 8) if bits < 8 else {}
        recipe = Recipe(bits=bits, bits_for=kept, sparsity=sparsity)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.places")
            save_places(path, compress(self._model, recipe, self._tunes[seed, every]))
            total = places_statistics(path).total
            return {**_scores(load_places(path), self._sets), "pruned": total.pruned, "bytes": total.file_bytes}


def _scores(model: keras.Model, sets: Sequence[datasets.PlaceDataset]) -> dict[str, Any]:
    """The average precision of each query of each data set."""
    describer = KerasDescriber(model)
    return {"precisions": [evaluate(describer, dataset).average_precisions.tolist() for dataset in sets]}


def _measured(path: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a measurement: from the file that keeps it, or else measured now and kept there."""
    if not os.path.exists(path):
        write_json(path, measure())
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _figures(
    sets: Sequence[datasets.PlaceDataset], base: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The figures of a row, from the average precisions of its queries in the run of each seed."""
    specs = [dataset.spec for dataset in sets]
    bases = [np.array(values) for values in base["precisions"]]
    by_run = [[np.array(values) for values in run["precisions"]] for run in runs]
    means = [np.mean(values, axis=0) for values in zip(*by_run, strict=True)]
    drops = [float(np.mean(b - m)) for b, m in zip(bases, means, strict=True)]
    of_seeds = [np.mean([np.mean(b - r) for b, r in zip(bases, run, strict=True)]) for run in by_run]
    several = len(runs) > 1
    return {
        "map": {spec: float(np.mean(values)) for spec, values in zip(specs, means, strict=True)},
        "drop": float(np.mean(drops)),
        "drops": dict(zip(specs, drops, strict=True)),
        "drop_interval": list(mean_drop_interval(bases, means)),
        "drop_error": float(np.std(of_seeds, ddof=1) / np.sqrt(len(runs))) if several else None,
    }
