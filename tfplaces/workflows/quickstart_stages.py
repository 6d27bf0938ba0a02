"""The stages of the quickstart: each makes a file from the data set or from the file of an earlier stage."""

from __future__ import annotations

import os

import keras
import numpy as np

from tfplaces import datasets
from tfplaces.common.files import replacing, write_json
from tfplaces.common.progress import say_step
from tfplaces.compression import (
    Distillation,
    Kernel,
    Recipe,
    compress,
    find_kernels,
    load_compressed,
    save_places,
)
from tfplaces.layers.netvlad import DEFAULT_SHARPNESS, TRAINING_SHARPNESS
from tfplaces.lite import convert
from tfplaces.lite.check import check, file_report
from tfplaces.losses import TripletRankingLoss
from tfplaces.models import PlaceNet
from tfplaces.opening import load_model, load_place_net
from tfplaces.training import MinedPairs, add_whitening, assemble, train
from tfplaces.workflows.plan import Plan


class Stages:
    """The stages on one data set; see `quickstart` for the arguments.

    Args:
        judged: the opened data set, which the files are evaluated on.
    """

    def __init__(
        self,
        dataset: str,
        judged: datasets.PlaceDataset,
        plan: Plan,
        backbone: str,
        backbone_weights: str,
        input_size: tuple[int, int] | None,
        seed: int,
    ):
        self._plan, self._backbone, self._weights, self._seed = plan, backbone, backbone_weights, seed
        self._judged = judged
        self._sets: tuple[datasets.PlaceDataset, datasets.PlaceDataset] | None = None
        self._trains = datasets.has_splits(dataset)
        self._size = input_size or (plan.size if self._trains else None)
        if self._trains:
            sized = f"{dataset}?places={plan.places}" if dataset == "toytown" else dataset
            learned, validation = datasets.load_dataset(sized, "train"), datasets.load_dataset(dataset, "val")
            self._sets = datasets.cached(learned), datasets.cached(validation)

    @property
    def _images(self) -> datasets.Images:
        """The database images that everything uses that needs no labels; there are no queries among them."""
        return self._sets[0].database if self._sets else self._judged.database

    def make_network(self, path: str) -> dict[str, str]:
        """Trains the network, or assembles it, and returns facts that the reader should know of it."""
        plan = self._plan
        say_step("assembling the network")
        model = assemble(
            self._backbone,
            [self._images],
            weights=self._weights,
            clusters=plan.clusters if self._trains else 64,
            input_size=self._size,
            sharpness=TRAINING_SHARPNESS if self._trains else DEFAULT_SHARPNESS,
            seed=self._seed,
        )
        training = "none: assembled from the backbone's weights and the database images"
        if self._sets:
            history = self._train(model, self._sets, plan.epochs, plan.learning_rate)
            # Not for a folder of photos: fitted on few images, a whitening does harm.
            if len(self._images) >= 2 * plan.whitening:
                say_step("fitting the whitening")
                model = add_whitening(model, plan.whitening, [self._images], folder=os.path.dirname(path))
            tuned = self._train(model, self._sets, plan.whitened_epochs, plan.whitened_learning_rate)
            training = (
                f"{plan.epochs + plan.whitened_epochs} epochs on {self._sets[0].spec}, validation mAP "
                f"{history[0]:.1f} before, {max(tuned):.1f} after"
            )
        with replacing(path) as temporary:
            model.save(temporary)
        whitening = f" + whitening {model.config['whitening']}" if model.config["whitening"] else ""
        network = f"{self._backbone} + {model.aggregation.title}{whitening}"
        return {
            "network": f"{network}, {model.count_params():,} parameters",
            "training": training,
            "compression": f"{plan.sparsity:.0%} of the parameters pruned; fine-tuned towards the float network on "
            f"{min(len(self._images), plan.tuning_images)} images without labels",
            "input": "x".join(map(str, model.input_size)),
        }

    def _train(
        self,
        model: PlaceNet,
        sets: tuple[datasets.PlaceDataset, datasets.PlaceDataset],
        epochs: int,
        learning_rate: float,
    ) -> list[float]:
        say_step(f"training for {epochs} epoch{'s' * (epochs > 1)}")
        batches = MinedPairs(model, sets[0], seed=self._seed)
        loss = TripletRankingLoss(self._plan.margin)
        return train(model, batches, sets[1], epochs=epochs, loss=loss, learning_rate=learning_rate)

    def compress(self, source: str, path: str, bits: int) -> None:
        """Prunes, shares and fine-tunes the network into a `.places` file."""
        plan = self._plan
        say_step(f"compressing to {bits} bits, {plan.sparsity:.0%} of the parameters pruned")
        keras.utils.set_random_seed(self._seed)
        model = load_model(source)
        chosen = np.random.default_rng(self._seed).permutation(len(self._images))[: plan.tuning_images]
        tune = Distillation(
            model,
            datasets.Subset(self._images, chosen),
            epochs=plan.tuning_epochs,
            learning_rate=plan.tuning_learning_rate,
            seed=self._seed,
        )
        kept = dict.fromkeys(_sensitive(find_kernels(model)), 8) if bits < 8 else {}
        save_places(path, compress(model, Recipe(bits=bits, bits_for=kept, sparsity=plan.sparsity), tune))

    def convert(self, source: str, report: str) -> None:
        """Converts a model into the `.tflite` beside the report, the JSON file that tells how it was checked."""
        precision = os.path.splitext(os.path.basename(report))[0]
        say_step(f"converting to TFLite, {precision}, and checking the file")
        if source.endswith(".places"):
            compressed = load_compressed(source)
            model, shared = compressed.model, compressed.shared
        else:
            model, shared = load_place_net(source), {}
        path = os.path.splitext(report)[0] + ".tflite"
        errors = convert(model, path, precision, shared=shared, calibration=self._images, seed=self._seed)
        write_json(report, file_report(path, precision, errors, [check(path, model, self._judged)]))


def kernels_of(path: str) -> dict[str, np.ndarray]:
    """The kernels of a model file, by name."""
    return {kernel.name: kernel.variable.numpy() for kernel in find_kernels(load_model(path))}


def _sensitive(kernels: list[Kernel]) -> list[str]:
    """The names of the kernels that keep 8 bits: where there are depthwise kernels, those and the first kernel.

    Few levels hurt them most, and they are under 1 % of the parameters. With 5 bits for all kernels MobileNetV1 lost 5
    points of mAP on the data set amos_night; with 8 bits for these it lost none.
    """
    depthwise = [k.name for k in kernels if len(k.variable.shape) == 4 and k.channel_axis == 2]
    return [kernels[0].name, *depthwise] if depthwise else []
