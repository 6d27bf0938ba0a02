"""Builds an index of known places, in which tfplaces-query and phones find photos; adds places to it, removes some.

tfplaces-index --model=model.tflite --dataset=folder:photos --output=town.index

Photos that are new or changed, and those that are gone:

tfplaces-index --model=model.tflite --dataset=folder:photos --output=town.index --add
tfplaces-index --output=town.index --remove='demolished/*'

With a newer model, --add describes all places again. An interrupted run goes on where it was.
"""

from __future__ import annotations

import os
import warnings

from absl import flags

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.tools import entry, flag_values

# The keys of `tfplaces.index.CODECS`, which a --help is too quick to import.
CODECS = ("float16", "int8", "int4", "int2", "binary")
# Names that a line lists at most.
LISTED = 5


def define_flags(values: flags.FlagValues) -> None:
    def string(name: str, text: str, required: bool = False) -> None:
        flags.DEFINE_string(name, None, text, required=required, flag_values=values)

    string("output", "The .index file to make or change.", required=True)
    string("model", "The .tflite, .tflpack, .keras or .places file to describe with; the one that queries it, on the "
           "runtime that queries it.")  # fmt: skip
    string("dataset", "The data set whose database images are the places, written KIND[:PATH][?key=value].")
    flags.DEFINE_boolean("add", False, "Add the places to the index that is there: new names are added, a picture that "
                         "has changed is described again, and with another model all are.",
                         flag_values=values)  # fmt: skip
    flags.DEFINE_multi_string("remove", None, "A name, or a pattern such as 'floor1*', of places to remove; may be "
                              "given several times.", flag_values=values)  # fmt: skip
    flags.DEFINE_enum("codec", "int8", CODECS, "How descriptors are written.", flag_values=values)
    string("codec_dataset", "The data sets whose database images train the codec, where the places are too few.")
    flags.DEFINE_integer("thumbnails", 0, "Keep a small picture of each place, with so many pixels on its longer side; "
                         "0 for none.", lower_bound=0, upper_bound=1024, flag_values=values)  # fmt: skip
    flags.DEFINE_enum("images", "database", ["database", "all"], "The images that become places: the data set's "
                      "database, or its queries too.", flag_values=values)  # fmt: skip
    flags.DEFINE_boolean("calibrate", True, "Learn from the data set's queries, if it has any, how sure an answer is.",
                         flag_values=values)  # fmt: skip
    string("input_size", "The images' size, HEIGHTxWIDTH in pixels, instead of the model's.")


def main(args: flags.FlagValues) -> None:
    if not args.output.lower().endswith(".index"):
        raise UserError(f"--output={args.output}: an index is written to a file named .index")
    if args.remove:
        _remove(args)
        return
    if not args.model or not args.dataset:
        raise UserError("an index is made with --model and --dataset; --remove takes places from one that is there")
    if args.add:
        if not os.path.isfile(args.output):
            raise UserError(f"{args.output}: no such index to add to; leave out --add to make one")
        if args.overwrite:
            raise UserError("--add changes the index that is there, and --overwrite makes a new one: give one of them")
    elif os.path.lexists(args.output) and not args.overwrite:
        raise UserError(f"{args.output}: exists already; give --add to change it or --overwrite to make it anew")
    entry.check_output(args.output, True)
    entry.check_output_folder(f"{args.output}.work")
    entry.check_model(args.model, ".tflite", ".tflpack", ".keras", ".places")
    input_size = flag_values.size(args.input_size)

    from tfplaces.datasets import concatenate, load_dataset, load_datasets
    from tfplaces.index.dataset_places import with_queries
    from tfplaces.workflows import indexing
    from tfplaces.workflows.calibrating import TooFewError, calibrate_index, can_calibrate

    dataset = load_dataset(args.dataset)
    if args.images == "all":
        dataset = with_queries(dataset)
    training = None
    if args.codec_dataset:
        training = concatenate([each.database for each in load_datasets(args.codec_dataset)])

    from tfplaces.opening import load_describer, try_model

    try_model(args.model, input_size)
    describer = load_describer(args.model, input_size)
    if args.images != "all" and len(dataset.queries) and dataset.own_images is None:
        print(f"{len(dataset.queries):,} queries of the data set are left out; --images=all takes them as places too")
    common = (args.output, args.model, describer, dataset)
    if args.add:
        codec = args.codec if args["codec"].present else None
        side = args.thumbnails if args["thumbnails"].present else None
        changes = indexing.add_places(*common, codec, side, training, args.seed)
    else:
        changes = indexing.build_index(*common, args.codec, args.thumbnails, training, args.seed)
    for note in changes.notes:
        warnings.warn(note, DataWarning, stacklevel=1)
    for names, what in (
        (changes.changed, "have another picture than before and were described again"),
        (changes.told, "have the same picture, and another position, heading, group or time than before"),
    ):
        if names:
            print(f"{len(names):,} places {what}: {_listed(names)}")
    print(f"{len(changes.added):,} places added, {changes.described:,} pictures described")
    if args.calibrate and can_calibrate(dataset) and (changes.described or not args.add):
        try:
            learnt = calibrate_index(args.output, args.model, describer, dataset, args.seed)
            print(f"how sure an answer is was learnt from {learnt.photos:,} queries of the data set")
        except (TooFewError, ModuleNotFoundError) as error:  # scikit-learn is not on every device
            print(f"how sure an answer is was not learnt: {error}")
    print(f"{args.output}: {changes.places:,} places, {os.path.getsize(args.output) / 1e6:.2f} MB")


def _remove(args: flags.FlagValues) -> None:
    others = "model", "dataset", "add", "images", "codec", "codec_dataset", "thumbnails", "calibrate", "input_size"
    given = [name for name in others if args[name].present]
    if given:
        raise UserError(f"--remove goes without --{given[0]}")
    if not os.path.isfile(args.output):
        raise UserError(f"{args.output}: no such index to remove places from")
    entry.check_output(args.output, True)
    entry.check_output_folder(f"{args.output}.work")

    from tfplaces.workflows.indexing import remove_places

    gone = remove_places(args.output, args.remove)
    print(f"{len(gone):,} places removed: {_listed(gone)}")
    print(f"{args.output}: {os.path.getsize(args.output) / 1e6:.2f} MB")


def _listed(names: list[str]) -> str:
    from tfplaces.common.text import printable_name

    return ", ".join(map(printable_name, names[:LISTED])) + (", …" if len(names) > LISTED else "")


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
