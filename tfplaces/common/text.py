"""Text for people: what strangers named, made safe to print."""

from __future__ import annotations

import re

# Colours are left alone: Keras's progress bars have them, and they do no harm.
_COMMANDS = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with backslash escapes in place of what would command a terminal or cannot be encoded.

    Line feeds, tabs, carriage returns and colours stay; other control characters, marks that reverse the direction of
    writing, and the surrogates that stand for bytes of a file name that is no UTF-8 are written out, as in `\\x1b`.
    """
    return _COMMANDS.sub(lambda found: found[0] if found[0].endswith("m") else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
