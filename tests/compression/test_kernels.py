"""What a kernel is, what it is called, and where its output channels are, for every layer of Keras that has any.

The expected axes are those that the layers' documentation gives for the shapes of their weights.
"""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers

from tfplaces.coding.channels import channel_view
from tfplaces.compression import PrunedTraining, SharedTraining, find_kernels, prune_model, share_model
from tfplaces.layers import NetVLAD, PCAWhitening
from tfplaces.models import PlaceNet, outline

KERAS_LAYERS = {
    "dense": (layers.Dense(5), (3,), {"kernel": 1}),
    "einsum": (layers.EinsumDense("abc,cde->abde", (None, 3, 5), bias_axes="de"), (6, 4), {"kernel": (1, 2)}),
    "einsum, channels first": (layers.EinsumDense("ab,cb->ac", 5, bias_axes="c"), (4,), {"kernel": 0}),
    "embedding": (layers.Embedding(7, 3), (4,), {"embeddings": 1}),
    "conv1d": (layers.Conv1D(6, 3), (8, 4), {"kernel": 2}),
    "conv2d": (layers.Conv2D(6, 3), (8, 8, 4), {"kernel": 3}),
    "conv2d, groups": (layers.Conv2D(6, 3, groups=2), (8, 8, 4), {"kernel": 3}),
    "conv3d": (layers.Conv3D(6, 3), (8, 8, 8, 2), {"kernel": 4}),
    "conv1d transposed": (layers.Conv1DTranspose(6, 3), (8, 4), {"kernel": 1}),
    "conv2d transposed": (layers.Conv2DTranspose(6, 3), (8, 8, 4), {"kernel": 2}),
    "conv3d transposed": (layers.Conv3DTranspose(6, 3), (8, 8, 8, 2), {"kernel": 3}),
    "depthwise1d": (layers.DepthwiseConv1D(3), (8, 4), {"kernel": 1}),
    "depthwise1d, multiplied": (layers.DepthwiseConv1D(3, depth_multiplier=2), (8, 4), {"kernel": (1, 2)}),
    "depthwise2d": (layers.DepthwiseConv2D(3), (8, 8, 4), {"kernel": 2}),
    "depthwise2d, multiplied": (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), {"kernel": (2, 3)}),
    "separable1d": (layers.SeparableConv1D(6, 3), (8, 4), {"depthwise_kernel": 1, "pointwise_kernel": 2}),
    "separable2d": (
        layers.SeparableConv2D(6, 3, depth_multiplier=2),
        (8, 8, 4),
        {"depthwise_kernel": (2, 3), "pointwise_kernel": 3},
    ),
    "simple rnn": (layers.SimpleRNN(5), (8, 4), {"kernel": 1, "recurrent_kernel": 1}),
    "gru": (layers.GRU(5), (8, 4), {"kernel": 1, "recurrent_kernel": 1}),
    "lstm": (layers.LSTM(5), (8, 4), {"kernel": 1, "recurrent_kernel": 1}),
    "conv lstm": (layers.ConvLSTM2D(5, 3), (3, 8, 8, 4), {"kernel": 3, "recurrent_kernel": 3}),
    "time distributed": (layers.TimeDistributed(layers.Dense(5)), (8, 4), {"kernel": 1}),
    "spectral norm": (layers.SpectralNormalization(layers.Dense(5)), (4,), {"kernel": 1}),
    "batch norm": (layers.BatchNormalization(), (8, 8, 4), {}),
    "layer norm": (layers.LayerNormalization(axis=[1, 2]), (8, 4), {}),
    "group norm": (layers.GroupNormalization(2), (8, 8, 4), {}),
    "prelu": (layers.PReLU(), (8, 8, 4), {}),
    "netvlad": (NetVLAD(3, use_bias=True), (8, 8, 4), {"assignment": 3, "centroids": 1}),
    "whitening": (PCAWhitening(3), (8,), {"kernel": 1}),
}


