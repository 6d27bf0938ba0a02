"""A real ImageNet MobileNetV1 on real photos: what it recognises, and what compression and conversion take from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfplaces.compression import Recipe, compress
from tfplaces.datasets import PlaceDataset, Subset, cached, load_dataset
from tfplaces.describers import LiteRTDescriber, describe_images
from tfplaces.describers.keras import KerasDescriber
from tfplaces.evaluation import Evaluation, evaluate
from tfplaces.lite import convert
from tfplaces.models import PlaceNet
from tfplaces.pretrained import load_backbone_weights
from tfplaces.training import initialize_netvlad

pytestmark = pytest.mark.usefixtures("converter_here")

SIZE = (224, 320)


@pytest.fixture(scope="module")
def corridor(tfplaces_data: Path) -> PlaceDataset:
    return cached(load_dataset(f"folder:{tfplaces_data}/corridor"))


@pytest.fixture(scope="module")
def model(tfplaces_data: Path, corridor: PlaceDataset) -> PlaceNet:
    model = PlaceNet("mobilenet_v1", input_size=SIZE)
    load_backbone_weights(model, f"{tfplaces_data}/weights/mobilenet_v1_1.0_224_to_pw11.npz")
    initialize_netvlad(model, [corridor.database])
    return model


@pytest.fixture(scope="module")
def base(model: PlaceNet, corridor: PlaceDataset) -> Evaluation:
    return evaluate(KerasDescriber(model), corridor)


def test_places_are_recognised(base: Evaluation) -> None:
    """A plain VLAD with hard assignment on the same features has recall@1 of 88.3 and mAP of 69.7."""
    assert base.recall[1] >= 85.3 and base.queries == base.database == 111
    assert base.map >= 66


@pytest.fixture(scope="module")
def mixed_int8(model: PlaceNet, corridor: PlaceDataset, tmp_path_factory: pytest.TempPathFactory) -> LiteRTDescriber:
    path = tmp_path_factory.mktemp("real") / "m.tflite"
    convert(model, path, "mixed_int8", calibration=corridor.database)
    return LiteRTDescriber(path, threads=2)


def test_mixed_int8_recognises_as_well(mixed_int8: LiteRTDescriber, base: Evaluation, corridor: PlaceDataset) -> None:
    scores = evaluate(mixed_int8, corridor)
    assert scores.map >= base.map - 2 and scores.recall[1] >= base.recall[1] - 3


@pytest.mark.xfail(reason="measured .79: int8 kernels of one scale a channel alone give .79 in Keras", strict=True)
def test_mixed_int8_describes_alike(mixed_int8: LiteRTDescriber, model: PlaceNet, corridor: PlaceDataset) -> None:
    queries = Subset(corridor.queries, range(0, 111, 8))
    ours, theirs = (describe_images(describer, queries) for describer in (mixed_int8, KerasDescriber(model)))
    assert np.mean(np.sum(ours * theirs, 1)) >= 0.97


# The last, as it changes the model.
def test_eight_bits_lose_at_most_a_point(model: PlaceNet, base: Evaluation, corridor: PlaceDataset) -> None:
    compress(model, Recipe(bits=8))
    assert evaluate(KerasDescriber(model), corridor).map >= base.map - 1
