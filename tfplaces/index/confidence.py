"""How sure an answer is: the probability that a photo's best match shows its place, from the scores of its matches.

Two numbers tell it: the score of the best match, and by how much it is ahead of the best match of another place. Their
logistic regression is fitted on queries whose places are known, and stored in the index.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets.positions import to_earth_centred
from tfplaces.index.place import Place

# The key of the setting, and how many matches are looked at for one of another place.
SETTING, LOOKED_AT = "confidence", 50
# Photos nearer to each other show one place, metres.
_APART = 25.0
# From this probability on an answer is one to rely on: it is rather right than wrong.
KNOWN = 0.5
# Answers of either kind that a regression needs at least.
_LEAST = 5


class TooFewError(UserError):
    """There are too few right or wrong answers to learn from."""


@dataclasses.dataclass(frozen=True)
class Confidence:
    """A fitted logistic regression: probability = 1 / (1 + exp(−(score · w₁ + lead · w₂ + bias))).

    Attributes:
        score: the weight of the best match's score.
        lead: the weight of its lead over the best match of another place.
        bias: the constant.
        queries: how many queries it was fitted on.
        dataset: their data set.
    """

    score: float
    lead: float
    bias: float
    queries: int
    dataset: str

    def probability(self, score: float, lead: float) -> float:
        """The probability that the best match is right, 0 to 1."""
        return 1 / (1 + math.exp(-min(max(self.score * score + self.lead * lead + self.bias, -700.0), 700.0)))

    def to_json(self) -> dict[str, Any]:
        """As it is stored in an index."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Any) -> Self | None:
        """What `to_json` gave; None where there is nothing.

        Raises:
            UserError: it is something else. It may come from a stranger.
        """
        if stored is None:
            return None
        kinds = {"score": float, "lead": float, "bias": float, "queries": int, "dataset": str}
        if not isinstance(stored, dict) or {key: type(value) for key, value in stored.items()} != kinds:
            raise UserError(f"it is damaged: its setting {SETTING} is none")
        return cls(**stored)


def fit_confidence(scores: np.ndarray, leads: np.ndarray, right: np.ndarray, dataset: str) -> Confidence:
    """Fits the regression, lightly regularised.

    Args:
        scores: of the best match of each query, `[n]`.
        leads: over the best match of another place, `[n]`.
        right: whether the best match shows the query's place, bool `[n]`.
        dataset: what they are of.

    Raises:
        TooFewError: there are fewer than five right or five wrong answers to learn from.
    """
    from sklearn.linear_model import LogisticRegression

    if min(right.sum(), len(right) - right.sum()) < _LEAST:
        raise TooFewError(
            f"{dataset}: {right.sum():,} of the best matches of {len(right):,} queries are right; at least {_LEAST} "
            f"right and {_LEAST} wrong ones are needed to learn from"
        )
    features = np.stack([scores, leads], axis=1).astype(np.float64)
    middle, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    fitted = LogisticRegression(C=10.0).fit((features - middle) / spread, right)
    weights = fitted.coef_[0] / spread
    bias = float(fitted.intercept_[0] - weights @ middle)
    return Confidence(float(weights[0]), float(weights[1]), bias, len(right), dataset)


def lead_of(places: Sequence[Place], scores: np.ndarray) -> float:
    """By how much the best match is ahead of the best one of another place; of the last one where all are one place.

    Args:
        places: the matches, best first, at least one.
        scores: of each.
    """
    other = next((rank for rank, place in enumerate(places) if rank and _differ(places[0], place)), len(places) - 1)
    return float(scores[0] - scores[other])


def _differ(first: Place, second: Place) -> bool:
    """Whether two photos show different places, as far as the index knows."""
    if first.group is not None and first.group == second.group:
        return False
    ours, theirs = _position(first), _position(second)
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return True
    return float(np.linalg.norm(ours - theirs)) > _APART


def _position(place: Place) -> np.ndarray | None:
    if place.latitude is not None and place.longitude is not None:
        return to_earth_centred(np.array([place.latitude]), np.array([place.longitude]))[0]
    return None if place.easting is None else np.array([place.easting, place.northing])
