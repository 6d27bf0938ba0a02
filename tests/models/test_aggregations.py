"""What comes after the backbone: each aggregation against its formula in numpy, in a network, and in a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfplaces.coding.places import check_config
from tfplaces.common.errors import UserError
from tfplaces.compression import Recipe, compress, find_kernels, load_compressed, save_places
from tfplaces.describers import KerasDescriber
from tfplaces.models import AGGREGATIONS, PlaceNet
from tfplaces.models.aggregations import parse_aggregation
from tfplaces.models.summary import summarize
from tfplaces.opening import load_model

SIZE = (48, 64)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype(np.float32)
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "convap": [{"channels": 6, "grid": 2}, {"channels": 3, "grid": 1}],
    "gem": [{"linear": 0, "l2_first": False}, {"linear": 7, "l2_first": True}],
    "mixvpr": [{"channels": 6, "rows": 2, "depth": 2}],
    "netvlad": [{"clusters": 3, "assignment_bias": True}],
}
CASES = [(kind, options) for kind, all_options in OPTIONS.items() for options in all_options]


def network(kind: str, options: dict[str, Any], **others: Any) -> PlaceNet:
    keras.utils.set_random_seed(0)
    return PlaceNet("squeezenet", aggregation=kind, cut="fire4", input_size=SIZE, **options, **others)


def weights(model: PlaceNet) -> dict[str, np.ndarray]:
    return {f"{layer.name}/{w.name}": w.numpy() for layer in model.head_layers for w in layer.weights}


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def aggregated(kind: str, options: dict[str, Any], x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    """The formulas of the publications, in float64, of features `[n, height, width, channels]`."""
    if kind == "gem":
        x = unit(x) if options["l2_first"] else x
        y = np.mean(np.maximum(x, 1e-6) ** w["gem/p"], axis=(1, 2)) ** (1 / w["gem/p"])
        return unit(y @ w["linear/kernel"] + w["linear/bias"] if options["linear"] else y)
    if kind == "convap":
        y = x @ w["channel_pooling/kernel"] + w["channel_pooling/bias"]
        rows, columns = (np.array_split(np.arange(n), options["grid"]) for n in y.shape[1:3])  # the sizes here divide
        return unit(
            np.stack([y[:, r][:, :, c].mean(axis=(1, 2)) for r in rows for c in columns], axis=-1).reshape(len(x), -1)
        )
    if kind == "mixvpr":
        y = x.reshape(len(x), -1, x.shape[-1]).transpose(0, 2, 1)
        for k in range(options["depth"]):
            z = (y - y.mean(axis=-1, keepdims=True)) / np.sqrt(y.var(axis=-1, keepdims=True) + 1e-5)
            z = z * w[f"mixer_{k}_norm/gamma"] + w[f"mixer_{k}_norm/beta"]
            z = np.maximum(z @ w[f"mixer_{k}_expand/kernel"] + w[f"mixer_{k}_expand/bias"], 0)
            y = y + z @ w[f"mixer_{k}_project/kernel"] + w[f"mixer_{k}_project/bias"]
        y = y.transpose(0, 2, 1) @ w["channel_projection/kernel"] + w["channel_projection/bias"]
        y = y.transpose(0, 2, 1) @ w["row_projection/kernel"] + w["row_projection/bias"]
        return unit(y.reshape(len(x), -1))
    x = unit(x).reshape(len(x), -1, x.shape[-1])
    logits = x @ w["netvlad/assignment"][0, 0] + w["netvlad/bias"]
    a = np.exp(logits - logits.max(axis=-1, keepdims=True))
    a /= a.sum(axis=-1, keepdims=True)
    v = np.einsum("bnk,bnkd->bkd", a, x[:, :, None] - w["netvlad/centroids"])
    return unit(unit(v).reshape(len(x), -1))


def test_every_aggregation_is_tried_here() -> None:
    assert OPTIONS.keys() == AGGREGATIONS.keys()
    for kind, options in CASES:
        assert options.keys() == {field.name for field in dataclasses.fields(AGGREGATIONS[kind])}


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_is_its_formula(kind: str, options: dict[str, Any]) -> None:
    model = network(kind, options)
    rng = np.random.default_rng(1)
    for layer in model.head_layers:
        layer.set_weights([w + rng.normal(0, 0.1, w.shape) for w in layer.get_weights()])
    features = keras.Model(model.inputs[0], model.feature_layer.output)(IMAGES).numpy().astype(np.float64)
    found = model(IMAGES).numpy()
    assert found.shape == (2, model.descriptor_dim)
    np.testing.assert_allclose(found, aggregated(kind, options, features, weights(model)), atol=2e-5)


@pytest.mark.parametrize("whitening", [0, 5])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_stays_the_same_in_keras_and_places_files(
    kind: str, options: dict[str, Any], whitening: int, tmp_path: Path
) -> None:
    source = {"file": "network.pth", "sha256": "0" * 64, "kind": "cosplace", "licence": "MIT"}
    model = network(
        kind, options, whitening=whitening, scale=(0.01, 0.02, 0.03), norm="torch", source=source,
    )  # fmt: skip
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config() and loaded.config["source"] == source
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
    compressed = compress(model, Recipe(bits=8))
    assert set(compressed.shared) == {kernel.name for kernel in find_kernels(model)}
    save_places(tmp_path / "model.places", compressed)
    again = load_compressed(tmp_path / "model.places")
    assert again.model.config == {**model.config, "input_size": SIZE}
    np.testing.assert_array_equal(again.model(IMAGES), compressed.model(IMAGES))


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_its_layers_are_the_head_and_are_summarized(kind: str, options: dict[str, Any]) -> None:
    model = network(kind, options, whitening=5)
    head = [layer.name for layer in model.head_layers]
    assert head[-2:] == ["whitening", "descriptor"] and model.feature_layer in model.backbone_layers
    assert [layer.name for layer in model.layers] == [
        "image", "preprocessing", *(layer.name for layer in model.backbone_layers), *head,
    ]  # fmt: skip
    rows = {row.name: row for row in summarize(model)}
    assert sum(row.parameters for row in rows.values()) == model.count_params()
    assert rows["whitening"].multiply_adds == 5 * model.get_layer("whitening").input.shape[-1]


def test_multiply_adds_of_mixvpr_by_hand() -> None:
    """fire4 of a 48x64 image has 256 channels, after conv1 (7, stride 2) and two poolings (3, stride 2)."""
    rows = {row.name: row for row in summarize(network("mixvpr", OPTIONS["mixvpr"][0]))}
    height, width, channels = rows["fire4"].output_shape
    n = height * width
    assert rows["mixer_0_expand"].multiply_adds == channels * n * n
    assert rows["channel_projection"].multiply_adds == n * channels * 6
    assert rows["row_projection"].multiply_adds == 6 * n * 2


def test_mixvpr_takes_one_size_only() -> None:
    """Neither one of another number of places nor one of as many, as 64x48 has, is taken."""
    model = network("mixvpr", OPTIONS["mixvpr"][0])
    for size in ((64, 48), (48, 96)):
        with pytest.raises(UserError, match=r"the model cannot take images of"):
            KerasDescriber(model, size)
        run = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            run(np.zeros((1, *size, 3), np.float32))
    with pytest.raises(UserError, match=r"input_size=64x48: MixVPR 6x2 has weights for the places .* 48x64 only"):
        summarize(model, (64, 48))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vlad", "aggregation 'vlad' is not known; there are convap, gem, mixvpr, netvlad"),
        ("gem?units=3", "unknown option 'units'; gem has linear, l2_first"),
        ("gem?linear=-1", "gem: linear=-1, a whole number from 0"),
        ("mixvpr?rows=0", "mixvpr: rows=0, a whole number from 1"),
        ("convap?channels=many", "channels=many is not a whole number"),
        ("netvlad?clusters", "options are key=value"),
    ],
)
def test_specs_that_name_none(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_aggregation(spec)


def test_specs() -> None:
    assert parse_aggregation("gem?linear=512&l2_first=yes").options == {"linear": 512, "l2_first": True}
    assert parse_aggregation("netvlad").title == "NetVLAD64"
    assert [parse_aggregation(spec).title for spec in ("gem", "gem?linear=9", "mixvpr?rows=2", "convap")] == [
        "GeM", "GeM + linear 9", "MixVPR 1024x2", "ConvAP 512x2x2",
    ]  # fmt: skip


def test_options_of_another_aggregation_are_refused() -> None:
    with pytest.raises(UserError, match="gem has no option 'clusters'; it has linear, l2_first"):
        PlaceNet("squeezenet", aggregation="gem", clusters=4)


def test_a_map_smaller_than_the_bins_is_refused() -> None:
    with pytest.raises(UserError, match="convap: a map of 2x2 has no 4x4 bins"):
        PlaceNet("squeezenet", aggregation="convap", grid=4, input_size=(64, 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregation": "bow"}, "aggregation of its PlaceNet is not one of"),
        ({"aggregation": ["gem"]}, "aggregation of its PlaceNet is not one of"),
        ({"clusters": 4}, "'clusters' is nothing that describes a PlaceNet"),
        ({"linear": True}, "linear of its PlaceNet is not a whole number"),
        ({"l2_first": 1}, "l2_first of its PlaceNet is not true or false"),
        ({"scale": [1, 2]}, "scale of its PlaceNet is not a number, or a list of three"),
        ({"norm": 3}, "norm of its PlaceNet is not the name"),
        ({"source": {"url": "x"}}, "source of its PlaceNet is not short texts"),
        ({"source": {"file": "a\x1b[2J"}}, "source of its PlaceNet is not short texts"),
        ({"source": {"licence": "x" * 161}}, "source of its PlaceNet is not short texts"),
    ],
)
def test_descriptions_that_no_places_file_may_have(changes: dict[str, Any], message: str) -> None:
    config = network("gem", OPTIONS["gem"][1]).description
    check_config("a.places", config)
    with pytest.raises(UserError, match=message):
        check_config("a.places", {**config, **changes})


@pytest.mark.parametrize(
    ("kind", "options", "dim", "kept"),
    [
        ("gem", {"linear": 7, "l2_first": False}, 3, {"linear": 3}),
        ("mixvpr", {"channels": 6, "rows": 2, "depth": 1}, 8, {"channels": 4}),
        ("convap", {"channels": 6, "grid": 2}, 8, {"channels": 2}),
    ],
)
def test_truncation_keeps_the_first_numbers(kind: str, options: dict[str, Any], dim: int, kept: dict[str, int]) -> None:
    made = AGGREGATIONS[kind](**options).truncated(dim)
    assert made.options == {**options, **kept}


@pytest.mark.parametrize(
    ("kind", "options", "dim", "message"),
    [
        ("netvlad", {}, 3, "NetVLAD64 has no linear layer"),
        ("gem", {}, 3, "GeM has no linear layer"),
        ("gem", {"linear": 4}, 5, "GeM \\+ linear 4 has 4 dimensions, of which the first can be kept"),
        ("mixvpr", {"channels": 6, "rows": 4}, 6, "has 24 dimensions, of which multiples of 4 can be kept"),
        ("convap", {"channels": 6}, 28, "has 24 dimensions, of which multiples of 4 can be kept"),
    ],
)
def test_truncation_that_cannot_be(kind: str, options: dict[str, Any], dim: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        AGGREGATIONS[kind](**options).truncated(dim)
