"""Compresses a network: prunes it by magnitude, lets the weights of a layer share at most 2^bits values, and writes a
.places file.

tfplaces-compress --model=run/model.keras --output=run/model.places --sparsity=0.5 --bits=8 --dataset=folder:photos

With --target_drop it looks for the smallest file by itself: it chooses the bits and the share pruned of every layer,
judges each choice on one half of the places of --dataset, and reports the drop of mAP on the other half.
"""

from __future__ import annotations

import os

from absl import flags

from tfplaces.coding import places_statistics
from tfplaces.common.errors import UserError
from tfplaces.common.files import write_json
from tfplaces.tools import entry, flag_values


def define_flags(values: flags.FlagValues) -> None:
    def string(name, default, text, **options):
        flags.DEFINE_string(name, default, text, flag_values=values, **options)

    def number(name, default, text, **options):
        flags.DEFINE_float(name, default, text, flag_values=values, **options)

    def integer(name, default, text, **options):
        flags.DEFINE_integer(name, default, text, flag_values=values, **options)

    def choice(name, default, options, text):
        flags.DEFINE_enum(name, default, options, text, flag_values=values)

    string("model", None, "The .keras or .places file of tfplaces to compress.", required=True)
    string("output", None, "The .places file to write.", required=True)
    number("threshold", None, "Weights whose magnitude is smaller than this become zero.", lower_bound=0)
    number("sparsity", None, "The share of all parameters that becomes zero, from 0 to 1; the smallest weights "
           "go first.", lower_bound=0, upper_bound=1)  # fmt: skip
    choice("sparsity_scope", "global", ("global", "layer"), "What --sparsity is a share of: global means all "
           "parameters together, layer means each kernel.")  # fmt: skip
    string("layers", "*", "The layers to compress, by shell globs that commas separate; ! excludes, as in "
           "'*,!netvlad*'. The other layers keep their float32 weights.")  # fmt: skip
    integer(
        "bits", 8, "The weights of a layer share at most 2^bits values, zero among them.", lower_bound=2, upper_bound=8
    )
    string("bits_for", "", "Other --bits for some layers, by shell globs, of which the last that matches counts, as in "
           "'whitening=5,conv1*=8'.")  # fmt: skip
    choice("grid", "int8", ("int8", "none"), "int8 puts the shared values on whole numbers times a scale, which an "
           "int8 TFLite file holds exactly; none leaves them free.")  # fmt: skip
    choice("quantizer", "kmeans", ("kmeans", "rate_distortion"), "kmeans shares the weights of each layer among "
           "2^bits values; rate_distortion makes a file of a given --rate: it rounds the rows of dense layers, as a "
           "whitening is, in turn, and later ones make up for earlier errors; --bits is for the others.")  # fmt: skip
    number("rate", None, "With --quantizer=rate_distortion: the mean bits a parameter of the whole file.")
    number("target_drop", None, "Instead of saying what to prune and how many bits to give: find the smallest file "
           "whose mAP drops by at most so many points on each data set.")  # fmt: skip
    string("dataset", None, "The data set to fine-tune on; without it weights are only pruned and shared. With "
           "--loss=distill there may be several, separated by commas. With --quantizer=rate_distortion it is not "
           "tuned on: its database images, 100 or more, say which errors matter.")  # fmt: skip
    string("val_dataset", None, "The data set that judges the epochs of --loss=triplet. By default it is the "
           "validation split of --dataset, or a fifth of its places, which are then not trained on. With --target_drop "
           "it judges the files; by default --dataset does.")  # fmt: skip
    choice("loss", "triplet", ("triplet", "distill"), "How to fine-tune: triplet learns from places of "
           "which several photos are known; distill needs no labels and pulls the descriptors of database images "
           "towards those of the float network.")  # fmt: skip
    integer("epochs", 1, "How many epochs to fine-tune after pruning, and again after sharing.", lower_bound=0)
    choice("schedule", "constant", ("constant", "polynomial"), "When to prune: constant prunes before "
           "fine-tuning, polynomial prunes more and more along its steps, by TF-MOT's PolynomialDecay.")  # fmt: skip
    string("l1", "0", "The weight of the L1 penalty in the fine-tuning after pruning, for all layers and for some "
           "of them, as in '1e-7,whitening=1e-6'.")  # fmt: skip
    integer(
        "refresh",
        0,
        "The number of steps of fine-tuning after which weights are assigned to levels anew; 0 means never.",
        lower_bound=0,
    )
    number("learning_rate", 1e-4, "The learning rate of the Adam optimizer.", lower_bound=0)
    number("margin", 0.1, "The margin of the triplet loss, on squared distances.", lower_bound=0)
    string(
        "work_dir",
        None,
        "The folder where an interrupted run finds its state; by default OUTPUT.work. It is removed on success.",
    )
    string(
        "tensorboard", None, "A folder to write TensorBoard's event files to: loss, L1 penalty, sparsity and levels."
    )
    string("json", None, "A file to write the sizes to as well, by layer and in all.")


