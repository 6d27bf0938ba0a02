"""Examines a data set: what is missing, damaged, alike in queries and database, or said wrongly of where and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfplaces.common.progress import progress
from tfplaces.common.text import printable_name
from tfplaces.datasets import ImageFiles, PlaceDataset, position_check
from tfplaces.datasets.base import Images
from tfplaces.datasets.copies import queries_in_database
from tfplaces.datasets.discovery import MissingImagesError
from tfplaces.datasets.image_check import CheckedImages, check_images, copies
from tfplaces.workflows.findings import LISTED, NOTE, OK, WRONG, Finding, about, listed, names_at

# Images, and what reading them has shown.
Part = tuple[Images, CheckedImages]


def check_dataset(dataset: PlaceDataset, quick: bool = False) -> list[Finding]:
    """Examines a data set; every image is read, and progress is shown.

    Memory is a few numbers for each image beside what the data set itself needs.

    Args:
        dataset: what to examine.
        quick: read headers of files only, so that damage further on and pictures that are alike are not found.
    """
    database, queries = dataset.database, dataset.queries
    one = _are_one(dataset)
    with progress(len(database) + (0 if one else len(queries)), "reading images", "image") as bar:
        of_queries = None if one else check_images(queries, not quick, bar)
        of_database = check_images(database, not quick, bar)
    parts = [(database, of_database)] if of_queries is None else [(queries, of_queries), (database, of_database)]
    counts = f"{len(dataset.queries):,} queries, {len(dataset.database):,} database images"
    return [
        Finding("images", OK, counts),
        *(Finding("data set", NOTE, note) for note in dataset.notes),
        *_files(parts),
        *(_copied_files(dataset, parts) if quick else _alike(dataset, of_queries or of_database, of_database)),
        *_sizes([found for _, found in parts]),
        *_positives(dataset),
        *_sequences(dataset),
        *_positions(dataset),
        *_times(dataset),
    ]


def _are_one(dataset: PlaceDataset) -> bool:
    """Whether the queries are the images of the database, so that these are read once."""
    own, queries, database = dataset.own_images, dataset.queries, dataset.database
    if own is None or len(queries) != len(database) or (own != np.arange(len(own))).any():
        return False
    return all(queries.path(i) == database.path(i) is not None for i in range(len(queries)))


def _files(parts: Sequence[Part]) -> Iterable[Finding]:
    missing = [images.names[i] for images, found in parts for i in found.missing]
    damaged = [(images.names[i], why) for images, found in parts for i, why in found.damaged]
    yield about("missing files", missing, "{} not there")
    if damaged:
        text = f"{len(damaged):,} unreadable: {damaged[0][1]}"
        if len(damaged) > 1:
            text += "; then " + listed([name for name, _ in damaged[1:]])
        yield Finding("damaged files", WRONG, text, tuple(name for name, _ in damaged[:LISTED]))
    else:
        yield Finding("damaged files", OK, "none")


def _copied_files(dataset: PlaceDataset, parts: Sequence[Part]) -> Iterable[Finding]:
    """What is known of copies without decoding: those of whole files, of which only those of one size are read."""
    queries, database = dataset.queries, dataset.database
    apart = dataset.own_images is None and not any(found.missing for _, found in parts)
    if not (apart and isinstance(queries, ImageFiles) and isinstance(database, ImageFiles)):
        yield Finding("queries in database", NOTE, "not looked for by --quick")
        return
    count = queries_in_database(queries, database)
    text = f"copies of database files, byte by byte: {count:,}" if count else "no copies of files"
    yield Finding("queries in database", WRONG if count else OK, text)


def _alike(dataset: PlaceDataset, queries: CheckedImages, database: CheckedImages) -> Iterable[Finding]:
    names = dataset.queries.names
    same = copies(queries, database)
    found = np.flatnonzero(same)
    if dataset.junk is not None or dataset.own_images is not None:
        # A query's own image, and what does not count for it, may be in the database.
        ignored = [database.digests[dataset.ignored(q)] == queries.digests[q] for q in found.tolist()]
        found = found[[bool(same[q] > one.sum()) for q, one in zip(found.tolist(), ignored, strict=True)]]
    yield about(
        "queries in database",
        names_at(names, found),
        "{} with the same picture in the database, so that finding it shows nothing",
    )
    parts = [("database", dataset.database, database)]
    if queries is not database:
        parts.insert(0, ("queries", dataset.queries, queries))
    for part, images, one in parts:
        repeated = np.flatnonzero(copies(one, one) > 1)
        if len(repeated):
            text = "{} there more than once"
            yield about(f"repeats in {part}", names_at(images.names, repeated), text, NOTE)
    blank = [name for _, images, one in parts for name in names_at(images.names, np.flatnonzero(one.blank))]
    if blank:
        yield about("blank pictures", blank, "{} of one colour", NOTE)


def _sizes(checked: Sequence[CheckedImages]) -> Iterable[Finding]:
    sizes = np.concatenate([found.sizes for found in checked]).astype(np.int64)
    sizes = sizes[(sizes > 0).all(1)]
    if not len(sizes):
        return
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    usual = int(counts.argmax())
    height, width = kinds[usual].tolist()
    text = f"{counts[usual]:,} of {len(sizes):,} are {width} x {height} pixels"
    if len(kinds) > 1:
        low, high = kinds.min(0), kinds.max(0)
        text += f"; {len(kinds):,} sizes, from {low[1]} to {high[1]} wide and from {low[0]} to {high[0]} high"
    yield Finding("sizes", OK, text)
    ratios = np.round(sizes[:, 1] / sizes[:, 0], 2)
    each, numbers = np.unique(ratios, return_counts=True)
    most = each[numbers.argmax()]
    others = int((np.abs(sizes[:, 1] / sizes[:, 0] / most - 1) > 0.02).sum())
    text = f"{most:.2f} (width by height)"
    if others:
        text += f"; {others:,} of {len(sizes):,} differ by more than 2 %, and resizing distorts those differently"
    yield Finding("aspect ratio", NOTE if others else OK, text)


def _positives(dataset: PlaceDataset) -> Iterable[Finding]:
    if not len(dataset.queries):
        yield Finding("positives", NOTE, "there are no queries: it serves for calibration and vocabularies only")
        return
    lengths = dataset.positives.lengths
    if dataset.junk is not None or dataset.own_images is not None:
        lengths = np.array([len(dataset.others(q)) for q in range(len(dataset.queries))])
    text = f"{lengths.min():,} to {lengths.max():,} for a query, median {np.median(lengths):,.0f}"
    yield Finding("positives", OK, text)
    none = names_at(dataset.queries.names, np.flatnonzero(lengths == 0))
    if len(none) == len(lengths):
        yield Finding("without positives", WRONG, "no query has anything to be found: nothing can be scored")
    else:
        text = "{} " + f"of {len(lengths):,} queries with nothing to be found, which are in no figure"
        yield about("without positives", none, text, NOTE)


def _sequences(dataset: PlaceDataset) -> Iterable[Finding]:
    ours, theirs = dataset.truth.query_sequences, dataset.truth.database_sequences
    if ours is None or theirs is None:
        return
    shared = np.intersect1d(ours, theirs)
    queries = np.flatnonzero(np.isin(ours, shared))
    if len(queries):
        text = (
            f"{len(shared):,} of the sequences or panoramas in queries and database, first: "
            f"{printable_name(str(shared[0]))}; with {len(queries):,} of {len(ours):,} queries, of which scores are "
            "then too high"
        )
        yield Finding("shared sequences", WRONG, text, tuple(names_at(dataset.queries.names, queries[:LISTED])))
    else:
        yield Finding("shared sequences", OK, "none")


def _positions(dataset: PlaceDataset) -> Iterable[Finding]:
    truth = dataset.truth
    ours, theirs = truth.query_positions, truth.database_positions
    if ours is None or theirs is None:
        return
    positions = np.concatenate([ours, theirs])
    names = [*dataset.queries.names, *dataset.database.names]
    if not len(positions):
        return
    region = position_check.regions(positions)
    extent = np.ptp(positions[region == 0], axis=0)
    shape = " x ".join(f"{metres / 1000:,.2f}" for metres in extent)
    others = f"; {region.max():,} more regions, each at least 2 km from the others" if region.max() else ""
    yield Finding("positions", OK, f"over {shape} km" + (", earth-centred" if len(extent) == 3 else "") + others)
    other_zone = np.empty(0, np.int64)
    if len(extent) == 2:
        other_zone = position_check.changes_zone(positions, region)
        text = "{} where the others would lie in the next UTM zone; say the zone of each, or use degrees"
        yield about("UTM zones", names_at(names, other_zone), text)
    far = np.setdiff1d(position_check.far_away(region), other_zone)
    centre = np.median(positions[region == 0], axis=0)
    away = np.linalg.norm(positions[far] - centre, axis=1).max(initial=0) / 1000
    yield about("far away", names_at(names, far), "{} " + f"up to {away:,.0f} km from the others")
    parts = [(dataset.queries, ours, 0)]
    if dataset.own_images is None:
        parts.append((dataset.database, theirs, len(ours)))
    # Names that begin with coordinates are in the order of these, not of a drive.
    drives = [part for part in parts if not all(name.rpartition("/")[2].startswith("@") for name in part[0].names)]
    aside = [position_check.out_of_order(way) + first for _, way, first in drives]
    if drives:
        named = np.setdiff1d(np.concatenate(aside), np.concatenate([far, other_zone]))
        text = "{} aside from the way between the frames before and after"
        # Where nothing says that there are drives, the order may mean nothing.
        known = truth.query_sequences is not None or truth.query_times is not None
        yield about("order of frames", names_at(names, named), text, WRONG if known else NOTE)


def _times(dataset: PlaceDataset) -> Iterable[Finding]:
    truth = dataset.truth
    found: list[str] = []
    parts = [(dataset.queries, truth.query_times, truth.query_sequences)]
    if dataset.own_images is None:
        parts.append((dataset.database, truth.database_times, truth.database_sequences))
    parts = [part for part in parts if part[1] is not None]
    for images, times, sequences in parts:
        assert times is not None
        found += names_at(images.names, position_check.backwards(np.asarray(times), sequences))
    if parts:
        yield about("times", found, "{} taken earlier than the photo that stands before")


def not_opened(error: MissingImagesError) -> list[Finding]:
    """The findings about a data set that is not opened at all, as images are missing that it lists."""
    return [Finding("missing files", WRONG, f"{error}; nothing else is looked at before they are there")]
