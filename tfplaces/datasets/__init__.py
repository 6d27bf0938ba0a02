"""Data sets: images and which of them show the same place.

A data set is named by `KIND[:PATH][?key=value&…]`. To add a kind: a file here, and a line in `KINDS`.
"""

from __future__ import annotations

import dataclasses
import inspect
import urllib.parse
from collections.abc import Callable

from tfplaces.common.errors import UserError
from tfplaces.datasets.base import Concatenation, Images, PlaceDataset, Subset, concatenate, take_queries
from tfplaces.datasets.batches import read_batch, read_batches
from tfplaces.datasets.decoding import load_image, resize
from tfplaces.datasets.folder import folder
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.images import CachedImages, ImageFiles, cached
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.oxford_paris import oxford5k, paris6k
from tfplaces.datasets.splitting import halve_by_place, hold_out
from tfplaces.datasets.toytown import toytown

KINDS: dict[str, Callable[..., PlaceDataset]] = {
    "folder": folder,
    "oxford5k": oxford5k,
    "paris6k": paris6k,
    "toytown": toytown,
}


def load_dataset(spec: str, split: str | None = None) -> PlaceDataset:
    """Opens a data set.

    Args:
        spec: `KIND[:PATH][?key=value&…]`, for example `folder:photos`, `toytown?places=100&split=val`.
        split: used where the kind has splits and the spec does not name one.

    Raises:
        ValueError: the spec does not name a data set, or what it names is not there.
    """
    kind, path, options = _parse(spec)
    parameters = inspect.signature(KINDS[kind]).parameters
    if split is not None and "split" in parameters:
        options.setdefault("split", split)
    arguments = {}
    for key, value in options.items():
        if key not in parameters or key == "path":
            known = ", ".join(p for p in parameters if p != "path") or "none"
            raise UserError(f"{spec}: unknown option {key!r}; {kind} has {known}")
        default = parameters[key].default
        try:
            arguments[key] = type(default)(value)
        except ValueError:
            raise UserError(f"{spec}: {key}={value} is not of type {type(default).__name__}") from None
    if "path" in parameters:
        arguments["path"] = path
    return dataclasses.replace(KINDS[kind](**arguments), spec=spec)


def load_datasets(specs: str, split: str | None = None) -> list[PlaceDataset]:
    """Opens several data sets, separated by commas."""
    return [load_dataset(spec, split) for spec in specs.split(",")]


def training_sets(spec: str, val_spec: str | None = None) -> tuple[PlaceDataset, PlaceDataset]:
    """The data set to learn from and the one that judges the epochs.

    Args:
        spec: to learn from; its split `train` where it has splits and names none.
        val_spec: to judge by; by default the split `val`, or, where there are no splits, every fifth query, which is
            then left out of the training.
    """
    dataset = load_dataset(spec, "train")
    if val_spec:
        return dataset, load_dataset(val_spec, "val")
    return (dataset, load_dataset(spec, "val")) if has_splits(spec) else hold_out(dataset)


def has_splits(spec: str) -> bool:
    """Whether the kind of data set has splits and the spec leaves open which."""
    kind, _, options = _parse(spec)
    return "split" in inspect.signature(KINDS[kind]).parameters and "split" not in options


def _parse(spec: str) -> tuple[str, str, dict[str, str]]:
    """Splits a spec into kind, path and options."""
    head, _, query = spec.partition("?")
    kind, _, path = head.partition(":")
    if kind not in KINDS:
        raise UserError(
            f"{spec!r} names no data set: expected KIND[:PATH][?key=value&…], KIND one of {', '.join(KINDS)}"
        )
    takes_path = "path" in inspect.signature(KINDS[kind]).parameters
    if takes_path != bool(path):
        raise UserError(f"{spec}: {kind} takes " + ("a path, as in folder:photos" if takes_path else "no path"))
    try:
        options = dict(urllib.parse.parse_qsl(query, strict_parsing=True) if query else [])
    except ValueError:
        raise UserError(f"{spec}: options are key=value, separated by &") from None
    return kind, path, options


__all__ = [
    "KINDS",
    "CachedImages",
    "Concatenation",
    "GroundTruth",
    "ImageFiles",
    "Images",
    "IndexLists",
    "PlaceDataset",
    "Subset",
    "cached",
    "concatenate",
    "halve_by_place",
    "has_splits",
    "hold_out",
    "load_dataset",
    "load_datasets",
    "load_image",
    "read_batch",
    "read_batches",
    "resize",
    "take_queries",
    "training_sets",
]
