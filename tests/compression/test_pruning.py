"""Pruning: the quantile against numpy, what a threshold means, shares of all parameters and of kernels, and layers."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfplaces.coding import channels
from tfplaces.common.errors import UserError
from tfplaces.compression import Recipe, compress, find_kernels, prune_model
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
    threshold = magnitude_quantile(lambda: iter(arrays), count)
    if count == 0:
        assert threshold == 0
        return
    nth = np.partition(magnitudes, count - 1)[count - 1]
    with np.errstate(over="ignore"):
        assert threshold == np.nextafter(nth, np.float32(np.inf))
    # Ties go together: everything up to the n-th is below, nothing above it is.
    assert np.count_nonzero(magnitudes < np.float32(threshold)) == np.count_nonzero(magnitudes <= nth) >= count


def test_the_quantile_of_many_values() -> None:
    arrays = [np.random.default_rng(seed).normal(size=(1000, 300)).astype(np.float32) for seed in range(3)]
    magnitudes = np.abs(np.concatenate([a.ravel() for a in arrays]))
    for count in (1, 12_345, 450_000, 899_999, 900_000):
        nth = np.partition(magnitudes, count - 1)[count - 1]
        assert magnitude_quantile(lambda: arrays, count) == np.nextafter(nth, np.float32(np.inf))


@pytest.fixture
def model() -> keras.Model:
    """Kernels of 12 and 8 weights, biases of 4 and 2: 26 parameters. Every channel has an RMS of 1, some scaled."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")])
    magnitudes = {"a": np.arange(1, 13).reshape(3, 4) / 100, "b": -np.arange(5, 13).reshape(4, 2) / 100}
    for layer in model.layers:
        layer.set_weights([magnitudes[layer.name].astype(np.float32), np.ones(layer.units, np.float32)])
    return model


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {kernel.name.split("/")[-2]: kernel.variable.numpy() for kernel in find_kernels(model)}


def zeros(model: keras.Model) -> dict[str, int]:
    return {name: int(np.sum(weights == 0)) for name, weights in kernels(model).items()}


def lamp(weights: np.ndarray) -> np.ndarray:
    """Squares of weights over the RMS of their column, over the sum of those not smaller: by definition."""
    power = weights.astype(np.float64) ** 2
    power /= np.mean(power, 0)
    return power / np.array([power[power >= p].sum() for p in power.ravel()]).reshape(power.shape)


def test_a_threshold_prunes_what_is_smaller_and_nothing_else(model: keras.Model) -> None:
    before = kernels(model)
    threshold = float(np.float32(0.06))  # a weight of exactly that survives
    prune_model(model, threshold=threshold)
    for name, weights in kernels(model).items():
        np.testing.assert_array_equal(weights, np.where(np.abs(before[name]) < threshold, 0, before[name]))
        np.testing.assert_array_equal(model.get_layer(name).bias.numpy(), 1)
    assert zeros(model) == {"a": 5, "b": 1}
    prune_model(model, threshold=0.0)
    assert zeros(model) == {"a": 5, "b": 1}


@pytest.mark.parametrize("count", [0, 1, 4, 7, 13, 16])
def test_a_global_share_is_of_all_parameters_by_lamp_scores(model: keras.Model, count: int) -> None:
    """26 parameters, 6 of them biases, which are counted and never pruned."""
    before = kernels(model)
    scores = np.sort(np.concatenate([lamp(weights).ravel() for weights in before.values()]))
    prune_model(model, sparsity=count / 26)
    for name, weights in kernels(model).items():
        pruned = lamp(before[name]) < (scores[count - 1] * (1 + 1e-6) if count else 0)
        np.testing.assert_array_equal(weights, np.where(pruned, 0, before[name]))
    assert sum(zeros(model).values()) == count  # no ties in this model


def test_channels_of_another_scale_are_pruned_alike(model: keras.Model) -> None:
    """As outputs of a PCA whitening are: scaling a channel does not change which of its weights go."""
    layer = model.get_layer("a")
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 4)).astype(np.float32)
    kept = []
    for scales in ([1, 1, 1, 1], [1, 4, 0.25, 1]):
        layer.kernel.assign(weights * np.float32(scales))
        prune_model(model, sparsity=0.5, scope="layer", layers="a")
        kept.append(layer.kernel.numpy() != 0)
    np.testing.assert_array_equal(*kept)
    assert kept[0].sum() == 6


def test_a_share_of_each_layer_and_of_some(model: keras.Model) -> None:
    prune_model(model, sparsity=0.25, scope="layer", sparsity_for={"*": 0.75, "b": 0.5})
    assert zeros(model) == {"a": 9, "b": 4}
    prune_model(model, sparsity=0.25, scope="layer")  # what is pruned stays pruned, and counts
    assert zeros(model) == {"a": 9, "b": 4}


@pytest.mark.parametrize(
    "layers, expected",
    [("*", {"a", "b"}), ("a", {"a"}), ("*/kernel", {"a", "b"}), ("!a", {"b"}), ("*,!b", {"a"}), (" b , !a", {"b"})],
)
def test_layers_by_patterns(model: keras.Model, layers: str, expected: set[str]) -> None:
    prune_model(model, threshold=0.06, layers=layers)
    assert {name for name, count in zeros(model).items() if count} == expected


