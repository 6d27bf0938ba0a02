"""The benchmark of whitenings agrees with whitenings that networks hold."""

from __future__ import annotations

import keras
import pytest

from tfplaces.benchmarks.whitening import measure_whitening
from tfplaces.datasets import cached, load_dataset
from tfplaces.describers import KerasDescriber
from tfplaces.evaluation import evaluate
from tfplaces.models import PlaceNet
from tfplaces.training import add_whitening


def test_figures_are_those_of_networks_with_the_whitening() -> None:
    """Of each length and power by itself, to the few ten thousandths by which float32 differs."""
    keras.utils.set_random_seed(0)
    model = PlaceNet("squeezenet", clusters=3, input_size=(48, 64), cut="fire2")
    town = cached(load_dataset("toytown?places=8"))
    rows = measure_whitening(model, [town], [town.database], dimensions=[8, 4], powers=[0.25, 0.5])
    assert [(row["dimensions"], row["power"]) for row in rows] == [
        (384, None), (8, 0.25), (8, 0.5), (4, 0.25), (4, 0.5),
    ]  # fmt: skip
    assert rows[0]["map"] == {town.spec: evaluate(KerasDescriber(model), town).map}
    for row in rows[1:]:
        whitened = add_whitening(model, row["dimensions"], [town.database], row["power"])
        assert row["mean"] == row["map"][town.spec]
        assert row["mean"] == pytest.approx(evaluate(KerasDescriber(whitened), town).map, abs=1e-3)
        low, high = row["gain_interval"]
        assert row["gain"] == pytest.approx(row["mean"] - rows[0]["mean"]) and low <= row["gain"] <= high
    assert rows[0]["gain"] is rows[0]["gain_interval"] is None
    assert len({row["mean"] for row in rows}) == 5