def model_of(layer: keras.layers.Layer, shape: tuple[int, ...]) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize("name", KERAS_LAYERS)
def test_roles_and_output_axes(name: str) -> None:
    layer, shape, expected = KERAS_LAYERS[name]
    layer = type(layer).from_config(layer.get_config())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernels = find_kernels(model_of(layer, shape))
    assert {kernel.name.split("/")[-1]: kernel.channel_axis for kernel in kernels} == expected


@pytest.mark.parametrize("name", [name for name, (layer, _, axes) in KERAS_LAYERS.items() if axes.keys() == {"kernel"}])
def test_a_scaled_output_channel_is_a_scaled_channel_of_the_kernel(name: str) -> None:
    """The axis by its meaning: the kernel's channels times factors give the outputs times the same factors."""
    layer, shape, _ = KERAS_LAYERS[name]
    if name == "spectral norm":
        pytest.skip("it divides its kernel by its norm")
    layer = type(layer).from_config(layer.get_config())
    model = model_of(layer, shape)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    before = np.asarray(model(x))
    (kernel,) = find_kernels(model)
    weights = np.array(kernel.variable.numpy())
    view = channel_view(weights, kernel.channel_axis)
    factors = np.arange(1, view.shape[1] + 1, dtype=np.float32)
    view *= factors[:, None]
    kernel.variable.assign(weights)
    after = np.asarray(model(x))
    outputs = before.shape[-1] if kernel.channel_axis != (1, 2) or "einsum" not in name else len(factors)
    assert outputs == len(factors)
    shape = (-1, len(factors))
    np.testing.assert_allclose(after.reshape(shape), before.reshape(shape) * factors, rtol=1e-4, atol=1e-5)


def test_attention_keeps_its_biases_of_two_dimensions() -> None:
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 4, name="att")(inputs, inputs))
    for variable in model.weights:
        if variable.name == "bias":
            variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    biases = {v.path: v.numpy() for v in model.weights if v.name == "bias"}
    assert [(k.name, k.channel_axis) for k in find_kernels(model)] == [
        ("att/query/kernel", (1, 2)), ("att/key/kernel", (1, 2)), ("att/value/kernel", (1, 2)),
        ("att/attention_output/kernel", 2),
    ]  # fmt: skip
    prune_model(model, sparsity=0.4, scope="layer")
    shared = share_model(model, 3)
    assert {name: len(s.scales) for name, s in shared.items()} == {
        "att/query/kernel": 8, "att/key/kernel": 8, "att/value/kernel": 8, "att/attention_output/kernel": 8,
    }  # fmt: skip
    for kernel in find_kernels(model):
        np.testing.assert_array_equal(kernel.variable.numpy(), shared[kernel.name].weights())
    assert all(np.array_equal(v.numpy(), biases[v.path]) for v in model.weights if v.path in biases)


def branch(name: str) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(layers.Conv2D(4, 3, name="conv")(inputs))
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="pool")(x), name=name)


def two_branches() -> keras.Model:
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([a, b], layers.Concatenate()([branch("rgb")(a), branch("infrared")(b)]))


def test_nested_models_with_equal_layer_names_have_a_sharing_each() -> None:
    """A fit at rate 0 of either kind of training leaves every kernel of both as it was."""
    model = two_branches()
    kernels = find_kernels(model)
    assert [kernel.name for kernel in kernels] == [
        "rgb/conv/kernel", "rgb/depthwise/kernel", "infrared/conv/kernel", "infrared/depthwise/kernel",
    ]  # fmt: skip
    shared = share_model(model, 3, bits_for={"infrared/conv": 8})
    assert shared.keys() == {kernel.name for kernel in kernels}
    assert len(shared["infrared/conv/kernel"].levels) > 8 >= len(shared["rgb/conv/kernel"].levels)
    before = [kernel.variable.numpy() for kernel in kernels]
    x = [np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32) for _ in range(2)]
    for training in (SharedTraining(model, shared), PrunedTraining(model)):
        training.compile(keras.optimizers.SGD(0.0), "mse")
        training.fit(x, np.zeros((4, 16)), verbose=0)
    for kernel, weights in zip(kernels, before, strict=True):
        np.testing.assert_allclose(kernel.variable.numpy(), weights, atol=1e-6)


