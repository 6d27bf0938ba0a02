"""Reading an index: its model, its codes in blocks, and its places."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.strict_json import parse_json
from tfplaces.index.codecs import CODECS, Codec
from tfplaces.index.database import connect_read_only, errors_named
from tfplaces.index.place import MAX_DIMENSIONS, ModelIdentity, Place, TestVector
from tfplaces.index.schema import rows_per_block

_MAX_SETTINGS, _MAX_PARTS = 1000, 4096
_MAX_PLACES = 2**31
# Blocks are kept in memory, once read, if all of them together are no larger.
_KEPT_BYTES = 2**29
_PLACE_COLUMNS = "name, latitude, longitude, easting, northing, zone, heading, group_name, time, digest"
# Settings that the index itself needs; others may be put into it.
OWN_SETTINGS = ("model", "codec", "count")


@dataclasses.dataclass(frozen=True)
class Columns:
    """What is known of all places, by row, NaN where a number is not known.

    Attributes:
        latitudes: degrees, float64 `[n]`.
        longitudes: degrees, float64 `[n]`.
        eastings: metres, float64 `[n]`.
        northings: metres, float64 `[n]`.
        groups: the number of each place's group, int64 `[n]`; -1 where it has none.
    """

    latitudes: np.ndarray
    longitudes: np.ndarray
    eastings: np.ndarray
    northings: np.ndarray
    groups: np.ndarray


class PlaceIndex:
    """An index that is open for reading. Places have rows, 0 to n - 1, the order of their codes.

    It is a context manager, which closes the file.

    Attributes:
        path: the file.
        version: of its format.
        settings: what else was put into it, by key: values of JSON.
        model: the model that described the places.
        codec: how the descriptors are written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self._connection, self.version = connect_read_only(path)
        self._kept: dict[int, np.ndarray] = {}
        try:
            with errors_named(path):
                self.settings = self._read_settings()
                self.model, self.codec, self._count = self._read_own(self.settings)
                self.settings = {key: value for key, value in self.settings.items() if key not in OWN_SETTINGS}
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def __len__(self) -> int:
        return self._count

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All codes, some at a time: the row of the first, and uint8 `[rows, code_bytes]`.

        Raises:
            UserError: the file is damaged.
        """
        step = rows_per_block(self.codec.code_bytes)
        for first in range(0, self._count, step):
            yield first, self._block(first // step)

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """The codes of some places, uint8 `[len(rows), code_bytes]`, in the order of the rows given.

        Raises:
            UserError: the file is damaged.
        """
        found = np.empty((len(rows), self.codec.code_bytes), np.uint8)
        numbers, offsets = np.divmod(rows, rows_per_block(self.codec.code_bytes))
        for number in np.unique(numbers).tolist():
            inside = numbers == number
            found[inside] = self._block(number)[offsets[inside]]
        return found

    def _block(self, number: int) -> np.ndarray:
        if number in self._kept:
            return self._kept[number]
        step = rows_per_block(self.codec.code_bytes)
        rows = min(step, self._count - number * step)
        with errors_named(self.path):
            answer = self._connection.execute("SELECT codes FROM blocks WHERE id = ?", (number,)).fetchone()
            if answer is None or type(answer[0]) is not bytes or len(answer[0]) != rows * self.codec.code_bytes:
                raise UserError(f"it is damaged: its block {number} is not that of {rows} places")
        codes = np.frombuffer(answer[0], np.uint8).reshape(rows, -1)
        if self._count * self.codec.code_bytes <= _KEPT_BYTES:
            self._kept[number] = codes
        return codes

    def places(self, rows: Sequence[int] | np.ndarray) -> list[Place]:
        """The places of some rows.

        Raises:
            UserError: the file is damaged.
        """
        found = []
        with errors_named(self.path):
            for row in rows:
                answer = self._connection.execute(
                    f"SELECT {_PLACE_COLUMNS} FROM places WHERE id = ?", (int(self.ids[row]),)
                ).fetchone()
                found.append(_place(answer))
        return found

    def every_place(self) -> Iterator[tuple[int, Place]]:
        """All places with their ids, in the order of their rows.

        Raises:
            UserError: the file is damaged.
        """
        with errors_named(self.path):
            ids = self.ids
            cursor = self._connection.execute(f"SELECT {_PLACE_COLUMNS} FROM places ORDER BY id")
            for number, answer in zip(ids.tolist(), cursor, strict=True):
                yield number, _place(answer)

    def names(self) -> list[str]:
        """The names of all places, in the order of their rows.

        Raises:
            UserError: the file is damaged.
        """
        with errors_named(self.path):
            found = [_name(name) for (name,) in self._connection.execute("SELECT name FROM places ORDER BY id")]
            if len(found) != len(self.ids):
                raise UserError("it is damaged: its places are not as many as it says")
            return found

    def thumbnail(self, row: int) -> bytes | None:
        """A small JPEG of a place's photo; None where the index has none."""
        with errors_named(self.path):
            answer = self._connection.execute(
                "SELECT jpeg FROM thumbnails WHERE place = ?", (int(self.ids[row]),)
            ).fetchone()
            if answer is None:
                return None
            if type(answer[0]) is not bytes:
                raise UserError("it is damaged: a thumbnail is no picture")
            return answer[0]

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """The id of each place by its row, int64 `[n]`: unlike rows, ids stay when other places are removed."""
        with errors_named(self.path):
            pairs = self._fetch("SELECT id, row FROM places ORDER BY id", np.int64, 2)
            if not np.array_equal(pairs[:, 1], np.arange(len(self))):
                raise UserError("it is damaged: its places are not in the order of their rows")
            return pairs[:, 0]

    @functools.cached_property
    def columns(self) -> Columns:
        """Positions and groups of all places."""
        with errors_named(self.path):
            names: dict[bytes, int] = {}
            groups, numbers = np.full(len(self), -1, np.int64), np.empty((len(self), 4))
            cursor = self._connection.execute(
                "SELECT latitude, longitude, easting, northing, group_name FROM places ORDER BY id"
            )
            # The ids are looked at first: places come in the order of their rows.
            for row, (_, (*position, group)) in enumerate(zip(self.ids, cursor, strict=True)):
                numbers[row] = [_optional(value, float, np.nan) for value in position]
                if group is not None:
                    groups[row] = names.setdefault(_optional(group, bytes), len(names))
            latitudes, longitudes, eastings, northings = np.ascontiguousarray(numbers.T)
            return Columns(latitudes, longitudes, eastings, northings, groups)

    @functools.cached_property
    def test_vector(self) -> TestVector | None:
        """The image and its descriptor by which another runtime is noticed; None where there are none."""
        with errors_named(self.path):
            descriptor, image = self._content("test_descriptor"), self._content("test_image")
            if descriptor is None or image is None:
                return None
            vector = np.frombuffer(descriptor, "<f4") if len(descriptor) == 4 * self.model.dimensions else np.empty(0)
            if (
                not len(vector)
                or not np.isfinite(vector).all()
                or abs(np.linalg.norm(vector.astype(np.float64)) - 1) > 1e-3
            ):
                raise UserError("it is damaged: the descriptor of its test image is none")
            return TestVector(_test_image(image, self.model.input_size), vector.astype(np.float32))

    def _fetch(self, sql: str, dtype: type, width: int) -> np.ndarray:
        """The whole numbers that a query gives, `[n, width]`."""
        found: np.ndarray = np.empty((len(self), width), dtype)
        end = 0
        cursor = self._connection.execute(sql)
        while rows := cursor.fetchmany(2**14):
            if end + len(rows) > len(found) or not all(type(value) is int for row in rows for value in row):
                raise UserError("it is damaged: its places are not as many as it says")
            found[end : end + len(rows)] = rows
            end += len(rows)
        return found[:end]

    def _read_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for key, value in self._connection.execute("SELECT key, value FROM settings"):
            if type(key) is not bytes or type(value) is not bytes or len(settings) == _MAX_SETTINGS:
                raise UserError("it is damaged: its settings are no texts, or too many")
            settings[key.decode()] = parse_json(value, "a setting")
        return settings

    def _read_own(self, settings: dict[str, Any]) -> tuple[ModelIdentity, Codec, int]:
        try:
            stored, codec, count = settings["model"], settings["codec"], settings["count"]
            height, width = stored["input_size"]
            model = ModelIdentity(stored["sha256"], stored["precision"], (height, width), stored["dimensions"])
            numbers = (height, width, model.dimensions, count)
            if not all(type(number) is int for number in numbers) or not all(
                type(text) is str for text in (model.sha256, model.precision, codec)
            ):
                raise TypeError
        except (KeyError, TypeError, ValueError):
            raise UserError("it is damaged: its settings are not those of an index") from None
        model.check()
        if codec not in CODECS:
            raise UserError(f"its codec {codec[:40]!r} is none of {', '.join(CODECS)}; update tfplaces")
        (most,) = self._connection.execute("SELECT count(*) FROM places").fetchone()
        if not 0 <= count <= _MAX_PLACES or count != most:
            raise UserError("it is damaged: its places are not as many as it says")
        made = CODECS[codec].from_state(self._content("codec_state") or b"", model.dimensions)
        if not 0 < made.code_bytes <= 4 * MAX_DIMENSIONS:
            raise UserError("it is damaged: its codes have an impossible length")
        return model, made, count

    def _content(self, name: str) -> bytes | None:
        """A content that may be larger than a row; None where there is none."""
        parts: list[bytes] = []
        for part, content in self._connection.execute(
            "SELECT part, content FROM contents WHERE name = ? ORDER BY part", (name,)
        ):
            if part != len(parts) or part == _MAX_PARTS or type(content) is not bytes:
                raise UserError(f"it is damaged: its content {name} is not whole")
            parts.append(content)
        return b"".join(parts) if parts else None


