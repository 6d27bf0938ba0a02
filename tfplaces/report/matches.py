"""The sheet of answers: photos, and the places that an index finds for them."""

from __future__ import annotations

import contextlib
import importlib.resources
import io
import os
import string
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np
from PIL import Image

from tfplaces.common.files import replacing
from tfplaces.common.text import printable_name
from tfplaces.report.retrievals import tile
from tfplaces.report.tables import escape

_BODY = "$sections"


class MatchSheet:
    """Takes photos with their matches; `writing_sheet` makes one."""

    def __init__(self, file: IO[str]):
        self._file = file

    def add(self, photo: np.ndarray, name: str, matches: Sequence[tuple[bytes | None, str]], said: str = "") -> None:
        """Shows a photo with its matches, the best first.

        Args:
            photo: uint8 `[height, width, 3]`.
            name: of the photo.
            matches: of each a small JPEG, or None, and what stands below it.
            said: what is said of the photo beside its name.
        """
        shown = escape(printable_name(name))
        tiles = [tile(photo, "query", f"photo {shown}", "photo")]
        for rank, (thumbnail, caption) in enumerate(matches, 1):
            text = f"{rank} · {escape(printable_name(caption))}"
            picture = None if thumbnail is None else _picture(thumbnail)
            if picture is None:
                tiles.append(f"<figure><figcaption>{text}</figcaption></figure>")
            else:
                tiles.append(tile(picture, "match", f"match {rank} of {shown}", text))
        heading = f"<h3>{shown} <span>{escape(said)}</span></h3>"
        self._file.write(f'<article>{heading}<div class="tiles">{"".join(tiles)}</div></article>\n')


@contextlib.contextmanager
def writing_sheet(path: str | os.PathLike, title: str, facts: Sequence[tuple[str, str]]) -> Iterator[MatchSheet]:
    """Writes a page of photos with their matches, one HTML file that needs nothing else; it appears whole or not.

    Args:
        path: the HTML file.
        title: the heading.
        facts: what the reader should know, each a name and a value.
    """
    resources = importlib.resources.files("tfplaces.report")
    page = string.Template((resources / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=(resources / "page.css").read_text(encoding="utf-8"),
        summary="Each photo, and the places that are most similar to it, the best first.",
        facts="".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts),
        sections=_BODY,
    )
    before, _, after = page.partition(_BODY)
    with (
        replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        file.write(f"{before}<section>\n<h2>Photos</h2>\n")
        yield MatchSheet(file)
        file.write(f"</section>{after}")


def _picture(jpeg: bytes) -> np.ndarray | None:
    """The pixels of a thumbnail; None where it is none, for it may come from a stranger."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            if max(image.size) > 4096:
                return None
            return np.asarray(image.convert("RGB"))
    except Exception:  # Pillow raises many kinds of errors for damaged files
        return None