def test_names_do_not_depend_on_what_was_built_before() -> None:
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(3, name="same")
            self.others = [layers.Dense(3, name="same"), Own(name="own")]
            self.inner = keras.Sequential([layers.Dense(3, name="same")], name="same")

        def call(self, x):
            for layer in (self.first, *self.others, self.inner, self.first):
                x = layer(x)
            return x

    expected = ["same/kernel", "same_2/kernel", "own/w", "same_3/same/kernel"]
    for _ in range(2):
        model = Net()
        with pytest.raises(ValueError, match="is not built, so it has no weights yet: call it on data first"):
            find_kernels(model)
        model(np.zeros((1, 3), np.float32))
        with pytest.warns(UserWarning, match="own/position of the layer Own is not taken for a kernel"):
            names = [kernel.name for kernel in find_kernels(model)]
        assert sorted(names) == sorted(expected) and len(share_quietly(model)) == 4


class Own(keras.layers.Layer):
    """A user's layer with weights that have no names but those of the attributes."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], 3))
        self.position = self.add_weight(shape=(1, 3))
        self.bias = self.add_weight(shape=(1, 3))
        self.fixed_kernel = self.add_weight(shape=(2, 3), trainable=False)

    def call(self, x):
        return x @ self.w + self.position + self.bias


def share_quietly(model: keras.Model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return share_model(model, 4)


def test_weights_that_are_used_twice_count_once() -> None:
    shared_layer = layers.Dense(4, name="twice")
    inner = keras.Sequential([keras.Input((4,)), shared_layer], name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inner(shared_layer(inner(inputs))))
    assert len(find_kernels(model)) == 1


def test_frozen_layers_are_compressed_as_well() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")])
    model.get_layer("a").trainable = False
    assert [kernel.name for kernel in find_kernels(model)] == ["a/kernel", "b/kernel"]


def test_kernels_in_another_form_are_refused() -> None:
    def model() -> keras.Model:
        return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a")])

    adapted = model()
    adapted.layers[0].enable_lora(1)
    with pytest.raises(ValueError, match="the layer a has LoRA enabled"):
        find_kernels(adapted)
    quantized = model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized.quantize("int8")
    with pytest.raises(ValueError, match="the layer a is quantized by Keras"):
        share_model(quantized, 4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_kernels_that_are_not_float32_are_refused_before_anything_is_changed(dtype: str) -> None:
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8, name="a", dtype=dtype)])
    before = np.array(model.get_weights()[0])
    for compress in (lambda: share_model(model, 4), lambda: prune_model(model, sparsity=0.5)):
        with pytest.raises(ValueError, match=f"a/kernel is {dtype}: pruning and sharing need float32"):
            compress()
    np.testing.assert_array_equal(before, model.get_weights()[0])


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_policies_keep_float32_kernels(dtype: str) -> None:
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8, dtype=dtype)])
    shared = share_model(model, 4)
    (kernel,) = find_kernels(model)
    np.testing.assert_array_equal(kernel.variable.numpy(), shared[kernel.name].weights())


def test_the_names_of_a_place_nets_kernels_are_those_of_its_files() -> None:
    """`LAYER/VARIABLE`, as `.places` files have had them from the first."""
    model = outline(PlaceNet, "mobilenet_v1", clusters=2, whitening=4, cut="conv_pw_1")
    assert [(kernel.name, kernel.channel_axis) for kernel in find_kernels(model)] == [
        ("conv1/kernel", 3), ("conv_dw_1/kernel", 2), ("conv_pw_1/kernel", 3),
        ("netvlad/assignment", 3), ("netvlad/centroids", 1), ("whitening/kernel", 1),
    ]  # fmt: skip
