"""How sure an answer is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.index.probability import Calibration, fit_calibration, lead

KNOWN = Calibration(2.0, 3.0, -1.0, 0.5, "folder:town", 100)


def test_probability_is_the_logistic_function() -> None:
    found = KNOWN.probability(np.array([0.5, 0.2, 1e9, -1e9]), np.array([0.0, 0.2, 0, 0]))
    np.testing.assert_allclose(found, [0.5, 1 / (1 + np.exp(0.0)), 1, 0], atol=1e-12)


def test_what_is_learned_is_calibrated() -> None:
    """Photos are right by a probability that is logistic, so that what is learned can be compared with it."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    scores, gaps = rng.uniform(0.2, 0.9, 4000), rng.uniform(0, 0.3, 4000)
    truth = 1 / (1 + np.exp(-(6 * scores + 20 * gaps - 5)))
    fitted = fit_calibration(scores, gaps, rng.random(4000) < truth, "folder:town")
    assert (fitted.photos, fitted.fitted_on) == (4000, "folder:town")
    assert np.abs(fitted.probability(scores, gaps) - truth).mean() < 0.02
    assert Calibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_nothing_is_learned_from_too_few() -> None:
    right = np.arange(30) < 9
    with pytest.raises(UserError, match="of 30 photos 9 are found"):
        fit_calibration(np.ones(30), np.ones(30), right, "folder:town")


@pytest.mark.parametrize(
    "change",
    [{"score": "x"}, {"gap": None}, {"offset": 1e300}, {"threshold": 2}, {"photos": 1.5}, {"fitted_on": 3},
     {"more": 1}, {"score": True}, {"gap": float("nan")}],
)  # fmt: skip
def test_settings_that_are_no_calibration_are_refused(change: dict) -> None:
    assert Calibration.from_json(KNOWN.to_json()) == KNOWN
    with pytest.raises(UserError, match="it is damaged"):
        Calibration.from_json(KNOWN.to_json() | change)
    with pytest.raises(UserError, match="it is damaged"):
        Calibration.from_json([change])


def test_the_lead_is_over_another_place() -> None:
    scores = np.array([0.9, 0.8, 0.6, 0.5])
    assert lead(scores) == pytest.approx(0.1)
    assert lead(scores, np.array([4, 4, 7, -1])) == pytest.approx(0.3)
    assert lead(scores, np.array([-1, -1, 7, -1])) == pytest.approx(0.1)  # of no group: nothing is known of them
    metres = np.array([[0, 0], [0, 25], [np.nan, np.nan], [0, 26]])
    assert lead(scores, None, metres) == pytest.approx(0.3)
    assert lead(scores, np.zeros(4, int), metres) == pytest.approx(0.4)  # all one place: as far as is seen
    assert lead(scores[:1]) == 0
