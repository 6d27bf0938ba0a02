"""Builds an index of places, adds places to it and removes some: the file is replaced at once, or stays as it was.

What is described lies in the folder `INDEX.work` until the index is written, so that a run that was stopped goes on.
While a run is at work there no other one is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import holding
from tfplaces.common.processors import usable_processors
from tfplaces.common.progress import progress
from tfplaces.common.text import printable_name
from tfplaces.datasets import Images, PlaceDataset, Subset
from tfplaces.describers import Describer, DescriptorFile, describe_images
from tfplaces.evaluation.unit_descriptors import UnitDescriptors
from tfplaces.index import CODECS, Codec, ModelIdentity, Place, PlaceIndex, TestVector, open_index, writing_index
from tfplaces.index.dataset_places import places_of
from tfplaces.workflows.index_model import check_model, identify, make_test_vector
from tfplaces.workflows.pictures import picture_digests, thumbnails

# The setting of an index that says how large its thumbnails are.
THUMBNAILS, MAX_THUMBNAIL = "thumbnails", 1024
# Places written at a time, and descriptors that train a codec at most.
_PART, _SAMPLE = 1024, 2**16


@dataclasses.dataclass(frozen=True)
class Changes:
    """What was done to an index.

    Attributes:
        places: how many it has now.
        added: names that are new.
        changed: names whose picture is another one than before.
        told: names of the same picture of which something else is known now, such as the position.
        described: how many pictures were described.
        notes: what else the user should know, a sentence each.
    """

    places: int
    added: list[str]
    changed: list[str]
    told: list[str]
    described: int
    notes: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class _Plan:
    """The places of the index to be, in the order of their rows.

    Attributes:
        ids: of each place.
        places: what is known of each.
        old_rows: the row of each in the old index, whose code and thumbnail are kept; -1 where it is described.
        images: which image of the data set each is; -1 where it is none of them.
    """

    ids: list[int]
    places: list[Place]
    old_rows: list[int]
    images: list[int]


def build_index(
    output: str | os.PathLike,
    model: str | os.PathLike,
    describer: Describer,
    dataset: PlaceDataset,
    codec: str,
    thumbnail_side: int = 0,
    training: Images | None = None,
    seed: int = 0,
) -> Changes:
    """Builds an index of the database images of a data set.

    Args:
        output: the file to make or replace.
        model: the file of the model.
        describer: the model.
        dataset: its database images become the places; it may have none.
        codec: how descriptors are written, a key of `CODECS`.
        thumbnail_side: the longer side of a small picture of each place, pixels; 0 for no pictures.
        training: images that train the codec; by default the places do.
        seed: draws what trains the codec, where there is too much.

    Raises:
        UserError: an image cannot be read, two have one name, the codec cannot be trained by so few, there is no room
            on the disk, or another run is at work on this index.
    """
    with at_work(output) as folder:
        places = _places(dataset, describer)
        plan = _Plan(list(range(1, len(places) + 1)), places, [-1] * len(places), list(range(len(places))))
        return _described(output, folder, model, describer, dataset, plan, codec, thumbnail_side, training, seed)


def add_places(
    output: str | os.PathLike,
    model: str | os.PathLike,
    describer: Describer,
    dataset: PlaceDataset,
    codec: str | None = None,
    thumbnail_side: int | None = None,
    training: Images | None = None,
    seed: int = 0,
) -> Changes:
    """Adds the database images of a data set to an index that is there.

    Places are known by their names. One that is there with the same picture is not described again; with another
    picture it is, and takes the place of the old one; what the data set says of it is taken over. With another model
    than that of the index, all places are described again, so the data set has to have all of them.

    Args:
        output: the index.
        model: the file of the model.
        describer: the model.
        dataset: the images.
        codec: how descriptors are written; by default as before. Another one needs all places described again.
        thumbnail_side: the longer side of the small pictures of what is described; by default as before.
        training: images that train the codec where all is described again; by default the places do.
        seed: draws what trains the codec, where there is too much.

    Raises:
        UserError: as `build_index` does; or the index is damaged, or the model is another one and places of the index
            are not in the data set.
    """
    with at_work(output) as folder, open_index(output) as old:
        side = _old_side(old) if thumbnail_side is None else thumbnail_side
        identity = identify(model, describer)
        again = identity != old.model or codec not in (None, old.codec.name)
        plan = _Plan([], [], [], [])
        places = _places(dataset, describer)
        numbers = {place.name: index for index, place in enumerate(places)}
        changed, told, missing = [], [], []
        for row, (number, place) in enumerate(old.every_place()):
            index = numbers.pop(place.name, -1)
            new = place if index < 0 else places[index]
            if index < 0:
                missing.append(place.name)
            elif new.digest != place.digest:
                changed.append(place.name)
            elif new != place:
                told.append(place.name)
            plan.ids.append(number)
            plan.places.append(new)
            plan.old_rows.append(-1 if again or new.digest != place.digest else row)
            plan.images.append(index)
        if again and missing:
            raise UserError(
                f"{os.fspath(output)}: was made with another model or codec, so all of its {len(old):,} places have to "
                f"be described again, and {len(missing):,} of them are not in {dataset.spec}, first: "
                f"{printable_name(missing[0])}"
            )
        added = [places[index].name for index in numbers.values()]
        last = int(old.ids[-1]) if len(old) else 0
        plan.ids += range(last + 1, last + 1 + len(added))
        plan.places += [places[index] for index in numbers.values()]
        plan.old_rows += [-1] * len(added)
        plan.images += numbers.values()
        notes = [] if again else check_model(old, identity, describer, force=False)
        if not (again or added or changed or told):
            return Changes(len(old), [], [], [], 0, notes)
        kept = None if again else old
        name = codec or old.codec.name
        done = _described(output, folder, model, describer, dataset, plan, name, side, training, seed, kept)
        return dataclasses.replace(done, added=added, changed=changed, told=told, notes=notes)


def remove_places(output: str | os.PathLike, patterns: Sequence[str]) -> list[str]:
    """Removes places from an index.

    Args:
        output: the index.
        patterns: names, or patterns of them as shells write them: `*`, `?` and `[abc]`. What is a name is no pattern.

    Returns:
        the names of the places that were removed.

    Raises:
        UserError: a pattern fits no place, and nothing is removed; or the index is damaged, there is no room on the
            disk, or another run is at work on it.
    """
    with at_work(output), open_index(output) as old:
        names = old.names()
        chosen = np.zeros(len(names), bool)
        rows = {name: row for row, name in enumerate(names)}
        for pattern in patterns:
            if pattern in rows:
                chosen[rows[pattern]] = True
                continue
            fitting = [row for row, name in enumerate(names) if fnmatch.fnmatchcase(name, pattern)]
            if not fitting:
                raise UserError(f"{os.fspath(output)}: no place has the name or pattern {printable_name(pattern)}")
            chosen[fitting] = True
        kept = np.flatnonzero(~chosen).tolist()
        entries = [entry for entry, gone in zip(old.every_place(), chosen, strict=True) if not gone]
        plan = _Plan([number for number, _ in entries], [place for _, place in entries], kept, [-1] * len(kept))
        _write(output, old.model, old.codec, old.test_vector, old.settings, plan, old=old)
        return [names[row] for row in np.flatnonzero(chosen).tolist()]


def _places(dataset: PlaceDataset, describer: Describer) -> list[Place]:
    """The images of a data set as places, with what tells whether their pictures stay the same."""
    places = places_of(dataset)
    names = {place.name for place in places}
    if len(names) < len(places):
        raise UserError(f"{dataset.spec}: two of its database images have one name; rename one of them")
    digests = picture_digests(dataset.database, describer.input_size)
    return [dataclasses.replace(place, digest=digest) for place, digest in zip(places, digests, strict=True)]


def _old_side(old: PlaceIndex) -> int:
    """The size of the thumbnails that an index has, which may be anybody's."""
    side = old.settings.get(THUMBNAILS, 0)
    if type(side) is not int or not 0 <= side <= MAX_THUMBNAIL:
        raise UserError(f"{old.path}: its setting {THUMBNAILS} is no number of pixels; give --thumbnails")
    return side


