"""The triplet losses: worked by hand, by loops over single triplets, and in a user's `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfplaces.layers import L2Normalization
from tfplaces.losses import TripletRankingLoss, WeaklySupervisedTripletLoss

RNG = np.random.default_rng(0)
LOSSES = [TripletRankingLoss, WeaklySupervisedTripletLoss]
# a and b show one place, c another: ‖a − b‖² = 2 − 2 · 0.8 = 0.4, ‖a − c‖² = 0.8, ‖b − c‖² = 2 − 2 · 0.96 = 0.08.
LABELS, VECTORS = np.array([7, 7, 3]), np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)


def unit(n: int, dim: int) -> np.ndarray:
    x = RNG.normal(size=(n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def by_loops(labels: np.ndarray, x: np.ndarray, margin: float) -> tuple[float, float]:
    """Both losses, triplet by triplet: Saha et al., and equation 7 of Arandjelović et al."""
    distance = np.square(x[:, None].astype(np.float64) - x[None]).sum(-1)
    ranking = weak = 0.0
    for q, place in enumerate(labels):
        positives = [p for p in range(len(labels)) if labels[p] == place and p != q]
        negatives = [n for n in range(len(labels)) if labels[n] != place]
        ranking += sum(max(0, margin + distance[q, p] - distance[q, n]) / 2 for p in positives for n in negatives)
        if positives:
            nearest = min(distance[q, p] for p in positives)
            weak += sum(max(0, margin + nearest - distance[q, n]) for n in negatives)
    return ranking / len(labels), weak / len(labels)


def test_worked_values() -> None:
    """Margin 0.1. Query a: 0.1 + 0.4 − 0.8 < 0, nothing. Query b: 0.1 + 0.4 − 0.08 = 0.42. Query c has no positive.

    So the mean over three queries is 0.42 / 3, and half of that with the 1/2 of Saha et al.
    """
    assert float(TripletRankingLoss(0.1)(LABELS, VECTORS)) == pytest.approx(0.07, abs=1e-6)
    assert float(WeaklySupervisedTripletLoss(0.1)(LABELS, VECTORS)) == pytest.approx(0.14, abs=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.1, 1.5])
@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 2], [5, 9, 5, 9, 5, 9], [0, 0, 0, 0, 0, 1]])
def test_equal_the_loops(labels: list[int], margin: float) -> None:
    x = unit(6, 4)
    ranking, weak = by_loops(np.array(labels), x, margin)
    for shape in ((6,), (6, 1)):
        y = np.reshape(labels, shape)
        assert float(TripletRankingLoss(margin)(y, x)) == pytest.approx(ranking, abs=1e-5)
        assert float(WeaklySupervisedTripletLoss(margin)(y, x)) == pytest.approx(weak, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [4, 4, 4, 4]])
def test_without_positives_or_negatives_there_is_no_loss(loss: type[keras.losses.Loss], labels: list[int]) -> None:
    """Opposite vectors are the farthest that unit vectors can be, 4; with and without a positive there."""
    x = tf.Variable(np.array([[1, 0], [-1, 0], [0, 1], [0, 1]], np.float32))
    with tf.GradientTape() as tape:
        value = loss(4.0)(np.array(labels), x)
    assert float(value) == 0
    assert not np.any(tape.gradient(value, x))


def test_farthest_positive_counts() -> None:
    """‖q − p‖² = 4, negatives at 2 of both: (0.1 + 4 − 2) for each of q and p, over three queries."""
    x = np.array([[1, 0], [-1, 0], [0, 1]], np.float32)
    assert float(WeaklySupervisedTripletLoss(0.1)(LABELS, x)) == pytest.approx(2 * 2.1 / 3, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_pulls_the_positive_and_pushes_the_negative(loss: type[keras.losses.Loss]) -> None:
    """The only triplet with a loss is (b, a, c): a step down the gradient moves a towards b and c away from it."""
    x = tf.Variable(VECTORS)
    with tf.GradientTape() as tape:
        value = loss(0.1)(LABELS, x)
    step = -np.asarray(tape.gradient(value, x))
    b = VECTORS[1]
    assert step[0] @ b > 0 > step[2] @ b
    moved = VECTORS + 0.05 * step
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    assert float(loss(0.1)(LABELS, moved)) < float(value)


@pytest.mark.parametrize("loss", LOSSES)
def test_trains_a_users_model(loss: type[keras.losses.Loss]) -> None:
    """Eight places whose images differ in a few of many dimensions: a linear embedding learns which."""
    keras.utils.set_random_seed(0)
    places = np.repeat(np.arange(8), 4)
    x = RNG.normal(size=(32, 20)).astype(np.float32)
    x[:, :3] += 2 * RNG.normal(size=(8, 3))[places]
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(6), L2Normalization()])
    model.compile(keras.optimizers.Adam(0.03), loss(0.2))
    history = model.fit(x, places, batch_size=32, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]


@pytest.mark.parametrize("loss", LOSSES)
def test_round_trips(loss: type[keras.losses.Loss]) -> None:
    original = loss(0.37, name="mine")
    copy = keras.losses.deserialize(keras.losses.serialize(original))
    assert type(copy) is loss
    assert (copy.margin, copy.name) == (0.37, "mine")
    assert loss.from_config(original.get_config()).get_config() == original.get_config()
