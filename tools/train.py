"""Assembles a place-recognition network, trains it with triplets and fits its whitening; writes OUTPUT/model.keras.

tfplaces-train --dataset=folder:photos --backbone=mobilenet_v1 --backbone_weights=imagenet --output=run
"""

from __future__ import annotations

import os

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.tools import entry


def define_flags(values: flags.FlagValues) -> None:
    string, integer, number = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
    string("dataset", None, "Data set to learn from, KIND[:PATH][?key=value].", required=True, flag_values=values)
    string("output", None, "Folder for model.keras; made where missing.", required=True, flag_values=values)
    string("val_dataset", None, "Judges the epochs; by default the data set's own validation split, or every fifth "
           "query, which is then not trained on.", flag_values=values)  # fmt: skip
    string("init_dataset", None, "Database images for NetVLAD's vocabulary; several, comma-separated; by default "
           "those of --dataset.", flag_values=values)  # fmt: skip
    string("whitening_dataset", None, "Database images for the whitening; several, comma-separated; by default those "
           "of --dataset.", flag_values=values)  # fmt: skip
    string("backbone", "mobilenet_v1", "alexnet, caffenet, vgg16, mobilenet_v1, mobilenet_v2 or squeezenet.",
           flag_values=values)  # fmt: skip
    string("backbone_weights", "none", "none (initialised), imagenet (Keras Applications) or an .npz file.",
           flag_values=values)  # fmt: skip
    string("cut", None, "Backbone layer whose features NetVLAD takes, instead of the usual one.", flag_values=values)
    string("input_size", None, "HEIGHTxWIDTH in pixels, instead of the backbone's own.", flag_values=values)
    integer("clusters", 64, "Clusters of NetVLAD.", lower_bound=1, flag_values=values)
    number("sharpness", None, "Factor on the published α of NetVLAD's assignment; by default 1 for a network that is "
           "trained and 4 for one that is not.", lower_bound=1e-3, flag_values=values)  # fmt: skip
    integer("whitening", 0, "Dimensions of the whitened descriptor; 0: no whitening.", lower_bound=0,
            flag_values=values)  # fmt: skip
    string("whitening_power", "0.25", "Power of their variances that whitened dimensions are divided by, 0 to 0.5: at "
           "0.5 all of them vary alike, at 0 they stay as they are; less is safer where images are few or all taken by "
           "day. auto: the best of 0, 0.25 and 0.5 by mAP on --val_dataset, or on the places held out of --dataset.",
           flag_values=values)  # fmt: skip
    integer("epochs", 10, "Passes over the data set; 0 assembles without training.", lower_bound=0, flag_values=values)
    number("learning_rate", 1e-4, "Of Adam.", lower_bound=0, flag_values=values)
    number("margin", 0.1, "Of the triplet loss, on squared distances.", lower_bound=0, flag_values=values)


def main(args: flags.FlagValues) -> None:
    path = os.path.join(args.output, "model.keras")
    if os.path.exists(path) and not args.overwrite:
        raise UserError(f"{path}: exists already; give --overwrite to replace it, or another --output")
    input_size = entry.size(args.input_size)
    power = whitening_power(args.whitening_power)
    if args["whitening_power"].present and not args.whitening:
        raise UserError("--whitening_power goes with a whitening: give its dimensions with --whitening")

    from tfplaces import datasets

    def database_images(specs):
        return [d.database for d in datasets.load_datasets(specs or args.dataset, "train")]

    init_images = database_images(args.init_dataset)
    whitening_images = database_images(args.whitening_dataset)
    if args.epochs or (args.whitening and power is None):
        dataset, validation = datasets.training_sets(args.dataset, args.val_dataset)

    import keras

    from tfplaces.common.files import replacing
    from tfplaces.layers.netvlad import DEFAULT_SHARPNESS, TRAINING_SHARPNESS
    from tfplaces.models import PlaceNet
    from tfplaces.pretrained import load_backbone_weights
    from tfplaces.training import add_whitening, initialize_netvlad, train
    from tfplaces.training.whitening import check_whitening

    keras.utils.set_random_seed(args.seed)
    model = PlaceNet(args.backbone, clusters=args.clusters, input_size=input_size, cut=args.cut)
    load_backbone_weights(model, args.backbone_weights)
    if args.whitening:
        check_whitening(model, args.whitening, whitening_images)
    os.makedirs(args.output, exist_ok=True)
    sharpness = args.sharpness or (TRAINING_SHARPNESS if args.epochs else DEFAULT_SHARPNESS)
    initialize_netvlad(model, init_images, sharpness, args.seed)
    if args.epochs:
        train(model, dataset, validation, epochs=args.epochs, learning_rate=args.learning_rate, margin=args.margin,
              seed=args.seed)  # fmt: skip
    if args.whitening:
        choice = {"validation": validation} if power is None else {"power": power}
        model = add_whitening(model, args.whitening, whitening_images, folder=args.output, **choice)
    with replacing(path) as temporary:
        model.save(temporary)
    print(
        f"{path}: {args.backbone} + NetVLAD{args.clusters}"
        + (f" + whitening {args.whitening}" if args.whitening else "")
        + f", {model.count_params():,} parameters, {os.path.getsize(path) / 1e6:.1f} MB"
    )


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
