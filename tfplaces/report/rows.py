"""The rows of the report's table, each a stage of a network, and the sentence that sums them up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """A model file and what was measured on it.

    Attributes:
        name: the name of the stage.
        map: mean average precision, 0 to 100.
        recall1: recall at 1, 0 to 100.
        drop: points of mAP lost against the float network; negative is a gain.
        pruned: zero kernel weights as a percentage of all parameters.
        bytes: the size of the whole file.
        ratio: bytes of the parameters in float32 over the bytes of the file.
        ms: median latency in milliseconds of one image at batch 1 on one thread.
        drop_interval: the 95 % interval of the drop, as `tfplaces.evaluation.bootstrap.drop_interval` gives it; None
            where it is not known, as of the float network itself.
    """

    name: str
    map: float
    recall1: float
    drop: float
    pruned: float
    bytes: int
    ratio: float
    ms: float
    drop_interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The row in plain JSON types."""
        return {**dataclasses.asdict(self), "drop_interval": self.drop_interval and list(self.drop_interval)}


def summary(rows: Sequence[Row]) -> str:
    """The sentence that sums up the rows: it names the smallest one within one point of mAP of the float network.

    Judged by the numbers as the table shows them; a row of about the float network's size does not count as smaller. A
    change of mAP counts as one only where the 95 % interval of the drop leaves no doubt of its sign.
    """
    winner = best_of_the_smaller(rows)
    if winner is None:
        best = max(rows, key=lambda row: row.map)
        return f"{best.name} reaches {best.map:.1f} mAP; nothing here is smaller than float32."
    drop = round(winner.drop, 1) + 0.0
    smaller = f"{winner.name} is {winner.ratio:.1f}x smaller than float32"
    interval = ""
    if winner.drop_interval:
        low, high = winner.drop_interval
        interval = f" (95 % interval {interval_text(winner.drop_interval)})"
        if low <= 0 <= high and drop <= 1:
            return f"{smaller}; its drop of {drop:.1f} points of mAP{interval} may be chance."
    if drop > 1:
        return f"{smaller} but loses {drop:.1f} points of mAP{interval}; nothing smaller is within one point."
    if drop > 0:
        return f"{smaller} and loses {drop:.1f} points of mAP{interval}."
    if interval and drop < 0:
        return f"{smaller} and gains {-drop:.1f} points of mAP{interval}."
    return f"{smaller} and loses no mAP."


def interval_text(interval: tuple[float, float] | None) -> str:
    """The interval of a drop with one decimal, as in `-0.8 to 1.5`; nothing where there is none."""
    return "" if interval is None else " to ".join(f"{round(bound, 1) + 0.0:.1f}" for bound in interval)


def best_of_the_smaller(rows: Sequence[Row]) -> Row | None:
    """The smallest row within one point, or else the one that loses least, of those smaller than the float network."""
    smaller = [row for row in rows if round(row.ratio, 1) > 1]
    close = [row for row in smaller if round(row.drop, 1) <= 1]
    if close:
        return min(close, key=lambda row: row.bytes)
    return min(smaller, key=lambda row: row.drop, default=None)
