"""Finds the places of photos in an index, photo by photo, and writes what was found as it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import read_regular, replacing
from tfplaces.common.text import printable_name
from tfplaces.datasets import Images
from tfplaces.datasets.discovery import find_images
from tfplaces.datasets.image_kinds import EXTENSIONS
from tfplaces.describers import Describer, stream_descriptors
from tfplaces.evaluation.unit_descriptors import UnitDescriptors
from tfplaces.index import Place, PlaceIndex
from tfplaces.index.database import errors_named
from tfplaces.index.near import Near, rows_near
from tfplaces.index.probability import Calibration
from tfplaces.index.scanning import best_matches
from tfplaces.index.schema import rows_per_block
from tfplaces.index.sequences import sequence_scores
from tfplaces.workflows.calibrating import LOOKED_AT, SETTING, lead_of

# Photos for which the codes are gone through together.
_TOGETHER = 256
_MAX_LIST_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class Match:
    """A place that a photo may show.

    Attributes:
        place: the place.
        row: of it in the index.
        score: the cosine of the two descriptors, or the codec's estimate of it, 1 at most.
    """

    place: Place
    row: int
    score: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is found for a photo.

    Attributes:
        photo: its path.
        matches: the best places, best first, at least one.
        probability: that the first match is right, 0 to 1; None where the index has not learnt how scores tell it.
        known: whether the probability is high enough to rely on; None without it.
    """

    photo: str
    matches: list[Match]
    probability: float | None = None
    known: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """The answer in types of JSON; a position that is not known is null."""
        probability = None if self.probability is None else round(self.probability, 6)
        matches = [_match_json(match) for match in self.matches]
        return {"photo": self.photo, "matches": matches, "known": self.known, "probability": probability}

    @property
    def verdict(self) -> str:
        """How sure the answer is, for people; empty where that is not known."""
        if self.probability is None:
            return ""
        return f"{'known' if self.known else 'not known'}, {100 * self.probability:.0f} % sure"


