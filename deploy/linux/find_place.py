"""Finds where photos were taken: their nearest neighbours among known places, in an index or in a folder of photos.

python find_place.py --model=model.tflpack --index=town.index photo.jpg another.jpg

Needs tfplaces as `pip install ".[lite]"` installs it: no TensorFlow. See README.md beside it.
"""

from __future__ import annotations

import argparse
import os
import sys

try:
    import numpy as np

    from tfplaces.common.errors import UserError
    from tfplaces.common.processors import usable_processors
    from tfplaces.common.text import printable, printable_name
    from tfplaces.datasets.discovery import find_images
    from tfplaces.datasets.image_kinds import EXTENSIONS
    from tfplaces.datasets.images import ImageFiles
    from tfplaces.describers import Describer, describe_images
    from tfplaces.evaluation.search import similarities
    from tfplaces.index import open_index
    from tfplaces.opening import load_describer
    from tfplaces.workflows.index_model import check_model, identify
    from tfplaces.workflows.querying import answer_text, answers
except ModuleNotFoundError as error:
    print(f"find_place: {error.name} is not installed; in a checkout of tfplaces: pip install \".[lite]\"",
          file=sys.stderr)  # fmt: skip
    sys.exit(2)


def known_places(folder: str) -> ImageFiles:
    """The images in a folder and its sub-folders, links followed, by name; says what is left out and why.

    Raises:
        UserError: no such folder, or no image in it.
    """
    found = find_images(folder)
    if found.note:
        print(f"find_place: {printable_name(folder)}: {found.note}", file=sys.stderr)
    if not found.names:
        raise UserError(f"{printable_name(folder)}: no images there (looked for {' '.join(EXTENSIONS)})")
    return ImageFiles(folder, found.names)


def load_model(path: str) -> Describer:
    """Opens a `.tflite` or a `.tflpack`.

    Raises:
        UserError: it is none, or not one from an image to a descriptor.
    """
    if not path.lower().endswith((".tflite", ".tflpack")):
        raise UserError(f"{printable_name(path)}: not a .tflite or .tflpack file")
    return load_describer(path, threads=usable_processors())


def find_in_index(model: str, path: str, photos: list[str], matches: int) -> None:
    """Prints the best matches of each photo in an index: score, name and, where it is known, the position."""
    with open_index(path) as index:
        describer = load_model(model)
        for note in check_model(index, identify(model, describer), describer, force=False):
            print(f"find_place: {printable_name(note)}", file=sys.stderr)
        for answer in answers(index, describer, ImageFiles("", photos), matches):
            print(answer_text(answer))


def find_places(model: str, places: str, photos: list[str], matches: int) -> None:
    """Prints the best matches of each photo: the cosine of their descriptors, 1 at most, and the name."""
    known = known_places(places)
    describer = load_model(model)
    queries = describe_images(describer, ImageFiles("", photos), "photos")  # first: they tell soon what is wrong
    database = describe_images(describer, known, "places")
    for photo, row in zip(photos, similarities(queries, database), strict=True):
        print(printable_name(photo))
        for index in np.argsort(-row, kind="stable")[:matches]:
            print(f"  {row[index]:.4f}  {printable_name(known.names[index])}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a .tflite or .tflpack file")
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--index", help="an .index file of known places, as tfplaces-index makes it with this model")
    known.add_argument("--places", help="instead: a folder of photos of known places, described at every start")
    parser.add_argument("--matches", type=int, default=3, help="how many to print for each photo (default: 3)")
    parser.add_argument("photo", nargs="+", help="a photo to find the place of")
    args = parser.parse_args()
    if args.matches < 1:
        parser.error(f"--matches={args.matches}: at least 1")
    try:
        missing = next((photo for photo in args.photo if not os.path.isfile(photo)), None)
        if missing is not None:
            raise UserError(f"{printable_name(missing)}: no such image")
        if args.index:
            find_in_index(args.model, args.index, args.photo, args.matches)
        else:
            find_places(args.model, args.places, args.photo, args.matches)
    except (UserError, OSError) as error:
        print(f"find_place: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
