"""Images that a ground truth lists by name: where they lie, and how many of them there are."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.images import ImageFiles

# So many of the names are looked for in each folder where the images may lie.
_PROBES = 64


def listed_images(
    source: str, what: str, names: Sequence[str], folders: Sequence[str], endings: Sequence[str] = ()
) -> tuple[ImageFiles, tuple[str, ...]]:
    """Finds the images that a ground truth lists.

    An image that is missing is still in the list, so that what can be done without it (the counts, a look at the ground
    truth, scores of descriptors from elsewhere) is done; reading it raises UserError.

    Args:
        source: the file that lists them, for messages.
        what: what they are, for messages: `database images` or `queries`.
        names: paths relative to one of the folders, as they are listed.
        folders: where they may lie. The one that has the most of them is taken, the first of several.
        endings: what the files may end in instead, such as `.png`, as the published archives do not keep to their own
            lists.

    Returns:
        The images, and a note of how many are missing, if any are.

    Raises:
        UserError: a name points outside the folder, or can be the name of no file.
    """
    names = [checked_name(source, name) for name in names]
    probes = names[:: max(1, len(names) // _PROBES)]
    there = _Folders()
    ways = [(folder, ending) for folder in folders for ending in ("", *endings)]
    # Where there are none at all, a folder that is there is named in the note.
    folder, ending = max(
        ways,
        key=lambda way: (sum(there.has(way[0], _ending(name, way[1])) for name in probes), os.path.isdir(way[0])),
    )
    found = [_ending(name, ending) for name in names]
    missing = [name for name in found if not there.has(folder, name)]
    return ImageFiles(folder, found), missing_note(what, found, missing, folder)


def missing_note(what: str, names: Sequence[str], missing: Sequence[str], folder: str) -> tuple[str, ...]:
    """A note of how many images are missing, if any are.

    Args:
        what: what they are: `database images` or `queries`.
        names: all of them.
        missing: those that are not there.
        folder: where they should be.
    """
    if not missing:
        return ()
    where, first = printable_name(folder), printable_name(missing[0])
    return (f"{len(missing):,} of {len(names):,} {what} are missing under {where}, first: {first}",)


def checked_name(source: str, name: str) -> str:
    """A listed name with `/` between folders and without `./`.

    Raises:
        UserError: it points outside the folder that it is relative to, or can be the name of no file.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    outside = name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in parts
    if outside or not parts or any(character < " " or "\ud800" <= character <= "\udfff" for character in name):
        raise UserError(f"{source}: '{printable_name(name[:200])}' is no name of a file inside the folder of images")
    return "/".join(parts)


def counts_note(queries: int, database: int, published: tuple[int, int] | None) -> str:
    """How many queries and database images were read, beside the published numbers of both where there are any."""
    if published is None:
        return f"{queries:,} queries and {database:,} database images"
    return f"{queries:,} of {published[0]:,} queries and {database:,} of {published[1]:,} database images"


def _ending(name: str, ending: str) -> str:
    return os.path.splitext(name)[0] + ending if ending else name


class _Folders:
    """Tells which files there are; each folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[str, frozenset[str]] = {}

    def has(self, root: str, name: str) -> bool:
        """Whether a folder has a file of that name, relative to it."""
        folder, _, base = name.rpartition("/")
        folder = os.path.join(root, folder)
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(folder))
            except (OSError, ValueError):  # no such folder
                self._listed[folder] = frozenset()
        return base in self._listed[folder]
