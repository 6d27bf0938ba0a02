"""Training from a layer on: what is trained within, that all is as before afterwards, and what cannot be named."""

from __future__ import annotations

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import load_dataset
from tfplaces.models import BACKBONES, PlaceNet
from tfplaces.training import MinedPairs, first_trained, initialize_netvlad, train, trained_from


@pytest.fixture(scope="module")
def model() -> PlaceNet:
    return PlaceNet("squeezenet", clusters=4, input_size=(48, 64), cut="fire3", whitening=8)


def trained(model: PlaceNet) -> list[str]:
    return [layer.name for layer in model.layers if layer.trainable_variables]


def test_layers_before_it_are_frozen_within(model: PlaceNet) -> None:
    every = trained(model)
    with trained_from(model, None):
        assert trained(model) == every
    with trained_from(model, "fire3_squeeze1x1"):
        assert trained(model) == every[every.index("fire3_squeeze1x1") :]
        assert "conv1" in every and "fire2_squeeze1x1" not in trained(model)
    assert trained(model) == every
    with trained_from(model, "netvlad"):
        assert trained(model) == ["netvlad", "whitening"]
    with pytest.raises(RuntimeError), trained_from(model, "whitening"):
        assert trained(model) == ["whitening"]
        raise RuntimeError
    assert trained(model) == every


def test_what_was_frozen_stays_so(model: PlaceNet) -> None:
    model.get_layer("conv1").trainable = False
    every = trained(model)
    with trained_from(model, "netvlad"):
        pass
    assert trained(model) == every
    model.get_layer("conv1").trainable = True


@pytest.mark.parametrize(("layer", "message"), [("fire9", "none of that name"), ("descriptor", "weights to train")])
def test_what_is_not_there_is_said(model: PlaceNet, layer: str, message: str) -> None:
    every = trained(model)
    with pytest.raises(UserError, match=message), trained_from(model, layer):
        pass
    assert trained(model) == every


def test_frozen_weights_do_not_move() -> None:
    town = load_dataset("toytown?places=4")
    model = PlaceNet("squeezenet", clusters=4, input_size=(48, 64), cut="fire2")
    initialize_netvlad(model, [town.database])
    before = {layer.name: [np.array(w) for w in layer.get_weights()] for layer in model.layers}
    with trained_from(model, "netvlad"):
        train(model, MinedPairs(model, town, pairs=4), town, epochs=1, learning_rate=1e-3, keep_best=False)
    moved = [
        layer.name
        for layer in model.layers
        if not all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before[layer.name], strict=True))
    ]
    assert moved == ["netvlad"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_has_a_layer_before_its_cut_to_train_from(backbone: str) -> None:
    """About the last third of its layers with weights is behind it."""
    net = PlaceNet(backbone, clusters=2)
    first = first_trained(net)
    assert first == BACKBONES[backbone].train_from
    weighted = [layer.name for layer in net.backbone_layers if layer.weights]
    with trained_from(net, first):
        assert trained(net) == [*weighted[weighted.index(first) :], "netvlad"]
    assert 0.15 < 1 - weighted.index(first) / len(weighted) < 0.6


def test_where_training_begins(model: PlaceNet) -> None:
    """Cut off before its usual layer, SqueezeNet is trained from the third last of its seven layers with weights."""
    assert first_trained(model) == "fire3_squeeze1x1"
    assert first_trained(model, "head") == "netvlad"
    assert first_trained(model, "fire2_squeeze1x1") == "fire2_squeeze1x1"
    assert first_trained(model, "all") is first_trained(model, random=True) is None
    assert first_trained(model, "head", random=True) == "netvlad"
    for wanted in ("fire9", "netvlad"):
        with pytest.raises(UserError, match=f"layer '{wanted}' to train from: squeezenet has none .* up to fire3"):
            first_trained(model, wanted)
