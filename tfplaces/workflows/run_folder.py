"""A folder that holds what a long run has made so far, so that the same command goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import Images, IndexLists, PlaceDataset


def take_up(folder: str, state_file: str, run: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The state of an interrupted run that is the same as the one to be started.

    Args:
        folder: the folder of the run, which may not be there yet.
        state_file: the name of the JSON file in it that holds the state, which describes the run under the key `run`.
        run: the description of the run to be started, of plain JSON types.
        overwrite: whether to start anew, whatever the folder holds.

    Returns:
        the state, or None where the run starts anew.

    Raises:
        UserError: the folder holds another run, or something else.
    """
    if overwrite or not os.path.isdir(folder) or not os.listdir(folder):
        return None
    run = json.loads(json.dumps(run))
    try:
        with open(os.path.join(folder, state_file), encoding="utf-8") as file:
            state = json.load(file)
        found = state["run"]
        changed = sorted(key for key in run.keys() | found.keys() if run.get(key) != found.get(key))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{folder}: is not empty and holds no run of this tool; give --overwrite to start anew, or another --output"
        ) from None
    if changed:
        raise UserError(
            f"{folder}: holds a run with another --{changed[0]}; give --overwrite to start anew, or another --output"
        )
    return state


def clear(folder: str, patterns: Iterable[str], keep: Iterable[str] = ()) -> None:
    """Removes what an earlier run has made, so that a run that replaces it leaves no mixture of both when it is killed.

    Args:
        folder: the folder of the run.
        patterns: shell globs of the files in it, in the order in which they are removed. Files that describe others
            come first.
        keep: the paths of files that stay, as the run begins with them.
    """
    kept = {os.path.realpath(path) for path in keep}
    for pattern in patterns:
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), pattern))):
            if os.path.realpath(path) not in kept:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)


def names_digest(sets: Iterable[Images]) -> str:
    """SHA-256 of the names of sets of images: what tells whether a run that was interrupted is on the same ones."""
    names = json.dumps([list(images.names) for images in sets])
    return hashlib.sha256(names.encode("utf-8", "surrogatepass")).hexdigest()


def truths_digest(sets: Iterable[PlaceDataset]) -> str:
    """SHA-256 of the ground truths of data sets: what images of the same names are known to show."""
    digest = hashlib.sha256()
    for dataset in sets:
        for field in dataclasses.fields(dataset.truth):
            value = getattr(dataset.truth, field.name)
            parts = [value.values, value.offsets, value.rows] if isinstance(value, IndexLists) else [value]
            for part in map(np.asarray, parts):
                digest.update(f"{field.name} {part.dtype} {part.shape} ".encode())
                digest.update(repr(part.tolist()).encode() if part.dtype == object else part.tobytes())
    return digest.hexdigest()