@contextlib.contextmanager
def at_work(output: str | os.PathLike) -> Iterator[str]:
    """The folder beside an index that a run has for itself, while it works on the index.

    Raises:
        UserError: another run is at work on it.
    """
    folder = f"{os.path.realpath(output)}.work"
    with holding(folder):
        yield folder


def _described(
    output: str | os.PathLike,
    folder: str,
    model: str | os.PathLike,
    describer: Describer,
    dataset: PlaceDataset,
    plan: _Plan,
    codec: str,
    side: int,
    training: Images | None,
    seed: int,
    old: PlaceIndex | None = None,
) -> Changes:
    """Describes what a plan says is to be described, and writes the index."""
    identity = identify(model, describer)
    wanted = [index for index, row in zip(plan.images, plan.old_rows, strict=True) if row < 0]
    images = Subset(dataset.database, wanted)
    with contextlib.ExitStack() as stack:
        vectors = stack.enter_context(_descriptors(folder, identity, describer, images, "places"))
        if old is None:
            made = _fitted(codec, vectors, folder, identity, describer, training, seed, stack)
            vector: TestVector | None = make_test_vector(describer)
            settings: dict = {}
        else:
            made, vector, settings = old.codec, old.test_vector, dict(old.settings)
        settings[THUMBNAILS] = side
        _write(output, identity, made, vector, settings, plan, vectors, dataset.database, side, old)
    added = [] if old is not None else [place.name for place in plan.places]
    return Changes(len(plan.places), added, [], [], len(wanted))


