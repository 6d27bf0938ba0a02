"""Compresses a network: prunes by magnitude, shares what is left among 2^bits levels a layer, writes a .places file.

tfplaces-compress --model=run/model.keras --output=run/model.places --sparsity=0.5 --bits=8 --dataset=folder:photos
"""

from __future__ import annotations

import functools

from absl import flags

from tfplaces.tools import entry


def define_flags(values: flags.FlagValues) -> None:
    string, number = flags.DEFINE_string, flags.DEFINE_float
    string("model", None, "A .keras file of tfplaces.", required=True, flag_values=values)
    string("output", None, "The .places file to write.", required=True, flag_values=values)
    number("threshold", None, "Weights of smaller magnitude become zero.", lower_bound=0, flag_values=values)
    number("sparsity", None, "Share of all parameters that becomes zero, 0 to 1, the smallest first.", lower_bound=0,
           upper_bound=1, flag_values=values)  # fmt: skip
    flags.DEFINE_integer("bits", 8, "At most 2^bits levels a layer, zero among them.", lower_bound=2, upper_bound=8,
                         flag_values=values)  # fmt: skip
    string("dataset", None, "Data set to fine-tune on; without it weights are only pruned and shared.",
           flag_values=values)  # fmt: skip
    string("val_dataset", None, "Judges the epochs of --loss=triplet; by default the data set's own validation "
           "split, or every fifth query, which is then not trained on.", flag_values=values)  # fmt: skip
    flags.DEFINE_enum("loss", "triplet", ("triplet", "distill"), "Fine-tunes by triplets of places, or towards the "
                      "float network's descriptors of the database images, for which no labels are needed.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_integer("epochs", 1, "Of fine-tuning after pruning, and again after sharing.", lower_bound=0,
                         flag_values=values)  # fmt: skip
    number("l1", 0.0, "Weight of the L1 penalty while fine-tuning after pruning.", lower_bound=0, flag_values=values)
    number("learning_rate", 1e-4, "Of Adam.", lower_bound=0, flag_values=values)
    number("margin", 0.1, "Of the triplet loss, on squared distances.", lower_bound=0, flag_values=values)


def main(args: flags.FlagValues) -> None:
    entry.check_output(args.output, args.overwrite)
    if not args.output.endswith(".places"):
        raise ValueError(f"--output={args.output}: a compressed model is named .places")
    entry.check_model(args.model, ".keras", ".places")
    if args.threshold is not None and args.sparsity is not None:
        raise ValueError("give --threshold or --sparsity, not both")
    if args.l1 and not args.dataset:
        raise ValueError("--l1 is a penalty while fine-tuning: it needs --dataset")

    from tfplaces import datasets

    tunes = args.dataset and args.epochs
    if tunes and args.loss == "triplet":
        dataset, validation = datasets.training_sets(args.dataset, args.val_dataset)
    elif tunes:
        images = datasets.cached(datasets.load_dataset(args.dataset, "train")).database

    import keras

    from tfplaces.compression import compress, distillation, save_places
    from tfplaces.models.loading import load_place_net

    keras.utils.set_random_seed(args.seed)
    model = load_place_net(args.model)
    tune = None
    options = {"epochs": args.epochs, "learning_rate": args.learning_rate, "seed": args.seed}
    if tunes and args.loss == "triplet":
        tune = functools.partial(_fit_triplets, model, dataset, validation, margin=args.margin, **options)
    elif tunes:
        tune = distillation(model, images, **options)
    compressed = compress(
        model, bits=args.bits, threshold=args.threshold, sparsity=args.sparsity, l1=args.l1, tune=tune
    )  # fmt: skip
    if tune:
        compressed.provenance.update(dataset=args.dataset, loss=args.loss, epochs=args.epochs)
    size = save_places(args.output, compressed)
    parameters = model.count_params()
    print(
        f"{args.output}: {compressed.pruned:.2f} % of {parameters:,} parameters pruned, {args.bits} bits, "
        f"{size / 1e6:.3f} MB, {8 * size / parameters:.3f} bits per parameter, ratio {4 * parameters / size:.1f}"
    )


def _fit_triplets(model, dataset, validation, fitted, **options) -> None:
    from tfplaces.training import train

    train(model, dataset, validation, fitted=fitted, **options)


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
