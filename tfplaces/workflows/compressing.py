"""A network from one file to another: compressed by a recipe, or to the smallest file within a loss of mAP."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfplaces import datasets

if TYPE_CHECKING:
    from tfplaces.compression import Compressed, FineTuning
    from tfplaces.models import PlaceNet


@dataclasses.dataclass(frozen=True)
class TuningPlan:
    """How a network is fine-tuned while it is compressed.

    Attributes:
        dataset: the spec of what to learn from; for the loss distill, one or several, separated by commas.
        loss: triplet learns from triplets of places, distill pulls the descriptors of database images towards those of
            the float network.
        val_dataset: the spec of what judges the epochs of the loss triplet, or the files of a search; by default places
            that are held out of the data set, or the data set itself.
        epochs: how often to go through the data set after pruning, and again after sharing; at least 1.
        learning_rate: the step size of Adam.
        margin: the margin of the triplet loss, on squared distances.
    """

    dataset: str
    loss: str = "triplet"
    val_dataset: str | None = None
    epochs: int = 1
    learning_rate: float = 1e-4
    margin: float = 0.1


def compress_file(
    model_path: str,
    output: str,
    recipe: Mapping[str, Any],
    plan: TuningPlan | None = None,
    *,
    moments_dataset: str | None = None,
    target_drop: float | None = None,
    work_dir: str | None = None,
    tensorboard: str | None = None,
    seed: int = 0,
) -> Compressed:
    """Compresses the network of a file and writes it to a `.places` file.

    Data sets are opened before TensorFlow is loaded, and both before anything is written.

    Args:
        model_path: a `.keras` or `.places` file of tfplaces.
        output: the `.places` file.
        recipe: arguments of `tfplaces.compression.Recipe`.
        plan: how to fine-tune; without it weights are only pruned and shared.
        moments_dataset: with the quantizer rate_distortion, the specs of the data sets whose database images give the
            second moments, separated by commas; nothing is then fine-tuned.
        target_drop: instead of what the recipe says of bits and of pruning, look for the smallest file whose mAP drops
            by at most so many points on any data set; see `tfplaces.compression.search`. It takes a plan with the loss
            distill.
        work_dir: the folder where an interrupted run finds its state; by default `output` and `.work`. It is removed
            when the run succeeds.
        tensorboard: a folder for event files.
        seed: gives everything that is random.

    Raises:
        UserError: a data set, the network or the recipe is unfit, or the folder holds the state of another run.
    """
    sets: Sequence[datasets.PlaceDataset] = ()
    if plan and plan.loss == "triplet":
        sets = datasets.training_sets(plan.dataset, plan.val_dataset)
    elif spec := plan.dataset if plan else moments_dataset:
        sets = [datasets.cached(dataset) for dataset in datasets.load_datasets(spec, "train")]

    import keras

    from tfplaces.compression import Monitor, Recipe, compress, compress_to_rate, save_places, search
    from tfplaces.opening import load_place_net
    from tfplaces.training import WorkDir

    made = Recipe(**recipe)
    keras.utils.set_random_seed(seed)
    model = load_place_net(model_path)
    # What a state that is found has to agree with.
    identity = {"model": model_path, "recipe": made.to_json(), "target_drop": target_drop, "seed": seed}
    with contextlib.ExitStack() as held:
        if moments_dataset:
            images = datasets.concatenate([dataset.database for dataset in sets])
            compressed = compress_to_rate(model, made, images, {"dataset": moments_dataset, "seed": seed})
        elif plan is None:
            compressed = compress(model, made)
        else:
            identity |= dataclasses.asdict(plan)
            state = held.enter_context(WorkDir.of_run(work_dir or f"{output}.work", identity, [model_path]))
            callbacks = [Monitor(tensorboard)] if tensorboard else []
            tune = _tuning(model, sets, plan, seed)
            if target_drop is None:
                compressed = compress(model, made, tune, work_dir=state, callbacks=callbacks)
            else:
                judges = datasets.load_datasets(plan.val_dataset or plan.dataset, "val")
                compressed = search(model, judges, target_drop, made, tune, state, seed, callbacks)
            told = ("dataset", "loss", "epochs", "learning_rate")
            compressed.provenance.update({**{key: identity[key] for key in told}, "seed": seed})
        save_places(output, compressed)
    return compressed


def _tuning(model: PlaceNet, sets: Sequence[datasets.PlaceDataset], plan: TuningPlan, seed: int) -> FineTuning:
    from tfplaces.compression import Distillation
    from tfplaces.training import TripletTuning

    options: dict[str, Any] = {"epochs": plan.epochs, "learning_rate": plan.learning_rate, "seed": seed}
    if plan.loss == "triplet":
        learned, validation = sets
        return TripletTuning(model, learned, validation, margin=plan.margin, **options)
    return Distillation(model, datasets.concatenate([dataset.database for dataset in sets]), **options)