def open_index(path: str | os.PathLike) -> PlaceIndex:
    """Opens an index that may come from a stranger; use it as a context manager.

    Raises:
        UserError: no such file, no index, a damaged one or one of a newer format; the message is one line.
    """
    return PlaceIndex(path)


def _optional(value: Any, kind: type, otherwise: Any = None) -> Any:
    """A value of a column that may be NULL."""
    if value is None:
        return otherwise
    if type(value) is not kind:
        raise UserError("it is damaged: a column of a place has a value of another kind")
    return value


def _name(stored: Any) -> str:
    """A name as Python has it: bytes that are no UTF-8 as `os.fsdecode` gives them."""
    if type(stored) is not bytes:
        raise UserError("it is damaged: a place has no name")
    return stored.decode("utf-8", "surrogateescape")


def _place(answer: tuple[Any, ...] | None) -> Place:
    if answer is None:
        raise UserError("it is damaged: a place is missing")
    name, latitude, longitude, easting, northing, zone, heading, group, time, digest = answer
    texts = [None if text is None else _optional(text, bytes).decode() for text in (zone, group, time)]
    place = Place(
        _name(name),
        _optional(latitude, float),
        _optional(longitude, float),
        _optional(easting, float),
        _optional(northing, float),
        zone=texts[0],
        heading=_optional(heading, float),
        group=texts[1],
        time=texts[2],
        digest=_optional(digest, bytes, b""),
    )
    try:
        place.check()
    except UserError as error:
        raise UserError(f"it is damaged: a place cannot be: {error}") from None
    return place


def _test_image(png: bytes, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            if image.size != (size[1], size[0]) or image.mode != "RGB":
                raise UserError("it is damaged: its test image is of another size than the model's input")
            return np.asarray(image)
    except UserError:
        raise
    except Exception:  # Pillow raises many kinds of errors for damaged files
        raise UserError("it is damaged: its test image cannot be read") from None