BAD = [
    ({"threshold": 1.0}, "leaves nothing of .*a/kernel .*largest magnitude 0.12"),
    ({"threshold": 0.1201}, "leaves nothing of .*a/kernel"),
    ({"threshold": 0.1201, "layers": "b"}, "leaves nothing of .*b/kernel"),
    ({"sparsity": 20 / 26}, "leaves nothing of"),
    ({"sparsity": 0.9}, "only 0.769 of the parameters can be pruned"),
    ({"sparsity": 0.9, "layers": "b"}, "only 0.308 of the parameters can be pruned"),
    ({"sparsity": 0.99, "sparsity_scope": "layer"}, "leaves nothing of .*a/kernel"),
    ({"sparsity": 0.1, "sparsity_scope": "layer", "sparsity_for": {"b": 0.99}}, "leaves nothing of .*b/kernel"),
    ({"threshold": -1.0}, "threshold=-1.0: a finite magnitude, at least 0"),
    ({"threshold": float("nan")}, "threshold=nan"),
    ({"sparsity": 1.0}, "at least 0 and below 1"),
    ({"sparsity": -0.1}, "at least 0 and below 1"),
    ({"sparsity": float("nan")}, "at least 0 and below 1"),
    ({"sparsity": 0.1, "sparsity_scope": "layer", "sparsity_for": {"b": 1.5}}, "sparsity=1.5"),
    (
        {"sparsity": 0.1, "sparsity_scope": "layer", "sparsity_for": {"c": 0.5}},
        "no layer matches 'c'; there are [^ ]*/?a, [^ ]*/?b",
    ),
    ({"threshold": 0.06, "layers": "a,whitening*"}, r"no layer matches 'whitening\*'; there are [^ ]*/?a, [^ ]*/?b"),
    ({"threshold": 0.06, "layers": "!c"}, "no layer matches 'c'"),
    ({"threshold": 0.06, "layers": "!*"}, "leave nothing to compress"),
    ({"threshold": 0.06, "bits_for": {"c": 3}}, "no layer matches 'c'"),
]


@pytest.mark.parametrize("options, message", BAD)
def test_a_mistake_is_one_line_and_leaves_the_model_as_it_was(model: keras.Model, options, message: str) -> None:
    before = model.get_weights()
    with pytest.raises(ValueError, match=message) as error:
        compress(model, Recipe(**options))
    assert "\n" not in str(error.value)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"bits": 9}, "bits=9: a whole number from 2 to 8"),
        ({"bits": 4.5}, "bits=4.5: a whole number from 2 to 8"),
        ({"bits": True}, "bits=True: a whole number from 2 to 8"),
        ({"bits": math.nan}, "bits=nan: a whole number from 2 to 8"),
        ({"bits_for": {"a": 1}}, "bits=1: a whole number from 2 to 8"),
        ({"refresh": -1}, "refresh=-1: a whole number, at least 0"),
        ({"refresh": 1.5}, "refresh=1.5: a whole number"),
        ({"refresh": math.nan}, "refresh=nan: a whole number"),
        ({"l1": -1.0}, "l1=-1.0: a finite number, at least 0"),
        ({"l1": math.nan}, "l1=nan: a finite number"),
        ({"l1": math.inf}, "l1=inf: a finite number"),
        ({"l1_for": {"a": -1e-9}}, "l1=-1e-09: a finite number"),
        ({"l1": "1e-7"}, "l1='1e-7': a finite number"),
        ({"threshold": -1.0}, "threshold=-1.0: a finite magnitude, at least 0"),
        ({"threshold": math.nan}, "threshold=nan: a finite magnitude"),
        ({"threshold": math.inf}, "threshold=inf: a finite magnitude"),
        ({"sparsity": 1.5}, "sparsity=1.5: a share, at least 0 and below 1"),
        ({"sparsity": 1.0}, "sparsity=1.0: a share"),
        ({"sparsity": -0.1}, "sparsity=-0.1: a share"),
        ({"sparsity": math.nan}, "sparsity=nan: a share"),
        ({"sparsity": 0.1, "sparsity_scope": "layer", "sparsity_for": {"a": 2.0}}, "sparsity=2.0: a share"),
        ({"sparsity": 0.5, "threshold": 0.1}, "not both"),
        ({"sparsity_scope": "channel"}, "sparsity_scope 'channel': global or layer"),
        ({"schedule": "linear"}, "schedule 'linear': constant or polynomial"),
        ({"grid": "int4"}, "grid 'int4': int8 or none"),
        ({"sparsity": 0.1, "sparsity_for": {"a": 0.5}}, "the scope layer"),
    ],
)
def test_recipes_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Recipe(**options)
    assert "\n" not in str(error.value)


def test_neither_or_both(model: keras.Model) -> None:
    for options in ({}, {"threshold": 0.1, "sparsity": 0.1}):
        with pytest.raises(ValueError, match="give a threshold or a sparsity"):
            prune_model(model, **options)


def test_a_large_kernel_is_pruned_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in one piece."""
    weights = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * np.float32([1, 2, 3, 4, 5, 6])
    results = []
    for block in (2**22, 24):
        monkeypatch.setattr(channels, "BLOCK", block)
        model = keras.Sequential([keras.Input((50,)), keras.layers.Dense(6)])
        model.layers[0].kernel.assign(weights)
        prune_model(model, sparsity=0.4)
        results.append(model.layers[0].kernel.numpy())
    np.testing.assert_array_equal(*results)
    assert np.sum(results[0] == 0) == round(0.4 * 306)


def test_kernels_are_found_in_nested_models_once_and_with_their_output_axis() -> None:
    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.DepthwiseConv2D(3, padding="same")], name="inner")
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, name="conv")(inner(inner(inputs)))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(x))
    found = find_kernels(model)
    assert sorted((tuple(k.variable.shape), k.channel_axis) for k in found) == [((3, 3, 3, 1), 2), ((3, 3, 3, 5), 3)]
    assert len({k.name for k in found}) == 2
