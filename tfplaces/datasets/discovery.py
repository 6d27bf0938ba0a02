"""Which files of a folder are images, and which file is meant by a name that another system wrote."""

from __future__ import annotations

import collections
import dataclasses
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.image_kinds import EXTENSIONS, advice_for

# Bounds what links that lead to each other can make of a few folders.
_MAX_FOLDERS = 1_000_000

# Files that nobody takes for images: lists, tables, notes, and what systems and programs leave in folders.
_NO_IMAGES = frozenset((
    ".txt", ".md", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".xmp", ".html", ".htm", ".yaml", ".yml", ".toml",
    ".ini", ".log", ".pdf", ".db", ".lnk", ".url", ".py", ".m", ".sh", ".mat", ".npy", ".npz", ".h5", ".pkl", ".zip",
    ".tar", ".gz", ".keras", ".places", ".tflite", ".tflpack", ".index",
))  # fmt: skip


class MissingImagesError(UserError):
    """Images that a list names are not there; the message says how many, and which is the first."""


@dataclasses.dataclass(frozen=True)
class FoundImages:
    """The images of a folder.

    Attributes:
        names: file names relative to the folder, sorted, with `/` between folders on every system.
        left_out: how many files or links were left out, by the reason.
    """

    names: list[str]
    left_out: dict[str, int]

    @property
    def note(self) -> str:
        """What was left out and why, as one line; empty if nothing was."""
        if not self.left_out:
            return ""
        reasons = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons[:8])
        rest = sum(count for _, count in reasons[8:])
        return f"left out: {listed}" + (f", {rest} of other kinds" if rest else "")


def find_images(folder: str | os.PathLike) -> FoundImages:
    """The images in a folder and all folders below it, known by their endings in upper or lower case.

    Links to files and folders are followed; one that leads back to a folder above it is not. Hidden files and folders
    (`.name`) are skipped, as are files that nobody takes for images, such as `.txt`; whatever else is there and is
    not read is counted in `left_out`.

    Raises:
        UserError: no such folder, or a folder that may not be listed.
    """
    names, left_out = [], collections.Counter[str]()
    for name, mode in _walk(os.fsdecode(folder), left_out.update):
        ending = os.path.splitext(name)[1].lower()
        if ending in EXTENSIONS:
            if stat.S_ISREG(mode):
                names.append(name)
            else:
                left_out["that are no regular files"] += 1
        elif ending not in _NO_IMAGES and stat.S_ISREG(mode):
            advice = advice_for(ending)
            left_out[(printable_name(ending[:20]) or "without an ending") + (f" ({advice})" if advice else "")] += 1
    return FoundImages(sorted(names), dict(left_out))


def _walk(root: str, leave_out: Callable[[list[str]], None]) -> Iterator[tuple[str, int]]:
    """Yields the name and mode of what lies in a folder and below and is no folder; hidden names are skipped.

    Args:
        root: the folder.
        leave_out: is called with a list of one reason for each link that is not followed.
    """
    above: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    visited = 0
    while above:
        prefix, ancestors = above.pop()
        folder = os.path.join(root, prefix[:-1]) if prefix else root
        visited += 1
        if visited > _MAX_FOLDERS:
            raise UserError(f"{printable_name(root)}: more than {_MAX_FOLDERS:,} folders; do links lead to each other?")
        try:
            status = os.stat(folder)
            here = (status.st_dev, status.st_ino)
            if here in ancestors:
                leave_out(["links back to a folder above"])
                continue
            entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        except FileNotFoundError:
            raise UserError(f"{printable_name(folder)}: no such folder") from None
        except OSError as error:
            raise UserError(f"{printable_name(folder)}: cannot be listed as a folder ({error.strerror})") from None
        for entry in entries:
            try:
                mode = entry.stat().st_mode
            except OSError:
                leave_out(["links that lead nowhere"])
                continue
            if stat.S_ISDIR(mode):
                above.append((f"{prefix}{entry.name}/", ancestors | {here}))
            else:
                yield prefix + entry.name, mode


