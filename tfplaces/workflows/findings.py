"""Findings about a data set, one line each, and the verdict on all of them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from tfplaces.common.text import printable_name

# What a finding means: nothing is wrong; to be known; wrong.
OK, NOTE, WRONG = "ok", "note", "WRONG"

# So many of the images that a finding is about are listed in JSON, and so many in its line.
LISTED, _SHOWN = 1000, 3


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line about a data set.

    Attributes:
        check: what was looked at.
        level: `OK`, `NOTE` or `WRONG`.
        text: what was found, in one line.
        images: the names of what it is about, a thousand at most.
    """

    check: str
    level: str
    text: str
    images: tuple[str, ...] = ()


def names_at(names: Sequence[str], indices: np.ndarray) -> list[str]:
    """The names of some images."""
    return [names[i] for i in indices.tolist()]


def about(check: str, names: Sequence[str], text: str, level: str = WRONG) -> Finding:
    """A finding about some images, whose number stands for `{}`; none is no fault."""
    if not names:
        return Finding(check, OK, "none")
    return Finding(check, level, f"{text.format(f'{len(names):,}')}: {listed(names)}", tuple(names[:LISTED]))


def listed(names: Sequence[str]) -> str:
    """The first names, for a line."""
    shown = ", ".join(map(printable_name, names[:_SHOWN]))
    return shown + (", …" if len(names) > _SHOWN else "")


def format_findings(findings: Sequence[Finding]) -> str:
    """The findings as lines of a table, and the verdict."""
    width = max(len(finding.check) for finding in findings)
    lines = [f"{finding.level:<5}  {finding.check:<{width}}  {finding.text}" for finding in findings]
    return "\n".join([*lines, "", verdict(findings)])


def verdict(findings: Sequence[Finding]) -> str:
    """The sentence that sums up the findings."""
    counts = collections.Counter(finding.level for finding in findings)
    wrong = [finding.check for finding in findings if finding.level == WRONG]
    if not wrong:
        return "sound: nothing is wrong" + (f" (notes: {counts[NOTE]})" if counts[NOTE] else "")
    return f"not sound: {', '.join(dict.fromkeys(wrong))}"
