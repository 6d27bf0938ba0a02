"""What compression costs in mAP, of a tiny network: figures that agree with each other, and a run that goes on."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tfplaces import datasets
from tfplaces.benchmarks import accuracy
from tfplaces.benchmarks.accuracy import measure_accuracy
from tfplaces.benchmarks.tables import format_result
from tfplaces.describers import KerasDescriber
from tfplaces.evaluation import evaluate
from tfplaces.models import PlaceNet
from tfplaces.opening import load_place_net
from tfplaces.training import WorkDir

SPARSITY = 0.6
ROWS = {"2 bits, 60 %": (SPARSITY, 2, 2)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run over two seeds that is interrupted before the second, and the same call once more."""
    folder = tmp_path_factory.mktemp("accuracy")
    keras.utils.set_random_seed(0)
    path = str(folder / "net.keras")
    PlaceNet("squeezenet", clusters=3, input_size=(48, 64), cut="fire2", whitening=8).save(path)
    sets = [datasets.cached(datasets.load_dataset(f"toytown?places={places}")) for places in (5, 7)]
    compress, made = accuracy.compress, []

    def counted(model, recipe, tune):
        if len(made) == 1:
            made.append(None)
            raise KeyboardInterrupt
        made.append(recipe)
        return compress(model, recipe, tune)

    def measure() -> list[dict]:
        return measure_accuracy([path], sets, WorkDir(folder / "work"), seeds=(4, 5))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "ROWS", ROWS)
        patch.setattr(accuracy, "compress", counted)
        with pytest.raises(KeyboardInterrupt):
            measure()
        rows = measure()
    return SimpleNamespace(folder=folder, path=path, sets=sets, made=made, rows=rows)


def test_a_run_goes_on_where_it_stopped(measured: SimpleNamespace) -> None:
    first, stopped, second = measured.made
    assert stopped is None
    # First layers keep 8 bits.
    assert first.bits_for == second.bits_for == {"conv1": 8}
    assert sorted(os.listdir(measured.folder / "work")) == ["0-0-4.json", "0-0-5.json", "0-float.json"]


def test_the_first_row_is_the_float_network(measured: SimpleNamespace) -> None:
    describer = KerasDescriber(load_place_net(measured.path))
    row = measured.rows[0]
    assert row["row"] is None and row["drop"] == 0 and row["bytes"] is None
    assert row["map"] == pytest.approx({d.spec: evaluate(describer, d).map for d in measured.sets})


def test_figures_agree_with_each_other(measured: SimpleNamespace) -> None:
    base, row = measured.rows
    assert row["row"] in ROWS
    for spec, drop in row["drops"].items():
        assert drop == pytest.approx(base["map"][spec] - row["map"][spec])
    low, high = row["drop_interval"]
    assert row["drop"] == pytest.approx(np.mean(list(row["drops"].values()))) and low <= row["drop"] <= high
    # Of all parameters; sharing makes some more weights zero.
    assert 100 * SPARSITY <= row["pruned"] < 100 * SPARSITY + 2
    assert row["bytes"] < 4 * row["parameters"] / 5
    # The standard error of a mean of two is half their difference.
    of_seeds = []
    for seed in (4, 5):
        with open(measured.folder / "work" / f"0-0-{seed}.json") as file:
            precisions = json.load(file)["precisions"]
        of_seeds.append(np.mean([np.mean(values) for values in precisions]))
    assert row["drop_error"] == pytest.approx(abs(of_seeds[0] - of_seeds[1]) / 2)


def test_the_table(measured: SimpleNamespace) -> None:
    *_, head, base, last = format_result({"accuracy": measured.rows}).splitlines()
    assert head.split()[-4:] == ["toytown?places=5", "toytown?places=7", "MB", "bits/parameter"]
    assert base.endswith("  ".join(f"{value:>16.1f}" for value in measured.rows[0]["map"].values()))
    row = measured.rows[1]
    assert row["row"] in last and last.endswith(f"{8 * row['bytes'] / row['parameters']:.3f}")
    assert "{:.1f} to {:.1f}".format(*np.round(row["drop_interval"], 1) + 0.0) in last