def photos_of(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The photos that a user names: files, folders of them, or lists, `.txt` files with a path in each line.

    A path in a list is relative to the working directory, or to the folder of the list where there is no such file.

    Returns:
        the paths, and what the user should know, a sentence each.

    Raises:
        UserError: something is not there, or there is no photo.
    """
    photos: list[str] = []
    notes = []
    for argument in arguments:
        if os.path.isdir(argument):
            found = find_images(argument)
            photos += [os.path.join(argument, name) for name in found.names]
            if found.note:
                notes.append(f"{printable_name(argument)}: {found.note}")
            if not found.names:
                raise UserError(f"{printable_name(argument)}: no images there (looked for {' '.join(EXTENSIONS)})")
        elif argument.lower().endswith(".txt"):
            photos += _listed(argument)
        elif os.path.isfile(argument):
            photos.append(argument)
        else:
            raise UserError(f"{printable_name(argument)}: no such photo, folder or list of photos")
    if not photos:
        raise UserError("no photos to find the places of: name some, a folder, or a .txt file that lists them")
    return photos, notes


def answers(
    index: PlaceIndex, describer: Describer, photos: Images, count: int, near: Near | None = None, sequence: int = 1
) -> Iterator[Answer]:
    """Finds the places of photos; the photos are streamed, with progress.

    Args:
        index: the places.
        describer: the model that described them.
        photos: what to look for.
        count: how many matches each photo gets at most.
        near: the circle that all photos were taken in, if it is known.
        sequence: how many consecutive photos, frames of one drive or walk, vote together, as `sequence_scores` says. Of
            several the answers have no probability, which was learnt from single photos.

    Raises:
        UserError: the index has no places, or none in the circle; a photo cannot be read or described.
    """
    if not len(index):
        raise UserError(f"{index.path}: has no places to find; add some with tfplaces-index --add")
    allowed = None if near is None else rows_near(index, near)
    with errors_named(index.path):
        stored = index.settings.get(SETTING)
        calibration = None if stored is None or sequence > 1 else Calibration.from_json(stored)
    asked, before = 0, None
    for vectors in _together(stream_descriptors(describer, photos, range(len(photos)), "looking for photos"), sequence):
        names = [photos.names[asked + i] for i in range(len(vectors))]
        queries = UnitDescriptors(vectors, "photos", names)[0 : len(vectors)]
        wanted = count if calibration is None else max(count, LOOKED_AT)
        if sequence == 1:
            rows, scores = best_matches(index.codec, queries, _blocks(index, allowed), wanted)
        else:
            found = np.concatenate([index.codec.scan(queries, codes) for _, codes in _blocks(index, allowed)], axis=1)
            frames = found if before is None else np.concatenate([before, found])
            voted = sequence_scores(frames, sequence)[-len(found) :]
            rows = np.argsort(-voted, axis=1, kind="stable")[:, :wanted]
            scores, before = np.take_along_axis(voted, rows, 1), frames[1 - sequence :]
        if allowed is not None:
            rows = allowed[rows]
        for name, of_photo, cosines in zip(names, rows, scores, strict=True):
            yield _answer(index, calibration, name, of_photo, cosines, count)
        asked += len(vectors)


def _answer(
    index: PlaceIndex, calibration: Calibration | None, photo: str, rows: np.ndarray, scores: np.ndarray, count: int
) -> Answer:
    """What is said of a photo, from the rows of its best places and their scores."""
    places = index.places(rows)
    found = zip(places[:count], rows.tolist(), scores.tolist(), strict=False)
    matches = [Match(place, row, score) for place, row, score in found]
    if calibration is None:
        return Answer(photo, matches)
    probability = float(calibration.probability(scores[:1], np.array([lead_of(places, scores)]))[0])
    return Answer(photo, matches, probability, probability >= calibration.threshold)


@contextlib.contextmanager
def writing_json(path: str | os.PathLike) -> Iterator[JsonList]:
    """Writes a list of JSON objects, one a line, as they come; the file appears whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", encoding="ascii") as file:
        file.write("[")
        yield JsonList(file)
        file.write("\n]\n")


class JsonList:
    """Takes the objects of a list."""

    def __init__(self, file: IO[str]):
        self._file, self._separator = file, "\n"

    def add(self, item: dict[str, Any]) -> None:
        """Writes one."""
        self._file.write(self._separator + json.dumps(item, allow_nan=False))
        self._separator = ",\n"


def answer_text(answer: Answer) -> str:
    """An answer as lines for people: the photo, and below it the score, the name and the position of each match."""
    lines = [printable_name(answer.photo) + (f"  ({answer.verdict})" if answer.verdict else "")]
    for match in answer.matches:
        place = match.place
        where = ""
        if place.latitude is not None:
            where = f"  {place.latitude:.6f},{place.longitude:.6f}"
        elif place.easting is not None:
            where = f"  {place.easting:.2f} east, {place.northing:.2f} north"
        lines.append(f"  {match.score:.4f}  {printable_name(place.name)}{where}")
    return "\n".join(lines)


def _match_json(match: Match) -> dict[str, Any]:
    place = match.place
    found: dict[str, Any] = {"name": place.name, "score": round(match.score, 6), "latitude": place.latitude,
                             "longitude": place.longitude}  # fmt: skip
    if place.latitude is None and place.easting is not None:
        found |= {"easting": place.easting, "northing": place.northing}
    for key in ("heading", "group", "time"):
        value = getattr(place, key)
        if value is not None:
            found[key] = value
    return found


def _listed(path: str) -> list[str]:
    photos = []
    text = read_regular(path, _MAX_LIST_BYTES).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    for number, line in enumerate(text.split("\n"), 1):
        name = line.removesuffix("\r")
        if not name:
            continue
        choices = [name, os.path.join(os.path.dirname(path), name)]
        found = next((choice for choice in choices if "\0" not in choice and os.path.isfile(choice)), None)
        if found is None:
            raise UserError(f"{printable_name(path)}: line {number}: no such photo as {printable_name(name[:500])}")
        photos.append(found)
    return photos


def _together(parts: Iterable[np.ndarray], sequence: int) -> Iterator[np.ndarray]:
    """Parts of descriptors joined until as many as are looked for together; of sequences all scores are kept."""
    if sequence > 1:
        yield from parts
        return
    waiting: list[np.ndarray] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= _TOGETHER:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _blocks(index: PlaceIndex, allowed: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
    """The codes of an index, or of some rows of it, which are numbered anew."""
    if allowed is None:
        yield from index.blocks()
        return
    step = rows_per_block(index.codec.code_bytes)
    for first in range(0, len(allowed), step):
        yield first, index.codes(allowed[first : first + step])