def resolve_names(
    folder: str | os.PathLike, names: Sequence[str], source: str, lines: Sequence[int] | None = None
) -> list[str]:
    """The files of a folder that names mean, which may have been written on another system.

    A name that is no file as it stands is looked up with `/` for a backslash and without `./`, then in any Unicode
    form (macOS writes é as two characters), then in upper or lower case. Only one file may match.

    Args:
        folder: what the names are relative to.
        names: names as they are listed.
        source: the file that lists them, for messages.
        lines: the line of each in that file, for messages.

    Returns:
        For each name that of the file, relative to the folder, with `/` between folders.

    Raises:
        MissingImagesError: files are missing.
        UserError: a name is absolute or points outside the folder, is no regular file or could mean several; or a
            file is listed twice, under one name or two.
    """
    root = os.fsdecode(folder)
    lookup = _Lookup(root, source)
    found: list[str] = []
    written: dict[str, str] = {}
    missing: list[str] = []
    missing_lines: list[str] = []
    for number, name in enumerate(names):
        file = lookup(name)
        if file is None:
            missing.append(name)
            if lines is not None:
                missing_lines.append(str(lines[number]))
            continue
        if file in written:
            both = f"{printable_name(written[file])} and {printable_name(name)} are one file"
            raise UserError(
                f"{source}: {both if written[file] != name else printable_name(name) + ' is there twice'}; list it once"
            )
        written[file] = name
        found.append(file)
    if missing:
        first = printable_name(missing[0])
        if os.path.exists(os.path.join(root, missing[0])):
            raise UserError(f"{source}: {first} is no regular file under {printable_name(root)}")
        raise MissingImagesError(
            f"{source}: {len(missing)} of {len(names)} images missing under {printable_name(root)}, first: {first}"
            + (f"; lines {', '.join(missing_lines[:1000])}" if missing_lines else "")
        )
    return found


def points_outside(name: str) -> bool:
    """Whether a name is no name within a folder, on this system or another: absolute, on a drive, or with `..`."""
    parts = name.replace("\\", "/").split("/")
    drive = len(parts[0]) == 2 and parts[0][1] == ":" and parts[0][0].isalpha()
    return name.startswith(("/", "\\")) or drive or ".." in parts or os.path.isabs(name)


class _Lookup:
    """Finds the file that a name means; the folder is listed only once a name is no file as it stands."""

    def __init__(self, root: str, source: str):
        self._root, self._source = root, source
        self._by_form: dict[str, list[str]] | None = None
        self._by_letters: dict[str, list[str]] = {}

    def __call__(self, name: str) -> str | None:
        self._check(name)
        plain = _plain(name)
        for candidate in dict.fromkeys((_plain(name, backslash=False), plain)):
            if candidate and os.path.isfile(os.path.join(self._root, candidate)):
                return candidate
        if self._by_form is None:
            self._list()
        assert self._by_form is not None
        form = unicodedata.normalize("NFC", plain)
        for files in (self._by_form.get(form), self._by_letters.get(_letters(form))):
            if files and len(files) > 1:
                shown, first, second, root = map(printable_name, (name, *files[:2], self._root))
                raise UserError(
                    f"{self._source}: {shown} could be {first} or {second} under {root}; write the one that is meant"
                )
            if files:
                return files[0]
        return None

    def _check(self, name: str) -> None:
        """Refuses what is no name of a file inside the folder, on this system or another."""
        shown = printable_name(name)
        if points_outside(name):
            raise UserError(f"{self._source}: {shown} points outside {printable_name(self._root)}")
        try:
            encodable = name != "" and b"\0" not in os.fsencode(name)
        except UnicodeEncodeError:
            encodable = False
        if not encodable:
            raise UserError(f"{self._source}: no file can have the name {shown!r}")

    def _list(self) -> None:
        self._by_form = {}
        for name, mode in _walk(self._root, lambda reasons: None):
            if stat.S_ISREG(mode):
                form = unicodedata.normalize("NFC", name)
                self._by_form.setdefault(form, []).append(name)
                self._by_letters.setdefault(_letters(form), []).append(name)


def _plain(name: str, backslash: bool = True) -> str:
    """A name without `./` and doubled slashes, and, unless told otherwise, with `/` for each backslash."""
    parts = (name.replace("\\", "/") if backslash else name).split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _letters(form: str) -> str:
    """One spelling for all spellings of a name in upper and lower case letters."""
    return unicodedata.normalize("NFC", form.casefold())
