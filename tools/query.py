"""Finds where photos were taken: for each the best places of an index, with scores and positions.

tfplaces-query --model=model.tflite --index=town.index photo.jpg another.jpg

Photos may be files, folders, and lists of photos (.txt, a path in each line). Only among places near a rough fix:

tfplaces-query --model=model.tflite --index=town.index --near=52.2,0.12 --within=200 --json=found.json photos/
"""

from __future__ import annotations

import contextlib
import math
import warnings

from absl import flags

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.tools import entry, flag_values

# Photos that a sheet shows at most, and their longer side there in pixels.
SHOWN, SIDE = 200, 360


def define_flags(values: flags.FlagValues) -> None:
    def string(name: str, text: str, required: bool = False) -> None:
        flags.DEFINE_string(name, None, text, required=required, flag_values=values)

    string("model", "The .tflite, .tflpack, .keras or .places file that the index was made with.", required=True)
    string("index", "The .index file of known places.", required=True)
    flags.DEFINE_integer("matches", 5, "How many places each photo gets.", lower_bound=1, flag_values=values)
    string("near", "LATITUDE,LONGITUDE in degrees: only places near it are looked at; EASTING,NORTHING in metres for "
           "an index that knows no degrees.")  # fmt: skip
    flags.DEFINE_float("within", 200, "With --near: how many metres from it.", lower_bound=0, flag_values=values)
    flags.DEFINE_integer("sequence", 1, "How many consecutive photos vote together, for frames of a drive along places "
                         "in the same order; of several no probability is told.", lower_bound=1,
                         flag_values=values)  # fmt: skip
    string("json", "A file to write the answers to as well.")
    string("html", "A page to show the photos and their places on.")
    string("input_size", "The images' size, HEIGHTxWIDTH in pixels, instead of the model's.")
    flags.DEFINE_boolean("force", False, "Take a model that is not the index's; it may find less.",
                         flag_values=values)  # fmt: skip


def main(args: flags.FlagValues, arguments: list[str]) -> None:
    for path in (args.json, args.html):
        if path:
            entry.check_output(path, args.overwrite)
    if args["within"].present and not args.near:
        raise UserError("--within goes with --near")
    entry.check_model(args.model, ".tflite", ".tflpack", ".keras", ".places")
    input_size = flag_values.size(args.input_size)

    from tfplaces.common.text import printable_name
    from tfplaces.datasets import ImageFiles
    from tfplaces.index import open_index
    from tfplaces.index.near import Near
    from tfplaces.workflows import querying

    near = Near(*_two_numbers(args.near), args.within) if args.near else None
    photos, notes = querying.photos_of(arguments)

    from tfplaces.opening import load_describer, try_model
    from tfplaces.report.matches import writing_sheet
    from tfplaces.workflows.index_model import check_model, identify
    from tfplaces.workflows.pictures import small_picture

    with open_index(args.index) as index, contextlib.ExitStack() as stack:
        try_model(args.model, input_size)
        describer = load_describer(args.model, input_size)
        notes += check_model(index, identify(args.model, describer), describer, args.force)
        for note in notes:
            warnings.warn(note, DataWarning, stacklevel=1)
        images = ImageFiles("", photos)
        found = querying.answers(index, describer, images, args.matches, near, args.sequence)
        answers = stack.enter_context(querying.writing_json(args.json)) if args.json else None
        facts = [("index", printable_name(args.index)), ("places", f"{len(index):,}"), ("photos", f"{len(photos):,}")]
        if len(photos) > SHOWN:
            facts.append(("shown", f"the first {SHOWN} photos"))
        sheet = stack.enter_context(writing_sheet(args.html, "Places found", facts)) if args.html else None
        for number, answer in enumerate(found):
            print(querying.answer_text(answer))
            if answers is not None:
                answers.add(answer.to_json())
            if sheet is not None and number < SHOWN:
                captions = [f"{match.score:.4f} {match.place.name}" for match in answer.matches]
                pictures = [index.thumbnail(match.row) for match in answer.matches]
                shown = list(zip(pictures, captions, strict=True))
                sheet.add(small_picture(images, number, SIDE), answer.photo, shown, answer.verdict)


def _two_numbers(text: str) -> tuple[float, float]:
    try:
        first, second = map(float, text.split(","))
        if not (math.isfinite(first) and math.isfinite(second)):
            raise ValueError
    except ValueError:
        raise UserError(f"--near={text}: expected LATITUDE,LONGITUDE in degrees, as in 52.2,0.12") from None
    return first, second


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv, takes="photos")


if __name__ == "__main__":
    run()
