"""Assembles a place-recognition network, trains it with triplets and fits its whitening; writes OUTPUT/model.keras.

tfplaces-train --dataset=folder:photos --backbone=mobilenet_v1 --backbone_weights=imagenet --output=run

A run that was interrupted, even by a kill, goes on with the same command to the same network. What it has so far lies
in OUTPUT/train.work, which is removed in the end.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.tools import entry

# What is decided by the output's folder or by how often the command was given, not what the network will be.
_NOT_IDENTITY = ("output", "overwrite", "version", "help")


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
    string("backbone", "mobilenet_v1", "The backbone: alexnet, caffenet, vgg16, mobilenet_v1, mobilenet_v2 or "
           "squeezenet.", flag_values=values)  # fmt: skip
    string("backbone_weights", "none", "The weights that the backbone starts from: none (random), imagenet (of Keras "
           "Applications) or an .npz file.", flag_values=values)  # fmt: skip
    string("cut", None, "The name of the backbone layer whose features NetVLAD takes, instead of the usual one.",
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
    integer("epochs", 10, "How often to go through the data set; 0 assembles a network without training it.",
            lower_bound=0, flag_values=values)  # fmt: skip
    number("learning_rate", 1e-4, "The step size of the optimizer, Adam.", lower_bound=0, flag_values=values)
    number("margin", 0.1, "The margin of the triplet loss, on squared distances of unit vectors.", lower_bound=0,
           flag_values=values)  # fmt: skip


def main(args: flags.FlagValues) -> None:
    path = os.path.join(args.output, "model.keras")
    if os.path.exists(path) and not args.overwrite:
        raise UserError(f"{path}: exists already; give --overwrite to replace it, or another --output")
    entry.check_output_folder(args.output)
    input_size = entry.size(args.input_size)
    power = whitening_power(args.whitening_power)
    if args["whitening_power"].present and not args.whitening:
        raise UserError("--whitening_power goes with a whitening: give its dimensions with --whitening")

    from tfplaces import datasets

    def database_images(specs):
        return [d.database for d in datasets.load_datasets(specs or args.dataset, "train")]

    init_images = database_images(args.init_dataset)
    whitening_images = database_images(args.whitening_dataset) if args.whitening else []
    sets: Sequence[datasets.PlaceDataset] = ()
    if args.epochs or (args.whitening and power is None):
        sets = datasets.training_sets(args.dataset, args.val_dataset)

    from tfplaces.common.files import replacing
    from tfplaces.evaluation import check_positives
    from tfplaces.layers.netvlad import DEFAULT_SHARPNESS, TRAINING_SHARPNESS
    from tfplaces.losses import TripletRankingLoss
    from tfplaces.models import PlaceNet, outline
    from tfplaces.opening import load_place_net
    from tfplaces.training import MinedPairs, WorkDir, add_whitening, assemble, train
    from tfplaces.training.whitening import check_whitening

    # Whatever can be known to go wrong later is found now.
    network = {"clusters": args.clusters, "input_size": input_size, "cut": args.cut}
    planned = outline(PlaceNet, args.backbone, **network)
    if args.whitening:
        check_whitening(planned, args.whitening, whitening_images)
    for dataset in sets[1:]:
        check_positives(dataset)
    identity = {name: args[name].value for name in args if name not in _NOT_IDENTITY}
    identity["images"] = _digest(
        [*init_images, *whitening_images, *(part for d in sets for part in (d.database, d.queries))]
    )
    files = [args.backbone_weights] if os.path.isfile(args.backbone_weights) else []
    with WorkDir.of_run(os.path.join(args.output, "train.work"), identity, files) as work_dir:

        def kept(name, make):
            """The network of a stage: as an interrupted run has left it, or made and kept."""
            file = work_dir.file(f"{name}.keras")
            if os.path.exists(file):
                return load_place_net(file)
            made = make()
            with replacing(file) as temporary:
                made.save(temporary)
            return made

        def assembled():
            sharpness = args.sharpness or (TRAINING_SHARPNESS if args.epochs else DEFAULT_SHARPNESS)
            return assemble(args.backbone, init_images, weights=args.backbone_weights, sharpness=sharpness,
                            seed=args.seed, **network)  # fmt: skip

        def trained():
            model = kept("assembled", assembled)
            batches = MinedPairs(model, datasets.cached(sets[0]), seed=args.seed)
            train(model, batches, sets[1], epochs=args.epochs, loss=TripletRankingLoss(args.margin),
                  learning_rate=args.learning_rate, checkpoint=work_dir.checkpoint("training"))  # fmt: skip
            return model

        model = kept("trained", trained) if args.epochs else kept("assembled", assembled)
        if args.whitening:
            choice = {"validation": sets[1]} if power is None else {"power": power}
            model = add_whitening(model, args.whitening, whitening_images, work_dir=work_dir.path, **choice)
        with replacing(path) as temporary:
            model.save(temporary)
    print(
        f"{path}: {args.backbone} + NetVLAD{args.clusters}"
        + (f" + whitening {args.whitening}" if args.whitening else "")
        + f", {model.count_params():,} parameters, {os.path.getsize(path) / 1e6:.1f} MB"
    )


def _digest(parts: list) -> str:
    """What tells sets of images apart, by their names."""
    names = json.dumps([list(images.names) for images in parts])
    return hashlib.sha256(names.encode("utf-8", "surrogatepass")).hexdigest()


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
