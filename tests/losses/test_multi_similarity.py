"""The multi-similarity loss and its miner: worked by hand, by loops written from the formula, and in a user's `fit`."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaces.layers import L2Normalization
from tfplaces.losses import MultiSimilarityLoss, MultiSimilarityMiner

# a and b show one place, c another: cosines ab 0.8, ac 0.6, bc 0.8 · 0.6 + 0.6 · 0.8 = 0.96.
LABELS, VECTORS = np.array([7, 7, 3]), np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)


def unit(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    x = rng.normal(size=(n, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def by_loops(
    labels: np.ndarray, x: np.ndarray, alpha: float, beta: float, base: float, epsilon: float | None
) -> np.ndarray:
    """The loss of each image, pair by pair, in float64: FORMATS.md and equations 11, 12 and 15 of Wang et al."""
    x = x.astype(np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    losses = []
    for a, place in enumerate(labels):
        positives = [float(x[a] @ x[p]) for p in range(len(labels)) if labels[p] == place and p != a]
        negatives = [float(x[a] @ x[n]) for n in range(len(labels)) if labels[n] != place]
        if epsilon is not None:
            hardest_positive, hardest_negative = min(positives, default=math.inf), max(negatives, default=-math.inf)
            positives = [s for s in positives if s - epsilon < hardest_negative]
            negatives = [s for s in negatives if s + epsilon > hardest_positive]
        loss = math.log(1 + sum(math.exp(-alpha * (s - base)) for s in positives)) / alpha
        losses.append(loss + math.log(1 + sum(math.exp(beta * (s - base)) for s in negatives)) / beta)
    return np.array(losses)


def test_worked_values() -> None:
    """α 1, β 50, base 0, ε 0.1.

    a: its positive at 0.8 − 0.1 is not below its negative at 0.6, and 0.6 + 0.1 not above 0.8: nothing is kept. b:
    0.7 < 0.96 and 1.06 > 0.8, both are kept: log(1 + e^−0.8) + log(1 + e^48) / 50 = 0.371101 + 0.96. c has no positive.
    """
    assert MultiSimilarityLoss().call(LABELS, VECTORS).numpy() == pytest.approx([0, 1.331101, 0], abs=1e-5)
    assert float(MultiSimilarityLoss()(LABELS, VECTORS)) == pytest.approx(1.331101 / 3, abs=1e-5)
    # Without a miner, a: 0.371101 + log(1 + e^30) / 50; c: log(e^30 + e^48) / 50, its two negatives.
    every = [0.371101 + 0.6, 1.331101, 0.96]
    assert MultiSimilarityLoss(miner=None).call(LABELS, VECTORS).numpy() == pytest.approx(every, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=12),
    seed=st.integers(0, 2**16),
    alpha=st.sampled_from([0.5, 1.0, 2.0]),
    beta=st.sampled_from([1.0, 50.0]),
    base=st.sampled_from([0.0, 0.5]),
    epsilon=st.sampled_from([None, 0.0, 0.1, 0.5]),
    scale=st.sampled_from([1.0, 20.0]),
)
def test_equals_the_loops(
    labels: list[int], seed: int, alpha: float, beta: float, base: float, epsilon: float | None, scale: float
) -> None:
    x = scale * unit(np.random.default_rng(seed), len(labels), 5)
    expected = by_loops(np.array(labels), x, alpha, beta, base, epsilon)
    loss = MultiSimilarityLoss(alpha, beta, base, None if epsilon is None else MultiSimilarityMiner(epsilon))
    for shape in ((-1,), (-1, 1)):
        assert loss.call(np.reshape(labels, shape), x).numpy() == pytest.approx(expected, abs=1e-4)
        assert float(loss(np.reshape(labels, shape), x)) == pytest.approx(expected.mean(), abs=1e-4)


@pytest.mark.parametrize("miner", [None, MultiSimilarityMiner(0.1)])
def test_a_batch_without_positives_or_negatives_has_finite_gradients(miner: MultiSimilarityMiner | None) -> None:
    """With the miner nothing is kept; without it, four places at right angles have only log(1 + 3) / 50 each."""
    for labels, expected in ((np.arange(4), math.log(4) / 50), (np.zeros(4), math.log(4))):
        x = tf.Variable(np.eye(4, dtype=np.float32))
        with tf.GradientTape() as tape:
            value = MultiSimilarityLoss(miner=miner)(labels, x)
        gradient = tape.gradient(value, x)
        assert np.isfinite(gradient).all()
        assert float(value) == pytest.approx(0 if miner else expected, abs=1e-6)
        if miner:
            assert not np.any(gradient)


def test_gradient_pulls_the_positive_and_pushes_the_negative() -> None:
    """Only b has pairs: a step down the gradient turns a towards b, and c away from it."""
    x = tf.Variable(VECTORS)
    with tf.GradientTape() as tape:
        value = MultiSimilarityLoss()(LABELS, x)
    step = -np.asarray(tape.gradient(value, x))
    assert step[0] @ VECTORS[1] > 0 > step[2] @ VECTORS[1]
    assert float(MultiSimilarityLoss()(LABELS, VECTORS + 0.02 * step)) < float(value)


def test_half_precision_does_not_overflow() -> None:
    """exp(50) is beyond float16: descriptors of a mixed_float16 network are compared in float32."""
    x = unit(np.random.default_rng(2), 8, 4).astype(np.float16)
    labels = np.repeat(np.arange(4), 2)
    expected = by_loops(labels, x, 1, 50, 0, 0.1)
    assert MultiSimilarityLoss().call(labels, tf.constant(x)).numpy() == pytest.approx(expected, abs=1e-4)


def test_trains_a_users_model() -> None:
    """Eight places whose images differ in a few of many dimensions: a linear embedding learns which."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(8), 4)
    x = rng.normal(size=(32, 20)).astype(np.float32)
    x[:, :3] += 2 * rng.normal(size=(8, 3))[places]
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(6), L2Normalization()])
    model.compile(keras.optimizers.Adam(0.03), MultiSimilarityLoss())
    history = model.fit(x, places, batch_size=32, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]


@pytest.mark.parametrize("miner", [None, MultiSimilarityMiner(0.3)])
def test_round_trips(miner: MultiSimilarityMiner | None) -> None:
    original = MultiSimilarityLoss(2, 40, 0.5, miner, name="mine")
    copy = keras.losses.deserialize(keras.losses.serialize(original))
    assert isinstance(copy, MultiSimilarityLoss)
    assert copy.get_config() == original.get_config()
    assert (copy.alpha, copy.beta, copy.base, copy.name) == (2, 40, 0.5, "mine")
    assert (copy.miner and copy.miner.epsilon) == (miner and 0.3)
