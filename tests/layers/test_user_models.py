"""Every layer in a plain Keras model of somebody else: saved, loaded, trained."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.layers import L2Normalization, LocalResponseNormalization, NetVLAD, PCAWhitening

RNG = np.random.default_rng(0)
# Each with options that are not the defaults, and an input it can take.
LAYERS = [
    (NetVLAD(3, use_bias=True, name="vlad"), (4, 5, 6)),
    (NetVLAD(2), (4, 5, 6)),
    (L2Normalization(axis=1), (3, 4)),
    (LocalResponseNormalization(3, 0.2, 0.6, 1.5), (4, 5, 6)),
    (PCAWhitening(4), (9,)),
    (PCAWhitening(4, use_bias=False, activation="relu", trainable=False), (9,)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: type(v).__name__)
def test_round_trips(layer: keras.layers.Layer, shape: tuple[int, ...], tmp_path: Path) -> None:
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    expected = layer(x)
    copy = type(layer).from_config(layer.get_config())
    copy.build((None, *shape))
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(x), expected)
    assert copy.get_config() == layer.get_config()

    model = keras.Sequential([keras.Input(shape), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(x), expected, atol=1e-6)
    assert loaded.layers[-1].get_config() == layer.get_config()


def test_a_users_model_learns() -> None:
    """Two classes of small images: the loss of a classifier on NetVLAD falls, and every weight gets a gradient."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = LocalResponseNormalization()(keras.layers.Conv2D(8, 3, activation="relu")(inputs))
    x = L2Normalization()(PCAWhitening(6)(NetVLAD(4, use_bias=True)(x)))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    labels = np.arange(16) % 2
    images = (RNG.normal(size=(16, 8, 8, 3)) + labels[:, None, None, None] * [1, 0, -1]).astype(np.float32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    before = model.get_weights()
    history = model.fit(images, labels, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]
    assert all(np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True))
