"""How probable it is that the best match of a photo is right, learned from photos of which that is known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Self

import numpy as np

from tfplaces.common.errors import UserError

# Photos of either kind, right and wrong, below which nothing is learned from them.
MIN_PHOTOS = 10
# Two places that are no further apart are one, metres.
SAME_METRES = 25.0
_FIELDS = {"score", "gap", "offset", "threshold", "fitted_on", "photos"}


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A logistic regression on the score of the best match and its lead over the best match of another place.

    It holds for photos like those that it was learned from, of the same region, model and codec: on other regions the
    mean probability was measured to be as much as 39 points away from the share of right answers.

    Attributes:
        score: the weight of the best match's score.
        gap: the weight of its lead.
        offset: what is added.
        threshold: the probability from which on the place counts as known, 0 to 1.
        fitted_on: the photos that it was learned from, as their data set is written.
        photos: how many they were.
    """

    score: float
    gap: float
    offset: float
    threshold: float
    fitted_on: str
    photos: int

    def probability(self, scores: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        """The probabilities that best matches are right, float64 `[n]`, 0 to 1.

        Args:
            scores: of the best matches, floats `[n]`.
            gaps: their leads, as `lead` gives them, floats `[n]`.
        """
        total = self.score * np.asarray(scores, np.float64) + self.gap * np.asarray(gaps, np.float64) + self.offset
        return 1 / (1 + np.exp(-np.clip(total, -700, 700)))

    def to_json(self) -> dict[str, Any]:
        """It as types of JSON, to be a setting of an index."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The calibration of a setting, which may be a stranger's.

        Raises:
            UserError: it is none.
        """
        if not isinstance(value, dict) or set(value) != _FIELDS:
            raise UserError("it is damaged: its calibration has other fields than one has")
        numbers = [value[name] for name in ("score", "gap", "offset", "threshold")]
        for number in numbers:
            if type(number) not in (int, float) or not math.isfinite(number) or abs(number) > 1e9:
                raise UserError("it is damaged: a number of its calibration is out of range")
        if not 0 <= value["threshold"] <= 1 or type(value["fitted_on"]) is not str or type(value["photos"]) is not int:
            raise UserError("it is damaged: its calibration is none")
        score, gap, offset, threshold = map(float, numbers)
        return cls(score, gap, offset, threshold, value["fitted_on"], value["photos"])


def fit_calibration(
    scores: np.ndarray, gaps: np.ndarray, right: np.ndarray, fitted_on: str, threshold: float = 0.5
) -> Calibration:
    """Learns how probable it is that best matches are right. It needs scikit-learn.

    Args:
        scores: of the best match of each photo, floats `[n]`.
        gaps: its lead, floats `[n]`.
        right: whether it is right, bool `[n]`.
        fitted_on: how the data set of the photos is written.
        threshold: the probability from which on a place counts as known.

    Raises:
        UserError: too few are right, or too few are wrong.
    """
    count, good = len(right), int(np.sum(right))
    if min(good, count - good) < MIN_PHOTOS:
        raise UserError(
            f"{fitted_on}: of {count:,} photos {good:,} are found; at least {MIN_PHOTOS} that are and {MIN_PHOTOS} "
            "that are not are needed to learn how sure an answer is"
        )
    from sklearn.linear_model import LogisticRegression

    features = np.stack([scores, gaps], axis=1).astype(np.float64)
    means, deviations = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    model = LogisticRegression(C=1.0).fit((features - means) / deviations, np.asarray(right, bool))
    weights = model.coef_[0] / deviations
    offset = float(model.intercept_[0] - weights @ means)
    return Calibration(float(weights[0]), float(weights[1]), offset, threshold, fitted_on, count)


def lead(scores: np.ndarray, groups: np.ndarray | None = None, positions: np.ndarray | None = None) -> float:
    """How far the best match of a photo is ahead of the best match that is another place.

    Args:
        scores: of the matches, best first, floats `[n]`; the more there are, the surer another place is among them.
        groups: the group of each, int64 `[n]`, -1 for none; those of the best match's are the same place.
        positions: of each in metres, `[n, d]`, NaN where it is not known; within 25 m it is the same place.

    Returns:
        the difference of the scores. Where all matches are one place, that to the last of them, which is the least
        that the lead can be; 0 where there is one match only.
    """
    other = np.arange(len(scores)) > 0
    if groups is not None and groups[0] >= 0:
        other &= groups != groups[0]
    if positions is not None:
        # Of a position that is not known nothing follows.
        other &= ~(np.linalg.norm(positions - positions[0], axis=1) <= SAME_METRES)
    found = np.flatnonzero(other)
    return float(scores[0] - scores[found[0] if len(found) else len(scores) - 1])