@contextlib.contextmanager
def _descriptors(
    folder: str, identity: ModelIdentity, describer: Describer, images: Images, label: str
) -> Iterator[UnitDescriptors]:
    """Descriptors of images, which go from the folder when the `with` succeeds, and stay for the next run if not."""
    file = DescriptorFile(folder, identity.sha256, describer.input_size, images, describer.descriptor_dim)
    try:
        if file.done:
            print(f"goes on from {file.done:,} of {len(images):,} {label}")
        yield UnitDescriptors(describe_images(describer, images, label, file), label, images.names)
    except BaseException:
        if not file.done:
            file.remove()
        raise
    file.remove()


def _fitted(
    name: str,
    vectors: UnitDescriptors,
    folder: str,
    identity: ModelIdentity,
    describer: Describer,
    training: Images | None,
    seed: int,
    stack: contextlib.ExitStack,
) -> Codec:
    """The codec, trained where it has to be."""
    if training is not None:
        part = os.path.join(folder, "training")
        os.makedirs(part, exist_ok=True)
        vectors = stack.enter_context(_descriptors(part, identity, describer, training, "images to train the codec"))
    if not len(vectors):
        return CODECS[name].fit(np.empty((0, describer.descriptor_dim), np.float32))
    chosen = np.arange(len(vectors))
    if len(chosen) > _SAMPLE:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, _SAMPLE, replace=False))
    return CODECS[name].fit(np.concatenate([vectors[i : i + 1] for i in chosen.tolist()]))


def _write(
    output: str | os.PathLike,
    identity: ModelIdentity,
    codec: Codec,
    vector: TestVector | None,
    settings: dict,
    plan: _Plan,
    vectors: UnitDescriptors | None = None,
    images: Images | None = None,
    side: int = 0,
    old: PlaceIndex | None = None,
) -> None:
    """Writes the index of a plan; what is described lies in the vectors in the order of the plan."""
    described = 0
    rows = np.array(plan.old_rows, np.int64)
    with (
        writing_index(output, identity, codec, vector, settings) as writer,
        ThreadPoolExecutor(usable_processors()) as pool,
        progress(len(rows), "writing", "place") as bar,
    ):
        for start in range(0, len(rows), _PART):
            part = slice(start, start + _PART)
            new = rows[part] < 0
            codes = np.empty((len(new), codec.code_bytes), np.uint8)
            pictures: list[bytes | None] = [None] * len(new)
            if old is not None:
                codes[~new] = old.codes(rows[part][~new])
                for index in np.flatnonzero(~new).tolist():
                    pictures[index] = old.thumbnail(int(rows[part][index]))
            if vectors is not None and images is not None and new.any():
                count = int(new.sum())
                codes[new] = codec.encode(vectors[described : described + count])
                described += count
                if side:
                    where = np.flatnonzero(new).tolist()
                    made = thumbnails(images, [plan.images[start + i] for i in where], side, pool)
                    for index, picture in zip(where, made, strict=True):
                        pictures[index] = picture
            writer.add(plan.places[part], codes, pictures, plan.ids[part])
            bar.update(len(new))
