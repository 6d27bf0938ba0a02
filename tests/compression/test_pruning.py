"""Pruning: the quantile against numpy, what a threshold means, and shares of all parameters."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfplaces.compression import Compressed, compress, find_kernels, prune_model, share_model
from tfplaces.compression.pruning import magnitude_quantile

floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
awkward = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-40, 0.5, 3.4e38])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(hnp.arrays(np.float32, st.integers(0, 30), elements=floats | awkward), min_size=1, max_size=4), st.data()
)
def test_the_quantile_is_the_float_above_the_nth_smallest_magnitude(arrays, data) -> None:
    magnitudes = np.abs(np.concatenate(arrays))
    count = data.draw(st.integers(0, len(magnitudes)))
    threshold = magnitude_quantile(iter(arrays), count)
    if count == 0:
        assert threshold == 0
        return
    nth = np.partition(magnitudes, count - 1)[count - 1]
    with np.errstate(over="ignore"):
        assert threshold == np.nextafter(nth, np.float32(np.inf))
    # Ties go together: everything up to the n-th is below, nothing above it is.
    assert np.count_nonzero(magnitudes < np.float32(threshold)) == np.count_nonzero(magnitudes <= nth) >= count


def test_the_quantile_of_many_values() -> None:
    arrays = [np.random.default_rng(seed).normal(size=(1000, 100)).astype(np.float32) for seed in range(3)]
    magnitudes = np.abs(np.concatenate([a.ravel() for a in arrays]))
    for count in (1, 12_345, 150_000, 299_999, 300_000):
        nth = np.partition(magnitudes, count - 1)[count - 1]
        assert magnitude_quantile(arrays, count) == np.nextafter(nth, np.float32(np.inf))


@pytest.fixture
def model() -> keras.Model:
    """Kernels of 12 and 8 parameters, biases of 4 and 2: 26 in all, 20 of which can be pruned."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")])
    model.layers[0].set_weights([np.arange(1, 13, dtype=np.float32).reshape(3, 4) / 100, np.ones(4, np.float32)])
    model.layers[1].set_weights([-np.arange(5, 13, dtype=np.float32).reshape(4, 2) / 100, np.zeros(2, np.float32)])
    return model


def test_a_weight_of_exactly_the_threshold_survives(model: keras.Model) -> None:
    before = [k.variable.numpy() for k in find_kernels(model)]
    masks = prune_model(model, threshold=float(np.float32(0.06)))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {kernel.name: 7 for kernel in find_kernels(model)}
    for kernel, weights in zip(find_kernels(model), before, strict=True):
        np.testing.assert_array_equal(kernel.variable.numpy(), np.where(masks[kernel.name], weights, 0))
    np.testing.assert_array_equal(model.layers[0].bias.numpy(), 1)


@pytest.mark.parametrize(
    "sparsity, zeros",
    [
        (0.0, 0),
        (4 / 26, 4),  # .01 to .04 of the first kernel
        (7 / 26, 8),  # the seventh is one of two of .06
        (0.5, 14),  # 13 of the 26; .09 is tied
        (18 / 26, 18),
    ],
)
def test_sparsity_is_a_share_of_all_parameters(model: keras.Model, sparsity: float, zeros: int) -> None:
    prune_model(model, sparsity=sparsity)
    assert sum(int(np.sum(k.variable.numpy() == 0)) for k in find_kernels(model)) == zeros
    assert Compressed(model, share_model(model, 8), {}).pruned == pytest.approx(100 * zeros / 26)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"threshold": 1.0}, "leaves nothing of .*a/kernel .*largest magnitude 0.12"),
        ({"threshold": 0.1201}, "leaves nothing of"),
        ({"threshold": float("nan")}, "leaves nothing of"),
        ({"sparsity": 20 / 26}, "leaves nothing of"),
        ({"sparsity": 0.9}, "only 0.769 of the parameters can be pruned"),
        ({"sparsity": 1.0}, "at least 0 and below 1"),
        ({"sparsity": -0.1}, "at least 0 and below 1"),
        ({"sparsity": float("nan")}, "at least 0 and below 1"),
        ({"sparsity": 0.5, "threshold": 0.1}, "not both"),
    ],
)
def test_too_much_leaves_the_model_as_it_was(model: keras.Model, options: dict, message: str) -> None:
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        compress(model, **options)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_bits_out_of_range_leave_the_model_as_it_was(model: keras.Model) -> None:
    before = model.get_weights()
    with pytest.raises(ValueError, match="bits=9: 2 to 8"):
        compress(model, bits=9, sparsity=0.5)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_threshold_of_zero_or_none_prunes_nothing(model: keras.Model) -> None:
    assert prune_model(model) == prune_model(model, threshold=0.0) == prune_model(model, sparsity=0.0) == {}


def test_kernels_are_found_in_nested_models_once_and_with_their_output_axis() -> None:
    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.DepthwiseConv2D(3, padding="same")], name="inner")
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, name="conv")(inner(inner(inputs)))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(x))
    found = find_kernels(model)
    assert sorted((tuple(k.variable.shape), k.channel_axis) for k in found) == [((3, 3, 3, 1), 2), ((3, 3, 3, 5), 3)]
    assert len({k.name for k in found}) == 2
