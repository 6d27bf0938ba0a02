"""Compresses a network: prunes by magnitude, shares what is left among 2^bits levels a layer, writes a .places file.

tfplaces-compress --model=run/model.keras --output=run/model.places --sparsity=0.5 --bits=8 --dataset=folder:photos

With --target_drop it looks for the smallest file by itself: bits and share pruned of every layer, judged on one
half of the places of --dataset and reported on the other.
"""

from __future__ import annotations

import contextlib

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.tools import entry


def define_flags(values: flags.FlagValues) -> None:
    def string(name, default, text, **options):
        flags.DEFINE_string(name, default, text, flag_values=values, **options)

    def number(name, default, text, **options):
        flags.DEFINE_float(name, default, text, flag_values=values, **options)

    def integer(name, default, text, **options):
        flags.DEFINE_integer(name, default, text, flag_values=values, **options)

    def choice(name, default, options, text):
        flags.DEFINE_enum(name, default, options, text, flag_values=values)

    string("model", None, "A .keras file of tfplaces.", required=True)
    string("output", None, "The .places file to write.", required=True)
    number("threshold", None, "Weights of smaller magnitude become zero.", lower_bound=0)
    number("sparsity", None, "Share of all parameters that becomes zero, 0 to 1, the smallest first.", lower_bound=0,
           upper_bound=1)  # fmt: skip
    choice("sparsity_scope", "global", ("global", "layer"), "What --sparsity is a share of: all parameters, or each "
           "kernel.")  # fmt: skip
    string("layers", "*", "Layers to compress: shell globs, separated by commas, ! excludes, as in '*,!netvlad*'. The "
           "others keep their float32 weights.")  # fmt: skip
    integer("bits", 8, "At most 2^bits levels a layer, zero among them.", lower_bound=2, upper_bound=8)
    string(
        "bits_for",
        "",
        "Other --bits for some layers, by shell globs; the last that matches counts: 'whitening=5,conv1*=8'.",
    )
    choice(
        "grid",
        "int8",
        ("int8", "none"),
        "int8 puts levels on whole numbers, which an int8 TFLite holds exactly; none leaves them free.",
    )
    number("target_drop", None, "Instead of all these: find the smallest file whose mAP drops by at most so many "
           "points on each data set.")  # fmt: skip
    string("dataset", None, "Data set to fine-tune on; without it weights are only pruned and shared. Several, "
           "comma-separated, with --loss=distill.")  # fmt: skip
    string("val_dataset", None, "Data set that judges the epochs of --loss=triplet; by default the data set's own "
           "validation split, or a fifth of the places, which are then not trained on. With --target_drop it judges "
           "the files; by default --dataset does.")  # fmt: skip
    choice("loss", "triplet", ("triplet", "distill"), "Fine-tunes by triplets of places, or towards the float "
           "network on the database images, for which no labels are needed.")  # fmt: skip
    integer(
        "epochs", 1, "How many epochs the network is fine-tuned after pruning, and again after sharing.", lower_bound=0
    )
    choice("schedule", "constant", ("constant", "polynomial"), "constant prunes before fine-tuning, polynomial along "
           "its steps, by TF-MOT's PolynomialDecay.")  # fmt: skip
    string("l1", "0", "Weight of the L1 penalty while fine-tuning after pruning, for all layers and for some: "
           "'1e-7,whitening=1e-6'.")  # fmt: skip
    integer(
        "refresh",
        0,
        "Number of steps of fine-tuning after which weights are assigned to levels anew; 0 means never.",
        lower_bound=0,
    )
    number("learning_rate", 1e-4, "Learning rate of the Adam optimizer.", lower_bound=0)
    number("margin", 0.1, "Margin of the triplet loss, on squared distances.", lower_bound=0)
    string(
        "work_dir",
        None,
        "Folder where an interrupted run finds its state; by default OUTPUT.work. It is removed on success.",
    )
    string("tensorboard", None, "Folder to write TensorBoard's event files to: loss, L1 penalty, sparsity and levels.")
    string("json", None, "File to write the sizes to as well, by layer and in all.")


