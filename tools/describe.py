"""Describes the images of a data set into a file for faiss, usearch or hloc. An interrupted run goes on where it was.

As an array that np.load reads, the database's rows first, with the name of each row in descriptors.names.csv:

tfplaces-describe --model=model.tflite --dataset=folder:photos --output=descriptors.npy

As global features of hloc, with the pairs of images that it is to match:

tfplaces-describe --model=model.tflite --dataset=folder:photos --output=global.h5 --pairs=pairs.txt --nearest=20
"""

from __future__ import annotations

import os

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.tools import entry, flag_values


def define_flags(values: flags.FlagValues) -> None:
    def string(name: str, text: str, required: bool = False) -> None:
        flags.DEFINE_string(name, None, text, required=required, flag_values=values)

    string("model", "The .keras, .places, .tflite or .tflpack file to describe with.", required=True)
    string("dataset", "The data set, written KIND[:PATH][?key=value].", required=True)
    string("output", "The .npy file, or the .h5 file for hloc, to write.", required=True)
    string("input_size", "The images' size, HEIGHTxWIDTH in pixels, instead of the model's.")
    string("pairs", "With an .h5: a file to write the pairs to that hloc is to match, of each query and the nearest "
           "database images.")  # fmt: skip
    flags.DEFINE_integer("nearest", 20, "With --pairs: how many database images each query is paired with at most.",
                         lower_bound=1, flag_values=values)  # fmt: skip
    flags.DEFINE_enum("images", "all", ["all", "database", "queries"], "The images to describe.", flag_values=values)
    flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "The type of the numbers.", flag_values=values)


def main(args: flags.FlagValues) -> None:
    stem, ending = os.path.splitext(args.output)
    if ending not in (".npy", ".h5"):
        raise UserError(f"--output={args.output}: descriptors are written to a file named .npy, or .h5 for hloc")
    beside = f"{stem}.names.csv" if ending == ".npy" else args.pairs
    if args.pairs and (ending != ".h5" or args.images != "all"):
        raise UserError("--pairs goes with an --output named .h5 and with --images=all")
    if args["nearest"].present and not args.pairs:
        raise UserError("--nearest goes with --pairs")
    for path in (args.output, beside):
        if path:
            entry.check_output(path, args.overwrite)
    entry.check_output_folder(f"{args.output}.work")
    entry.check_model(args.model, ".keras", ".places", ".tflite", ".tflpack")
    input_size = flag_values.size(args.input_size)
    if ending == ".h5":
        import h5py  # noqa: F401  (missed before the work, not after it)

    from tfplaces.datasets import load_dataset
    from tfplaces.workflows import describing

    dataset = load_dataset(args.dataset)
    parts = describing.parts_of(dataset, args.images)
    if not parts:
        raise UserError(f"{args.dataset}: has no images to describe with --images={args.images}")
    if args.pairs and len(parts) < 2:
        raise UserError(f"{args.dataset}: has no queries, so there are no pairs to write; leave out --pairs")
    names, root = describing.hloc_names(parts)
    if args.pairs:
        describing.check_pair_names(names)

    from tfplaces.opening import load_describer, try_model

    try_model(args.model, input_size)
    describer = load_describer(args.model, input_size)
    with describing.described(describer, args.model, parts, f"{args.output}.work") as descriptors:
        if ending == ".npy":
            describing.write_npy(args.output, descriptors, args.dtype)
            describing.write_names(beside, parts)
            print(f"{beside}: the names of its rows")
        else:
            describing.write_hloc(args.output, descriptors, args.dtype, parts, names, describer.input_size)
            if root is not None:
                print(f"image_dir for hloc: {root}")
        if args.pairs:
            pairs = describing.write_pairs(args.pairs, descriptors, names, args.nearest)
            print(f"{args.pairs}: {pairs:,} pairs")
        counts = " and ".join(f"{len(images):,} of the {part}" for part, images in parts.items())
        print(f"{args.output}: descriptors of {descriptors.dim} numbers, {args.dtype}, of unit length: {counts}")
        if descriptors.normalized:
            print(f"{descriptors.normalized:,} descriptors were not of unit length and were brought to it")


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
