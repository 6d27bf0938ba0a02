"""How sure an answer is: what is fitted, what is stored, and which match is one of another place."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.index import Place
from tfplaces.index.confidence import Confidence, TooFewError, fit_confidence, lead_of


def test_probabilities_are_those_by_which_the_answers_were_drawn() -> None:
    rng = np.random.default_rng(0)
    true = Confidence(4.0, 10.0, -3.0, 0, "")
    scores, leads = rng.uniform(0, 1, 4000), rng.exponential(0.1, 4000)
    truth = np.array([true.probability(s, lead) for s, lead in zip(scores, leads, strict=True)])
    fitted = fit_confidence(scores, leads, rng.uniform(size=4000) < truth, "drawn")
    found = np.array([fitted.probability(s, lead) for s, lead in zip(scores, leads, strict=True)])
    assert np.abs(found - truth).max() < 0.1 and np.abs(found - truth).mean() < 0.02  # 4000 draws
    assert Confidence.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    assert (fitted.queries, fitted.dataset) == (4000, "drawn")


def test_any_scores_give_a_probability() -> None:
    steep = Confidence(1e300, -1e300, 0.0, 1, "")
    assert [steep.probability(s, 0.0) for s in (-1.0, 0.0, 1.0)] == [pytest.approx(0), 0.5, pytest.approx(1)]


def test_too_few_to_learn_from() -> None:
    with pytest.raises(TooFewError, match="toy: 96 of the best matches of 100 queries are right"):
        fit_confidence(np.zeros(100), np.zeros(100), np.arange(100) > 3, "toy")


@pytest.mark.parametrize(
    "stored", [3, [], {}, {"score": 1.0}, {**Confidence(1.0, 1.0, 1.0, 1, "").to_json(), "bias": "x"}]
)
def test_a_strangers_setting(stored: Any) -> None:
    with pytest.raises(UserError, match="its setting confidence is none"):
        Confidence.from_json(stored)


@pytest.mark.parametrize(
    ("others", "lead"),
    [
        ([Place("b"), Place("c")], 0.1),  # nothing is known: any other photo
        ([Place("b", group="x"), Place("c", group="y")], 0.3),
        ([Place("b", group="x"), Place("c", group="x")], 0.3),  # none: the last one
        ([Place("b", 52.0, 0.0001), Place("c", 52.0, 0.001)], 0.3),  # 7 m and 69 m away
    ],
)
def test_the_lead_is_over_another_place(others: list[Place], lead: float) -> None:
    first = Place("a", 52.0, 0.0, group="x" if others[0].group else None)
    assert lead_of([first, *others], np.array([0.9, 0.8, 0.6])) == pytest.approx(lead)
    assert lead_of([first], np.array([0.9])) == 0
