"""Data sets by their specs, `KIND[:PATH][?key=value&…]`.

A kind is a frozen dataclass: its fields are its options, `path` among them where it takes one, and `open` makes the
data set. To add a kind: a file with its class, and a line in `KINDS`.

In a path `%2C`, `%3F` and other percent escapes stand for a comma, a question mark and whatever else; a path that is
there as it is written is taken as it is. `~` is the user's home. Of several specs separated by commas each begins with
a kind, so that a comma within a path does no harm.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing
import urllib.parse
import warnings
from typing import Any, ClassVar, Protocol

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.common.options import split_options, typed_options
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.csv_table import CsvTable
from tfplaces.datasets.dbstruct import DbStructFile
from tfplaces.datasets.exif_photos import ExifPhotos
from tfplaces.datasets.folder import Folder
from tfplaces.datasets.frames import Frames, Nordland
from tfplaces.datasets.gsv_cities import GsvCities
from tfplaces.datasets.holidays import Holidays
from tfplaces.datasets.msls import Msls
from tfplaces.datasets.numpy_truth import NumpyLists, NumpyPositions
from tfplaces.datasets.oxford_paris import OxfordBuildings, ParisBuildings
from tfplaces.datasets.pittsburgh import Pittsburgh30k, Pittsburgh250k, TokyoTimeMachine
from tfplaces.datasets.revisited import RevisitedOxford, RevisitedParis
from tfplaces.datasets.sf_xl import SanFranciscoXL
from tfplaces.datasets.splitting import hold_out
from tfplaces.datasets.tokyo247 import Tokyo247
from tfplaces.datasets.toytown import Toytown
from tfplaces.datasets.utm_names import UtmNames


class Kind(Protocol):
    """A kind of data set: a dataclass of its options.

    One that has an option `split`, but whose data may come without splits, has a property `splits`: the names of those
    that there are.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: an option is out of range, or what the path names is not there or unfit.
        """


KINDS: dict[str, type[Kind]] = {
    "csv": CsvTable,
    "dbstruct": DbStructFile,
    "exif": ExifPhotos,
    "folder": Folder,
    "frames": Frames,
    "gsvcities": GsvCities,
    "holidays": Holidays,
    "msls": Msls,
    "nordland": Nordland,
    "npy": NumpyLists,
    "npz": NumpyPositions,
    "oxford5k": OxfordBuildings,
    "paris6k": ParisBuildings,
    "pitts250k": Pittsburgh250k,
    "pitts30k": Pittsburgh30k,
    "roxford5k": RevisitedOxford,
    "rparis6k": RevisitedParis,
    "sfxl": SanFranciscoXL,
    "tokyo247": Tokyo247,
    "tokyotm": TokyoTimeMachine,
    "toytown": Toytown,
    "utm": UtmNames,
}


def load_dataset(spec: str, split: str | None = None) -> PlaceDataset:
    """Opens a data set.

    What the user should know of it, its notes, is warned of.

    Args:
        spec: `KIND[:PATH][?key=value&…]`, for example `folder:photos`, `toytown?places=100&split=val`.
        split: used where the kind has splits and the spec does not name one.

    Raises:
        UserError: the spec does not name a data set, or what it names is not there.
    """
    kind, options = _parse(spec)
    if split is not None and _open_splits(spec, kind, options):
        options["split"] = split
    dataset = dataclasses.replace(_make(spec, kind, options).open(), spec=spec)
    for note in dataset.notes:
        warnings.warn(f"{printable_name(spec)}: {note}", DataWarning, stacklevel=2)
    return dataset


def load_datasets(specs: str, split: str | None = None) -> list[PlaceDataset]:
    """Opens several data sets, separated by commas; each spec begins with its kind.

    Args:
        specs: data sets separated by commas, for example `folder:photos,folder:more,toytown`.
        split: see `load_dataset`.

    Raises:
        UserError: as for `load_dataset`.
    """
    return [load_dataset(spec, split) for spec in split_specs(specs)]


def split_specs(specs: str) -> list[str]:
    """The specs in a list separated by commas: a comma begins a new one where a kind follows it."""
    begins = "|".join(map(re.escape, KINDS))
    return re.split(rf",(?=(?:{begins})(?:[:?,]|$))", specs)


def training_sets(spec: str, val_spec: str | None = None) -> tuple[PlaceDataset, PlaceDataset]:
    """The data set to learn from and the one that judges the epochs.

    Args:
        spec: the data set to learn from; its split `train` where it has splits and names none.
        val_spec: the data set to judge by; by default the split `val`, or, where there are no splits, about a fifth of
            the places, which are then left out of the training.

    Raises:
        UserError: as for `load_dataset`, or there are too few places to hold some out.
    """
    dataset = load_dataset(spec, "train")
    if val_spec:
        return dataset, load_dataset(val_spec, "val")
    return (dataset, load_dataset(spec, "val")) if has_splits(spec) else hold_out(dataset)


def has_splits(spec: str) -> bool:
    """Whether the data set has splits to train on and to validate on, and the spec leaves open which is meant."""
    return {"train", "val"} <= set(_open_splits(spec, *_parse(spec)))


def _open_splits(spec: str, kind: str, options: dict[str, str]) -> tuple[str, ...]:
    """The splits of a data set; none where the spec names one."""
    if "split" not in _fields(kind) or "split" in options:
        return ()
    return getattr(_make(spec, kind, options), "splits", ("train", "val", "test"))


def _make(spec: str, kind: str, options: dict[str, str]) -> Kind:
    return KINDS[kind](**typed_options(spec, options, KINDS[kind]))


def _fields(kind: str) -> list[str]:
    return [field.name for field in dataclasses.fields(typing.cast(Any, KINDS[kind]))]


def _parse(spec: str) -> tuple[str, dict[str, str]]:
    """The kind that a spec names, and its options as text."""
    found = re.match(r"(\w+)(?=[:?]|$)", spec)
    kind = found[1] if found else ""
    if kind not in KINDS:
        raise UserError(
            f"{printable_name(spec)!r} names no data set: expected KIND[:PATH][?key=value&…], KIND one of "
            f"{', '.join(KINDS)}"
        )
    known = [name for name in _fields(kind) if name != "path"]
    rest, takes_path = spec[len(kind) :], "path" in _fields(kind)
    path, query = _split_path(rest[1:], known) if rest.startswith(":") else ("", rest[1:])
    if takes_path != bool(path):
        raise UserError(
            f"{printable_name(spec)}: {kind} takes " + ("a path, as in folder:photos" if takes_path else "no path")
        )
    return kind, {**({"path": path} if takes_path else {}), **split_options(spec, kind, query, known)}


def _split_path(text: str, known: list[str]) -> tuple[str, str]:
    """The path in the rest of a spec, and its options.

    Of several ways to read it the first wins that names something that is there, the longest path first. Where nothing
    is there, the path ends at the first question mark that the name of an option follows, or at the first one.
    """
    marks = [match.start() for match in re.finditer(r"\?", text)]
    for end in [len(text), *reversed(marks)]:
        for path in _readings(text[:end]):
            if path and os.path.exists(path):
                return path, text[end + 1 :]
    end = next(
        (mark for mark in marks if text[mark + 1 :].partition("=")[0] in known), marks[0] if marks else len(text)
    )
    return _readings(text[:end])[-1], text[end + 1 :]


def _readings(path: str) -> list[str]:
    """A path as it is written, with the home for `~`, and with percent escapes read."""
    decoded = urllib.parse.unquote(path, errors="surrogateescape")
    return list(dict.fromkeys([path, os.path.expanduser(path), os.path.expanduser(decoded)]))
