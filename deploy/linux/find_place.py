"""Finds where photos were taken: their nearest neighbours among the photos of known places.

python find_place.py --model=model.tflpack --places=known photo.jpg another.jpg

Needs ai-edge-litert, numpy, pillow and tfplaces without its dependencies: no TensorFlow. See README.md beside it.
"""

from __future__ import annotations

import argparse
import os
import sys

try:
    import numpy as np

    from tfplaces.common.processors import usable_processors
    from tfplaces.datasets.images import EXTENSIONS, ImageFiles
    from tfplaces.describers import Describer, describe_images
    from tfplaces.evaluation.search import similarities
    from tfplaces.opening import load_describer
except ModuleNotFoundError as error:
    print(f"find_place: {error.name} is not installed; see README.md: pip install ai-edge-litert numpy pillow, then "
          "tfplaces with pip install --no-deps", file=sys.stderr)  # fmt: skip
    sys.exit(2)


def known_places(folder: str) -> ImageFiles:
    """The images in a folder and its sub-folders, by name.

    Raises:
        ValueError: no such folder, or no image in it.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"{folder}: no such folder")
    names = []
    for path, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        images = [name for name in files if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
        names += [os.path.relpath(os.path.join(path, name), folder) for name in images]
    if not names:
        raise ValueError(f"{folder}: no images there (looked for {' '.join(EXTENSIONS)})")
    return ImageFiles(folder, sorted(names))


def load_model(path: str) -> Describer:
    """Opens a `.tflite` or a `.tflpack`.

    Raises:
        ValueError: it is none, or not one from an image to a descriptor.
    """
    if not path.lower().endswith((".tflite", ".tflpack")):
        raise ValueError(f"{path}: not a .tflite or .tflpack file")
    return load_describer(path, threads=usable_processors())


def find_places(model: str, places: str, photos: list[str], matches: int) -> None:
    """Prints the best matches of each photo: the cosine of their descriptors, 1 at most, and the name."""
    missing = next((photo for photo in photos if not os.path.isfile(photo)), None)
    if missing is not None:
        raise ValueError(f"{missing}: no such image")
    known = known_places(places)
    describer = load_model(model)
    queries = describe_images(describer, ImageFiles("", photos), "photos")  # first: they tell soon what is wrong
    database = describe_images(describer, known, "places")
    for photo, row in zip(photos, similarities(queries, database), strict=True):
        print(photo)
        for index in np.argsort(-row, kind="stable")[:matches]:
            print(f"  {row[index]:.4f}  {known.names[index]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a .tflite or .tflpack file")
    parser.add_argument("--places", required=True, help="folder of photos of known places, and its sub-folders")
    parser.add_argument("--matches", type=int, default=3, help="how many to print for each photo (default: 3)")
    parser.add_argument("photo", nargs="+", help="a photo to find the place of")
    args = parser.parse_args()
    if args.matches < 1:
        parser.error(f"--matches={args.matches}: at least 1")
    try:
        find_places(args.model, args.places, args.photo, args.matches)
    except (ValueError, OSError) as error:
        print(f"find_place: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
