"""Assembles a place-recognition network, trains it and fits its whitening; writes OUTPUT/model.keras.

tfplaces-train --dataset=folder:photos --backbone=mobilenet_v1 --backbone_weights=imagenet --output=run
tfplaces-train --flagfile=recipes/place_batches.flags --dataset=utm:DIR --backbone=mobilenet_v1 --output=run

Flags may be given in a file, as in the second command. A run that was interrupted, even by a kill, goes on with the
same command to the same network. What it has so far lies in OUTPUT/train.work, which is removed in the end.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.common.extras import needed_by
from tfplaces.tools import entry, flag_values
from tfplaces.workflows import training_recipes
from tfplaces.workflows.training_recipes import NetVLADRecipe, PlaceBatchesRecipe, TeacherRecipe


def define_flags(values: flags.FlagValues) -> None:
    string, integer, number = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
    string("dataset", None, "The data set to learn from, written KIND[:PATH][?key=value].", required=True,
           flag_values=values)  # fmt: skip
    string("output", None, "The folder for model.keras; it is made where it is missing.", required=True,
           flag_values=values)  # fmt: skip
    string("val_dataset", None, "The data set that judges the epochs. By default it is the validation split of "
           "--dataset, or about a fifth of its places, which are then not trained on.", flag_values=values)  # fmt: skip
    string("init_dataset", None, "Data sets, separated by commas, whose database images make NetVLAD's vocabulary. By "
           "default those of --dataset do.", flag_values=values)  # fmt: skip
    string("whitening_dataset", None, "Data sets, separated by commas, on whose database images the whitening is "
           "fitted. By default it is fitted on those of --dataset.", flag_values=values)  # fmt: skip
    string("backbone", "mobilenet_v1", f"The backbone: {flag_values.BACKBONES}.", flag_values=values)
    string("backbone_weights", "none", "The weights that the backbone starts from: none (random), imagenet (of Keras "
           "Applications), an .npz file, or a file of PyTorch.", flag_values=values)  # fmt: skip
    string("cut", None, "The name of the backbone layer whose features are aggregated, instead of the usual one.",
           flag_values=values)  # fmt: skip
    string("aggregation", "netvlad", "What makes one vector of the backbone's features, written KIND[?key=value&...]: "
           "netvlad, gem (linear=N adds a linear layer), mixvpr (channels, rows, depth) or convap (channels, grid).",
           flag_values=values)  # fmt: skip
    string("input_size", None, "The size of the images in pixels, HEIGHTxWIDTH, instead of the backbone's own.",
           flag_values=values)  # fmt: skip
    integer("clusters", 64, "The number of NetVLAD's clusters.", lower_bound=1, flag_values=values)
    number("sharpness", None, "A factor on the published α of NetVLAD's assignment; a larger one assigns harder. By "
           "default it is 1 for a network that is trained and 4 for one that is not.", lower_bound=1e-3,
           flag_values=values)  # fmt: skip
    integer("whitening", 0, "The number of dimensions of the whitened descriptor; 0 means no whitening.",
            lower_bound=0, flag_values=values)  # fmt: skip
    string("whitening_power", "0.25", "The power of their variances that whitened dimensions are divided by, 0 to 0.5: "
           "at 0.5 all of them vary alike, at 0 they stay as they are; less is safer where images are few or all taken "
           "by day. auto takes the best of 0, 0.25 and 0.5 by mAP on --val_dataset, or on the places held out of "
           "--dataset.", flag_values=values)  # fmt: skip
    flags.DEFINE_enum("method", PlaceBatchesRecipe.method, [PlaceBatchesRecipe.method, NetVLADRecipe.method],
                      "What the network learns from: place_batches, batches of many places with several images of "
                      "each, and the multi-similarity loss; netvlad, mined triplets, as in the paper. With --teacher "
                      "it is neither.", flag_values=values)  # fmt: skip
    flags.DEFINE_boolean("tensorboard", False, "Write what TensorBoard shows of the training to OUTPUT/tensorboard.",
                         flag_values=values)  # fmt: skip
    _define_recipe(values)


def _define_recipe(values: flags.FlagValues) -> None:
    """The flags that become the recipe; those that are not given are what suits the method."""

    def flag(define: Callable[..., object], name: str, text: str, **bounds: object) -> None:
        define(name, default=None, help=text + training_recipes.defaults(name), flag_values=values, **bounds)

    string, integer, number = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
    flag(
        integer,
        "epochs",
        "How often to go through the data set; 0 assembles a network without training it.",
        lower_bound=0,
    )
    flag(
        string,
        "places",
        "How places are made of images: labels, grid?cell=METRES&sector=DEGREES, "
        "nearby?radius=METRES&angle=DEGREES, or truth, each query with its positives. By default labels where the "
        "data set has them, else nearby where it has positions, else truth.",
    )
    flag(
        integer,
        "places_in_batch",
        "The number of places in a batch.",
        lower_bound=2,
    )
    flag(
        integer,
        "images_of_place",
        "The number of images of each place in a batch.",
        lower_bound=2,
    )
    flag(
        flags.DEFINE_boolean,
        "beside",
        "Whether the places at one spot that look other ways come into one batch. That suits a ground truth of one "
        "heading, and costs precision where any heading at the spot is right.",
    )
    flag(
        string,
        "train_from",
        "The name of the backbone's first layer that is trained; all for the whole network, head for nothing of "
        "the backbone. By default about its last third is trained, of what is before the --cut, or all of it where "
        "its weights are random.",
    )
    flag(
        number,
        "margin",
        "The margin of the triplet loss, on squared distances of unit vectors.",
        lower_bound=0,
    )
    flag(
        string,
        "teacher",
        "The model file of a large network, whose descriptors the network is trained to give to the database images of "
        "--dataset, without labels. Of a .keras or .places teacher with NetVLAD and as many --clusters it gets "
        "NetVLAD and whitening, of any other a linear layer to as many dimensions.",
    )
    flag(
        flags.DEFINE_enum,
        "optimizer",
        "The optimizer: adam, adamw, or sgd with a momentum of 0.9.",
        enum_values=["adam", "adamw", "sgd"],
    )
    flag(
        number,
        "learning_rate",
        "The learning rate that the schedule begins with.",
        lower_bound=0,
    )
    flag(
        number,
        "weight_decay",
        "The share of the weights, times the learning rate, that a step of adamw or sgd takes away.",
        lower_bound=0,
    )
    flag(
        integer,
        "warm_up",
        "The steps in which the learning rate grows from 0. By default a twentieth of all steps.",
        lower_bound=0,
    )
    flag(
        string,
        "schedule",
        "How the learning rate changes: constant, cosine (down to 0 at the end), or "
        "steps?epochs=5,10,15,25&factor=0.3 (multiplied by the factor after these epochs).",
    )
    flag(
        string,
        "augmentation",
        "How images are changed at random: none, crop_jitter?crop=0.5&jitter=0.3, or "
        "rand_augment?operations=3&magnitude=15.",
    )
    flag(
        integer,
        "versions",
        "How many versions of each image there are, changed once and for all. The features that the frozen layers give "
        "them are kept on the disk, which saves time where there are fewer versions than epochs; of the --teacher its "
        "descriptors. 0 changes images anew whenever they come.",
        lower_bound=0,
    )
    flag(
        flags.DEFINE_enum,
        "precision",
        "What the network computes in while it is trained: float32, mixed_float16 or mixed_bfloat16. Half precision is "
        "for GPUs that compute in it.",
        enum_values=["float32", "mixed_float16", "mixed_bfloat16"],
    )
    flag(
        integer,
        "accumulate",
        "How many batches' mean gradient a step of the optimizer goes by. The loss compares the images of one "
        "batch only.",
        lower_bound=1,
    )
    flag(
        integer,
        "patience",
        "The number of epochs without a better recall@1 on the validation set after which the training ends; 0 for "
        "none.",
        lower_bound=0,
    )


def main(args: flags.FlagValues) -> None:
    path = os.path.join(args.output, "model.keras")
    if os.path.exists(path) and not args.overwrite:
        raise UserError(f"{path}: exists already; give --overwrite to replace it, or another --output")
    entry.check_output_folder(args.output)
    input_size = flag_values.size(args.input_size)
    power = whitening_power(args.whitening_power)
    if args["whitening_power"].present and not args.whitening:
        raise UserError("--whitening_power goes with a whitening: give its dimensions with --whitening")
    given = {name: args[name].value for name in training_recipes.options() if args[name].present}
    recipe = training_recipes.make_recipe(_method(args), given)
    if args.tensorboard and recipe.trains:
        with needed_by("--tensorboard"):
            importlib.import_module("tensorboard")

    from tfplaces import datasets

    aggregation = flag_values.aggregation(args, "clusters", "sharpness", "init_dataset")

    def database_images(specs):
        return [d.database for d in datasets.load_datasets(specs or args.dataset, "train")]

    init_images = database_images(args.init_dataset)
    whitening_images = database_images(args.whitening_dataset) if args.whitening else []
    sets: Sequence[datasets.PlaceDataset] = ()
    if args.teacher:
        sets = datasets.load_datasets(args.dataset, "train")
    elif recipe.trains or (args.whitening and power is None):
        sets = datasets.training_sets(args.dataset, args.val_dataset)

    from tfplaces.workflows.training_run import TrainingRun

    training = TrainingRun(
        backbone=args.backbone, backbone_weights=args.backbone_weights, cut=args.cut, input_size=input_size,
        aggregation=aggregation, sharpness=args.sharpness, init_images=init_images,
        sets=sets, recipe=recipe,
        whitening=args.whitening, whitening_power=power, whitening_images=whitening_images, seed=args.seed,
    )  # fmt: skip
    training.check()
    tensorboard = os.path.join(args.output, "tensorboard") if args.tensorboard else None
    model = training.make(path, os.path.join(args.output, "train.work"), tensorboard)
    print(
        f"{path}: {args.backbone} + {model.aggregation.title}"
        + (f" + whitening {model.config['whitening']}" if model.config["whitening"] else "")
        + f", {model.count_params():,} parameters, {os.path.getsize(path) / 1e6:.1f} MB"
    )


def _method(args: flags.FlagValues) -> str:
    """The name of the recipe that the flags ask for.

    Raises:
        UserError: a teacher that is not there, or flags that have no use beside one.
    """
    if args.teacher is None:
        return args.method
    entry.check_model(args.teacher, ".keras", ".places", ".tflite", ".tflpack")
    for name in ("method", "val_dataset", "whitening", "whitening_power", "whitening_dataset"):
        if args[name].present:
            raise UserError(
                f"--{name} does not go with --teacher, which says by itself what is learned and how many dimensions "
                "the descriptors have"
            )
    return TeacherRecipe.method


def whitening_power(text: str) -> float | None:
    """The number that the flag gives; None for `auto`."""
    if text == "auto":
        return None
    try:
        power = float(text)
    except ValueError:
        power = -1.0
    if not 0 <= power <= 0.5:
        raise UserError(f"--whitening_power={text}: expected a number from 0 to 0.5, or auto")
    return power


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