def main(args: flags.FlagValues) -> None:
    entry.check_output(args.output, args.overwrite)
    if not args.output.endswith(".places"):
        raise UserError(f"--output={args.output}: a compressed model is named .places")
    if args.json:
        entry.check_output(args.json, args.overwrite)
    entry.check_model(args.model, ".keras", ".places")
    if args.threshold is not None and args.sparsity is not None:
        raise UserError("give --threshold or --sparsity, not both")
    l1, l1_for = flag_values.by_layer("l1", args.l1, float)
    bits, bits_for = flag_values.by_layer("bits_for", args.bits_for, int)
    if bits is not None:
        raise UserError(
            f"--bits_for={args.bits_for}: name the layers, as in 'whitening=5,conv1*=8'; for all layers give --bits"
        )
    by_rate = args.quantizer == "rate_distortion"
    if by_rate != (args.rate is not None):
        raise UserError("--rate and --quantizer=rate_distortion go together; with kmeans give --bits")
    if by_rate and not args.dataset:
        raise UserError("--quantizer=rate_distortion needs a --dataset, whose database images give second moments")
    if by_rate and ((args["epochs"].present and args.epochs) or args["loss"].present):
        raise UserError("--quantizer=rate_distortion does not fine-tune: leave --epochs and --loss away")
    tunes = bool(args.dataset and args.epochs) and not by_rate
    searches = args.target_drop is not None
    for name in ("l1", "schedule", "refresh", "tensorboard", "work_dir"):
        if args[name].value != args[name].default and not tunes:
            raise UserError(f"--{name} changes only fine-tuning: it needs --dataset, and --epochs above 0")
    for name in ("threshold", "sparsity", "sparsity_scope", "bits", "bits_for", "schedule", "quantizer"):
        if args[name].value != args[name].default and searches:
            raise UserError(f"--target_drop finds out by itself what --{name} should be: give one of them")
    if searches and not (tunes and args.loss == "distill"):
        raise UserError("--target_drop needs a --dataset to judge by and --loss=distill to fine-tune with")

    from tfplaces.workflows.compressing import TuningPlan, compress_file

    recipe = {name: args[name].value for name in ("bits", "threshold", "sparsity", "sparsity_scope", "layers",
                                                  "schedule", "grid", "refresh", "quantizer", "rate")}  # fmt: skip
    plan = None
    if tunes:
        plan = TuningPlan(args.dataset, args.loss, args.val_dataset, args.epochs, args.learning_rate, args.margin)
    compressed = compress_file(
        args.model, args.output, {**recipe, "bits_for": bits_for, "l1": l1 or 0.0, "l1_for": l1_for}, plan,
        moments_dataset=args.dataset if by_rate else None, target_drop=args.target_drop, work_dir=args.work_dir,
        tensorboard=args.tensorboard, seed=args.seed,
    )  # fmt: skip
    if args.json:
        write_json(args.json, places_statistics(args.output).to_json())
    parameters, size = compressed.model.count_params(), os.path.getsize(args.output)
    print(
        f"{args.output}: {compressed.pruned:.2f} % of {parameters:,} parameters pruned, {size / 1e6:.3f} MB, "
        f"{8 * size / parameters:.3f} bits per parameter, ratio {4 * parameters / size:.1f}"
    )


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