def main(args: flags.FlagValues) -> None:
    entry.check_output(args.output, args.overwrite)
    if not args.output.endswith(".places"):
        raise UserError(f"--output={args.output}: a compressed model is named .places")
    if args.json:
        entry.check_output(args.json, args.overwrite)
    entry.check_model(args.model, ".keras", ".places")
    if args.threshold is not None and args.sparsity is not None:
        raise UserError("give --threshold or --sparsity, not both")
    l1, l1_for = _by_layer("l1", args.l1, float)
    bits_for = _bits_for(args.bits_for)
    tunes = args.dataset and args.epochs
    searches = args.target_drop is not None
    for name in ("l1", "schedule", "refresh", "tensorboard", "work_dir"):
        if args[name].value != args[name].default and not tunes:
            raise UserError(f"--{name} is of fine-tuning: it needs --dataset, and --epochs above 0")
    for name in ("threshold", "sparsity", "sparsity_scope", "bits", "bits_for", "schedule"):
        if args[name].value != args[name].default and searches:
            raise UserError(f"--target_drop finds out by itself what --{name} should be: give one of them")
    if searches and not (tunes and args.loss == "distill"):
        raise UserError("--target_drop needs a --dataset to judge by and --loss=distill to fine-tune with")

    from tfplaces import datasets

    if tunes and args.loss == "triplet":
        sets = datasets.training_sets(args.dataset, args.val_dataset)
    elif tunes:
        sets = [datasets.cached(dataset) for dataset in datasets.load_datasets(args.dataset, "train")]

    import keras

    from tfplaces.common.files import write_json
    from tfplaces.compression import (
        Distillation,
        Monitor,
        Recipe,
        compress,
        places_statistics,
        save_places,
        search,
    )
    from tfplaces.opening import load_place_net
    from tfplaces.training import TripletTuning, WorkDir

    recipe = Recipe(
        bits=args.bits, bits_for=bits_for,
        threshold=args.threshold, sparsity=args.sparsity, sparsity_scope=args.sparsity_scope, layers=args.layers,
        schedule=args.schedule, l1=l1 or 0.0, l1_for=l1_for, grid=args.grid, refresh=args.refresh,
    )  # fmt: skip
    keras.utils.set_random_seed(args.seed)
    model = load_place_net(args.model)
    options = {"epochs": args.epochs, "learning_rate": args.learning_rate, "seed": args.seed}
    tuned = {"dataset": args.dataset, "loss": args.loss, **options} if tunes else {}
    # What a state that is found has to agree with.
    identity = {"model": args.model, "recipe": recipe.to_json(), "target_drop": args.target_drop, **tuned,
                "val_dataset": args.val_dataset, "margin": args.margin}  # fmt: skip
    state = contextlib.nullcontext()
    if tunes:
        state = WorkDir.of_run(args.work_dir or f"{args.output}.work", identity, [args.model])
    with state as work_dir:
        callbacks = [Monitor(args.tensorboard)] if args.tensorboard else []
        tune = None
        if tunes and args.loss == "triplet":
            tune = TripletTuning(model, *sets, margin=args.margin, **options)
        elif tunes:
            tune = Distillation(model, datasets.concatenate([s.database for s in sets]), **options)
        if searches:
            judges = datasets.load_datasets(args.val_dataset or args.dataset, "val")
            compressed = search(model, judges, args.target_drop, recipe, tune, work_dir, args.seed, callbacks)
        else:
            compressed = compress(model, recipe, tune, work_dir=work_dir, callbacks=callbacks)
        compressed.provenance.update(tuned)
        size = save_places(args.output, compressed)
    if args.json:
        write_json(args.json, places_statistics(args.output).to_json())
    parameters = model.count_params()
    print(
        f"{args.output}: {compressed.pruned:.2f} % of {parameters:,} parameters pruned, {size / 1e6:.3f} MB, "
        f"{8 * size / parameters:.3f} bits per parameter, ratio {4 * parameters / size:.1f}"
    )


def _bits_for(text: str) -> dict[str, int]:
    default, values = _by_layer("bits_for", text, int)
    if default is not None:
        raise UserError(f"--bits_for={text}: name the layers, as in 'whitening=5,conv1*=8'; for all layers give --bits")
    return values


def _by_layer(flag: str, text: str, kind: type) -> tuple[float | None, dict[str, float]]:
    """Reads 'VALUE,GLOB=VALUE,...': the value of all layers, None where there is none, and those of some.

    Raises:
        ValueError: it is not that.
    """
    default, values = None, {}
    for part in filter(None, text.split(",")):
        pattern, equals, value = part.rpartition("=")
        try:
            number = kind(value)
            if not 0 <= number < float("inf") or bool(equals) != bool(pattern) or (not equals and default is not None):
                raise ValueError
        except ValueError:
            raise UserError(f"--{flag}={text}: {part!r} is not GLOB=NUMBER, as in 'whitening=5,conv1*=8'") from None
        if equals:
            values[pattern] = number
        else:
            default = number
    return default, values


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
