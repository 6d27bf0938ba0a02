"""The loss of training tuples: worked by hand, by loops, by the authors' gradient, and in a user's `fit`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.layers import L2Normalization
from tfplaces.losses import TupleTripletLoss

QUERY, POSITIVE, NEGATIVE = 0, 1, 2


def unit(n: int, dim: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def by_loops(targets: np.ndarray, x: np.ndarray, margin: float, squared: bool, mean_over: str) -> float:
    """Equation 7, triplet by triplet."""
    x = x.astype(np.float64)
    hinges = []
    for q, (number, role) in enumerate(targets):
        if role != QUERY:
            continue
        distance = np.square(x[q] - x).sum(1) if squared else np.sqrt(np.square(x[q] - x).sum(1))
        own = [k for k, (other, _) in enumerate(targets) if other == number]
        to_positives = [distance[k] for k in own if targets[k][1] == POSITIVE]
        if to_positives:
            hinges += [max(0, margin + min(to_positives) - distance[k]) for k in own if targets[k][1] == NEGATIVE]
    count = len(hinges) if mean_over == "negatives" else sum(hinge > 0 for hinge in hinges)
    return sum(hinges) / max(count, 1)


# A query at 0 degrees, its positive at ‖q − p‖² = 2 − 2 · 0.8 = 0.4, negatives at 2 − 2 · 0.6 = 0.8 and at
# 2 − 2 · 0.96 = 0.08; and a tuple of a second query whose positive is the query itself and whose negative is opposite.
TARGETS = np.array([[0, 0], [0, 1], [0, 2], [0, 2], [1, 0], [1, 1], [1, 2]])
VECTORS = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0.96, 0.28], [0, 1], [0, 1], [0, -1]], np.float32)


@pytest.mark.parametrize(
    "options, expected",
    [
        # 0.1 + 0.4 − 0.08 = 0.42 is the only hinge above 0, of three triplets.
        ({}, 0.42),
        ({"mean_over": "negatives"}, 0.14),
        # 0.5 + 0.4 − 0.8 = 0.1 and 0.5 + 0.4 − 0.08 = 0.82; the second tuple's is 0.5 + 0 − 4 < 0.
        ({"margin": 0.5}, 0.46),
        # √0.4 = 0.632456, √0.8 = 0.894427, √0.08 = 0.282843, and m = √0.1 = 0.316228: 0.054257 and 0.665841.
        ({"margin": 0.1**0.5, "squared": False}, 0.360049),
        ({"margin": 0.1**0.5, "squared": False, "mean_over": "negatives"}, 0.240032),
    ],
)
def test_worked_values(options: dict, expected: float) -> None:
    assert float(TupleTripletLoss(**options)(TARGETS, VECTORS)) == pytest.approx(expected, abs=1e-6)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=14),
    st.sampled_from([0.0, 0.1, 1.5]),
    st.booleans(),
    st.sampled_from(["violating", "negatives"]),
)
def test_equals_the_loops(targets: list, margin: float, squared: bool, mean_over: str) -> None:
    """For any tuples, without a query, with several, without a positive, in any order."""
    x = unit(len(targets), 5, len(targets))
    loss = TupleTripletLoss(margin, squared, mean_over)
    expected = by_loops(np.array(targets), x, margin, squared, mean_over)
    assert float(loss(np.array(targets), x)) == pytest.approx(expected, abs=1e-5)


def test_the_gradient_is_that_of_the_authors_code() -> None:
    """trainWeakly.m: of the query 2(Σn − kp), of the positive 2k(p − q), of a violating negative 2(q − n).

    The batch's sum is divided by the number of its violating triplets.
    """
    targets = np.array([[t, r] for t, rs in enumerate([[0, 1, 2, 2, 2], [0, 1, 2, 2]]) for r in rs])
    x = unit(9, 6, 3)
    margin = 0.4
    expected, violating = np.zeros_like(x), 0
    for rows in (np.arange(5), np.arange(5, 9)):
        q, p, negatives = rows[0], rows[1], rows[2:]
        squared = np.square(x[q] - x).sum(1)
        bad = negatives[squared[negatives] < squared[p] + margin]
        violating += len(bad)
        expected[q] = 2 * (x[bad].sum(0) - len(bad) * x[p])
        expected[p] = 2 * len(bad) * (x[p] - x[q])
        expected[bad] = 2 * (x[q] - x[bad])
    assert 0 < violating < 5
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        value = TupleTripletLoss(margin)(targets, variable)
    found = np.asarray(tape.gradient(value, variable))

    # Ours is the gradient of 2 − 2a·b, theirs of ‖a − b‖²: on the sphere they are the same.
    def tangent(gradient: np.ndarray) -> np.ndarray:
        return gradient - np.sum(gradient * x, axis=1, keepdims=True) * x

    np.testing.assert_allclose(tangent(found), tangent(expected / violating), atol=1e-5)


@pytest.mark.parametrize("squared", [True, False])
def test_the_gradient_is_finite_where_the_positive_is_the_query(squared: bool) -> None:
    x = tf.Variable(VECTORS)
    with tf.GradientTape() as tape:
        value = TupleTripletLoss(3.9 if squared else 1.9, squared)(TARGETS, x)
    assert float(value) > 0
    assert np.all(np.isfinite(tape.gradient(value, x)))


def test_tuples_do_not_see_each_other() -> None:
    """A violating negative of one tuple changes nothing for the query of another, however near."""
    both = TupleTripletLoss(0.1, mean_over="negatives")(TARGETS, VECTORS)
    moved = VECTORS.copy()
    moved[4:] = [[0.96, 0.28], [0.96, 0.28], [-0.96, -0.28]]
    assert float(TupleTripletLoss(0.1, mean_over="negatives")(TARGETS, moved)) == pytest.approx(float(both), abs=1e-6)


@pytest.mark.parametrize("squared", [True, False])
def test_trains_a_users_model(squared: bool) -> None:
    """Eight places whose images differ in a few of many dimensions: a linear embedding learns which."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    places = np.array([[t, t, *((t + k) % 8 for k in range(1, 5))] for t in range(8)]).ravel()
    targets = np.array([[t, min(k, 2)] for t in range(8) for k in range(6)])
    x = rng.normal(size=(48, 20)).astype(np.float32)
    x[:, :3] += 2 * rng.normal(size=(8, 3))[places]
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(6), L2Normalization()])
    model.compile(keras.optimizers.Adam(0.03), TupleTripletLoss(0.3, squared, "negatives"))
    history = model.fit(x, targets, batch_size=48, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]


def test_round_trips() -> None:
    original = TupleTripletLoss(0.37, False, "negatives", name="mine")
    copy = keras.losses.deserialize(keras.losses.serialize(original))
    assert isinstance(copy, TupleTripletLoss)
    assert copy.get_config() == original.get_config()
    assert (copy.margin, copy.squared, copy.mean_over, copy.name) == (0.37, False, "negatives", "mine")


def test_an_unknown_mean() -> None:
    with pytest.raises(UserError, match="mean_over='all': violating or negatives"):
        TupleTripletLoss(mean_over="all")  # type: ignore[arg-type]
