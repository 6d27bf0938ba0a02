"""Describes the images of a data set into a file that other programs read: faiss and usearch, or hloc."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterator

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import holding, replacing, sha256, write_text
from tfplaces.common.progress import progress
from tfplaces.common.text import printable_name
from tfplaces.datasets import Images, PlaceDataset, concatenate
from tfplaces.datasets.decoding import upright_size
from tfplaces.describers import Describer, DescriptorFile, describe_images
from tfplaces.evaluation import nearest
from tfplaces.evaluation.unit_descriptors import UnitDescriptors

# Descriptors written at a time, in numbers: 64 MB of float32.
_BLOCK = 2**24
PARTS = ("database", "queries")


def parts_of(dataset: PlaceDataset, which: str) -> dict[str, Images]:
    """The images to describe by the part of the data set that they are: those of "database", "queries" or "all"."""
    found = {"database": dataset.database, "queries": dataset.queries}
    return {part: found[part] for part in PARTS if which in (part, "all") and len(found[part])}


@contextlib.contextmanager
def described(
    describer: Describer, model: str | os.PathLike, parts: dict[str, Images], folder: str | os.PathLike
) -> Iterator[UnitDescriptors]:
    """Describes the images of all parts, one part after the other.

    Until the end of the `with` the descriptors lie in a folder, which goes when it succeeds. Where an interrupted run
    has left some there, they are not made again.

    Args:
        describer: what describes them.
        model: its file.
        parts: the images, as `parts_of` gives them, at least one.
        folder: where they are kept meanwhile.

    Raises:
        UserError: a descriptor is not finite, or zero; an image cannot be read; there is no room on the disk; another
            run is at work in the folder.
    """
    images = concatenate(list(parts.values()))
    with holding(folder):
        file = DescriptorFile(folder, sha256(model), describer.input_size, images, describer.descriptor_dim)
        try:
            if file.done:
                print(f"goes on from {file.done:,} of {len(images):,} images")
            yield UnitDescriptors(describe_images(describer, images, out=file), "images", images.names)
        except BaseException:
            if not file.done:
                file.remove()
            raise
        file.remove()


def write_npy(path: str | os.PathLike, descriptors: UnitDescriptors, dtype: str) -> None:
    """Writes descriptors as a `.npy` file of one array `[n, dim]`, which `np.load` can map into memory.

    Args:
        path: where to; a file that is there is replaced.
        descriptors: they are written at unit length.
        dtype: "float32" or "float16".
    """
    kind = np.dtype(dtype).newbyteorder("<")
    header = {"descr": kind.str, "fortran_order": False, "shape": (len(descriptors), descriptors.dim)}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for rows in _blocks(descriptors):
            file.write(descriptors[rows].astype(kind).tobytes())


def write_names(path: str | os.PathLike, parts: dict[str, Images]) -> None:
    """Writes the names of the images as a csv file of the columns row, part and name, below a line of headings."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["row", "part", "name"])
    listed = ((part, name) for part, images in parts.items() for name in images.names)
    table.writerows([row, part, name] for row, (part, name) in enumerate(listed))
    write_text(path, text.getvalue())


def write_hloc(
    path: str | os.PathLike,
    descriptors: UnitDescriptors,
    dtype: str,
    parts: dict[str, Images],
    names: dict[str, list[str]],
    input_size: tuple[int, int],
) -> None:
    """Writes descriptors as a file of global features of hloc (Hierarchical-Localization, extract_features.py).

    It is HDF5. An image is a group of its name, with the datasets `global_descriptor`, `[dim]`, and `image_size`, its
    width and height in pixels.

    Args:
        path: where to; a file that is there is replaced.
        descriptors: of all parts, one part after the other; they are written at unit length.
        dtype: "float32" or "float16".
        parts: the images.
        names: by what name hloc knows the images of each part, as `hloc_names` gives it.
        input_size: (height, width) in pixels at which they were described; it is the size of images without a file.
    """
    import h5py

    images = concatenate(list(parts.values()))
    known = [name for part in parts for name in names[part]]
    with (
        replacing(path) as temporary,
        h5py.File(temporary, "w", libver="latest") as file,
        progress(len(images), "writing", "image") as bar,
    ):
        for rows in _blocks(descriptors):
            for index, row in enumerate(descriptors[rows].astype(dtype), rows.start):
                if known[index] not in file:  # a query may be a file of the database too
                    found = images.path(index)
                    height, width = input_size if found is None else upright_size(found)
                    group = file.create_group(known[index])
                    group.create_dataset("global_descriptor", data=row)
                    group.create_dataset("image_size", data=np.array([width, height]))
                bar.update()


def hloc_names(parts: dict[str, Images]) -> tuple[dict[str, list[str]], str | None]:
    """The names by which hloc knows the images of each part: their paths below the folder that holds all of them.

    Returns:
        the names, and that folder, hloc's image_dir. Where images have no files of their own the names are `PART/NAME`
        of the data set, and there is no such folder.
    """
    paths = {part: [images.path(i) for i in range(len(images))] for part, images in parts.items()}
    files = {part: [os.path.abspath(path) for path in of if path is not None] for part, of in paths.items()}
    if any(len(files[part]) < len(paths[part]) for part in parts):
        return {part: [f"{part}/{name}" for name in images.names] for part, images in parts.items()}, None
    root = os.path.commonpath([os.path.dirname(path) for of in files.values() for path in of])
    return {part: [os.path.relpath(p, root).replace(os.sep, "/") for p in of] for part, of in files.items()}, root


def write_pairs(path: str | os.PathLike, descriptors: UnitDescriptors, names: dict[str, list[str]], count: int) -> int:
    """Writes the pairs that hloc matches: a line `QUERY DATABASE_IMAGE` for each of the nearest images of each query.

    As in pairs_from_retrieval.py of hloc, no image is paired with itself, and none with one whose cosine is below 0.

    Args:
        path: where to; a file that is there is replaced.
        descriptors: those of the database, then those of the queries.
        names: of the images, by "database" and "queries".
        count: how many database images are paired with a query at most.

    Returns:
        The number of pairs.

    Raises:
        UserError: a name has white space, which hloc takes for the end of it.
    """
    check_pair_names(names)
    ours, theirs = names["queries"], names["database"]
    split = len(theirs)
    found = nearest(descriptors[split:], descriptors[:split], count + 1)
    lines = []
    for query, indices, cosines in zip(ours, *found, strict=True):
        matches = [theirs[i] for i, c in zip(indices, cosines, strict=True) if c >= 0 and theirs[i] != query]
        lines += [f"{query} {match}\n" for match in matches[:count]]
    write_text(path, "".join(lines))
    return len(lines)


def check_pair_names(names: dict[str, list[str]]) -> None:
    """Raises UserError where a name has white space, which hloc takes for its end in a file of pairs."""
    for of in names.values():
        for name in of:
            if name.split() != [name]:
                raise UserError(
                    f"{printable_name(name)}: hloc cannot read pairs of names with spaces; rename the file, or leave "
                    "out --pairs"
                )


def _blocks(descriptors: UnitDescriptors) -> Iterator[slice]:
    step = max(1, _BLOCK // max(descriptors.dim, 1))
    for start in range(0, len(descriptors), step):
        yield slice(start, min(start + step, len(descriptors)))
