"""NetVLAD against the paper's formulas, written out with the residual of every feature to every centroid."""

import keras
import numpy as np
import pytest

from tfplaces.layers import NetVLAD

RNG = np.random.default_rng(0)


def naive_netvlad(x: np.ndarray, assignment: np.ndarray, centroids: np.ndarray, bias: float | np.ndarray = 0.0):
    """Equations 1 and 3 of Arandjelović et al., in float64: `[b, h, w, D]` to `[b, K · D]`."""
    x = x.astype(np.float64)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    weights = np.exp(x @ assignment + bias)
    weights /= weights.sum(-1, keepdims=True)
    residuals = x[..., None, :] - centroids  # [b, h, w, K, D]
    v = (weights[..., None] * residuals).sum((1, 2))
    v = (v / np.linalg.norm(v, axis=-1, keepdims=True)).reshape(len(x), -1)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def build(channels: int, clusters: int, **options) -> NetVLAD:
    layer = NetVLAD(clusters, **options)
    layer.build((None, None, None, channels))
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.weights])
    return layer


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 4, 5, 7)])
def test_equals_the_naive_formula(shape: tuple[int, ...], use_bias: bool) -> None:
    layer = build(shape[-1], 6, use_bias=use_bias)
    x = RNG.normal(size=shape).astype(np.float32) * 20
    bias = layer.bias.numpy() if use_bias else 0.0
    expected = naive_netvlad(x, layer.assignment.numpy()[0, 0], layer.centroids.numpy(), bias)
    np.testing.assert_allclose(layer(x), expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(layer(x), axis=1), 1, atol=1e-6)


def test_output_is_cluster_major() -> None:
    """Feature e0 goes to cluster 0 and e1 to cluster 1, the centroids are 0: V = [e0, e1] / √2."""
    layer = build(3, 2)
    layer.assignment.assign(100 * np.eye(3, 2)[None, None])
    layer.centroids.assign(np.zeros((2, 3)))
    x = 5 * np.eye(3, dtype=np.float32)[:2].reshape(1, 1, 2, 3)
    np.testing.assert_allclose(layer(x)[0], np.array([1, 0, 0, 0, 1, 0]) / np.sqrt(2), atol=1e-6)


def test_bias_gives_the_assignment_by_distance() -> None:
    """With 2αc and −α‖c‖² (MatConvNet's layerVLADv2) softmax(logits) = softmax(−α‖x − c‖²), equation 2."""
    layer = build(5, 4, use_bias=True)
    centroids, alpha = RNG.normal(size=(4, 5)), 3.0
    layer.centroids.assign(centroids)
    layer.assignment.assign(2 * alpha * centroids.T[None, None])
    layer.bias.assign(-alpha * np.square(centroids).sum(1))
    x = RNG.normal(size=(1, 6, 5))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    a = np.exp(-alpha * np.square(x[0, :, None] - centroids).sum(-1))
    a /= a.sum(1, keepdims=True)
    v = a.T @ x[0] - a.sum(0)[:, None] * centroids
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    np.testing.assert_allclose(layer(x[:, None].astype(np.float32))[0], v.ravel() / 2, atol=2e-6)


def test_static_and_dynamic_shapes_agree() -> None:
    layer = build(4, 3)
    x = RNG.normal(size=(2, 5, 6, 4)).astype(np.float32)
    dynamic = keras.Input((None, None, 4))
    static = keras.Input((5, 6, 4), batch_size=2)
    assert layer(dynamic).shape == (None, 12)
    assert layer(static).shape == (2, 12) == layer.compute_output_shape((2, 5, 6, 4))
    for inputs in (dynamic, static):
        np.testing.assert_allclose(keras.Model(inputs, layer(inputs)).predict_on_batch(x), layer(x), atol=1e-6)
    other = RNG.normal(size=(1, 9, 2, 4)).astype(np.float32)
    np.testing.assert_allclose(keras.Model(dynamic, layer(dynamic)).predict_on_batch(other), layer(other), atol=1e-6)


@pytest.mark.parametrize("sharpness", [1.0, 4.0])
@pytest.mark.parametrize("built", [False, True])
def test_adapt(sharpness: float, built: bool) -> None:
    """Three bundles of directions: k-means must find the means of their normalised features.

    α is checked by what defines it: at sharpness 1 the second-nearest cluster weighs 1 % of the nearest where their
    products with the feature are apart by the mean gap.
    """
    axes = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 0.6, 0.8]])
    bundles = axes[:, None] + 0.03 * RNG.normal(size=(3, 50, 4))
    features = (bundles * RNG.uniform(1, 9, (3, 50, 1))).astype(np.float32)
    layer = build(4, 3, use_bias=True) if built else NetVLAD(3, use_bias=True)
    layer.adapt(features.reshape(-1, 4), sharpness=sharpness)

    unit = bundles / np.linalg.norm(bundles, axis=-1, keepdims=True)
    centroids = layer.centroids.numpy()
    order = [int(np.argmax(centroids @ axis)) for axis in axes]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(centroids[order], unit.mean(axis=1), atol=1e-5)

    assignment = layer.assignment.numpy()[0, 0].T
    alpha = np.linalg.norm(assignment, axis=1)
    np.testing.assert_allclose(alpha, alpha[0], rtol=1e-5)
    directions = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
    np.testing.assert_allclose(assignment, alpha[0] * directions, rtol=1e-5, atol=1e-5)
    products = np.sort(unit.reshape(-1, 4) @ directions.T, axis=1)
    gap = np.mean(products[:, 2] - products[:, 1])
    np.testing.assert_allclose(np.exp(-alpha[0] / sharpness * gap), 0.01, rtol=1e-3)
    assert not layer.bias.numpy().any()


def test_adapt_is_reproducible_and_takes_one_cluster() -> None:
    features = RNG.normal(size=(40, 3)).astype(np.float32)
    layers = [NetVLAD(5), NetVLAD(5)]
    for layer in layers:
        layer.adapt(features, seed=3)
    np.testing.assert_array_equal(*(layer.centroids.numpy() for layer in layers))
    single = NetVLAD(1)
    single.adapt(features)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(single.centroids.numpy()[0], unit.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("features", "message"),
    [(np.zeros((9, 3)), r"\[9|\(9, 3\)"), (np.zeros(4), r"\(4,\)"), (np.zeros((5, 4)), "5 local features .* 6")],
)
def test_adapt_says_what_is_wrong(features: np.ndarray, message: str) -> None:
    layer = build(4, 6)
    before = layer.get_weights()
    with pytest.raises(ValueError, match=message):
        layer.adapt(features)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_errors() -> None:
    with pytest.raises(ValueError, match="clusters=0"):
        NetVLAD(0)
    with pytest.raises(ValueError, match="channels"):
        NetVLAD(2)(keras.Input((4, 4, None)))
