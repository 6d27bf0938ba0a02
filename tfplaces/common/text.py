"""Text for people: what strangers named, made safe to print."""

from __future__ import annotations

import re
import unicodedata

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


def printable_name(text: str) -> str:
    """A name, or another piece of a message, in printable characters on one line.

    Unlike `printable`, which is for whole texts, it leaves no line end, tab or colour: they become escapes, as does
    whatever changes the direction of writing; bytes of a file name that are no UTF-8 become `\\xe9`. Letters of every
    script, accents and emoji stay as they are.
    """
    return "".join(_escaped_in_name(c) if _is_unprintable(c) else c for c in text)


def printable_reason(error: BaseException) -> str:
    """What a library's error says, at most 200 printable characters on one line; its type where it says nothing."""
    return printable_name(str(error))[:200] or type(error).__name__


def _is_unprintable(character: str) -> bool:
    # Zero-width joiners belong to the writing of several languages, and to emoji.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\u200c\u200d"


def _escaped_in_name(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte, as os.fsdecode() writes what is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return _escaped(character)
