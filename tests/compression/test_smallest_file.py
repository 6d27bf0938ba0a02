"""The search for the smallest file, on a tiny network and a tiny town: three trials of one epoch."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.compression import Compressed, Distillation, Recipe, save_places, search
from tfplaces.datasets import PlaceDataset, cached, load_dataset
from tfplaces.describers import describe_images
from tfplaces.describers.keras import KerasDescriber
from tfplaces.models import PlaceNet
from tfplaces.training import WorkDir, initialize_netvlad

module = importlib.import_module("tfplaces.compression.smallest_file")
TRIALS = 3


@pytest.fixture(scope="module")
def town() -> PlaceDataset:
    return cached(load_dataset("toytown?places=8"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    options = tuple((bits, sparsity) for bits in (2, 4, 6) for sparsity in (0.0, 0.5, 0.9))
    for name, value in {"TRIALS": TRIALS, "OPTIONS": options, "_PROBES": 8}.items():
        monkeypatch.setattr(module, name, value)


def network(town: PlaceDataset) -> PlaceNet:
    keras.utils.set_random_seed(0)
    model = PlaceNet("squeezenet", clusters=4, input_size=(48, 64), cut="fire2")
    initialize_netvlad(model, [town.database], sharpness=1.0)
    return model


def find(town: PlaceDataset, folder: Path, drop: float, recipe: Recipe | None = None, callbacks=()):
    model = network(town)
    tune = Distillation(model, town.database, epochs=1, learning_rate=1e-4)
    return model, search(model, [town], drop, recipe or Recipe(), tune, WorkDir(folder), callbacks=callbacks)


def half_map(model: keras.Model, town: PlaceDataset, parity: int) -> float:
    """Mean of the precision at each hit, over the queries of every second place; a place has three, one by one."""
    describer = KerasDescriber(model)
    queries, database = (describe_images(describer, images) for images in (town.queries, town.database))
    precisions = []
    for q in (q for q in range(len(queries)) if q // 3 % 2 == parity):
        hits = np.isin(np.argsort(-(database @ queries[q]), kind="stable"), town.positives[q])
        precisions.append(np.mean((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits]))
    return 100 * float(np.mean(precisions))


class Interrupt(keras.callbacks.Callback):
    """Interrupts after some fits. It counts in an iterator: a number would be taken up by the run that goes on."""

    def __init__(self, fits: int):
        super().__init__()
        self.fits = iter(range(fits))

    def on_train_begin(self, logs=None):
        if next(self.fits, None) is None:
            raise KeyboardInterrupt


def test_the_smallest_file_within_the_target(town: PlaceDataset, tmp_path: Path, capsys) -> None:
    """Of the trials; its drops are those measured another way; an interrupted search ends with the same file."""
    target = 4.0
    model, found = find(town, tmp_path / "whole", target)
    tried = json.loads((tmp_path / "whole" / "search.json").read_text())
    assert capsys.readouterr().err.count(f" of {TRIALS}: ") == TRIALS
    recipes = {json.dumps(trial["recipe"]) for trial in tried}
    assert 1 < len(tried) == len(recipes) <= TRIALS  # rates that come to the same are tried once
    assert not list((tmp_path / "whole").glob("trial?"))  # as large as the network, each
    within = [trial for trial in tried if trial["drop_first_half"] <= target]
    assert within, tried
    size = save_places(tmp_path / "whole.places", found)
    assert 8 * size / model.count_params() == pytest.approx(min(t["bits_per_parameter"] for t in within), rel=0.01)
    for half, parity in (("first", 1), ("second", 0)):
        drop = half_map(network(town), town, parity) - half_map(found.model, town, parity)
        assert found.provenance[f"drop_{half}_half"] == pytest.approx(drop, abs=1e-3)
    assert found.provenance["drop_first_half"] <= target
    for ours, theirs in zip(model.get_weights(), network(town).get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # A trial prunes and shares, which are two fits, or only shares: interrupted after the first trial.
    with pytest.raises(KeyboardInterrupt):
        find(town, tmp_path / "work", target, callbacks=[Interrupt(3)])
    done = json.loads((tmp_path / "work" / "search.json").read_text())
    assert 1 <= len(done) < TRIALS and done == tried[: len(done)]
    counted = Interrupt(10)
    _, again = find(town, tmp_path / "work", target, callbacks=[counted])
    assert 10 - len(list(counted.fits)) <= 2 * (TRIALS - len(done))
    save_places(tmp_path / "again.places", again)
    assert (tmp_path / "again.places").read_bytes() == (tmp_path / "whole.places").read_bytes()


def test_no_candidate_is_one_line(town: PlaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIALS", 1)
    with pytest.raises(
        ValueError, match=r"within a drop of -100\.0 points; fine-tune for more epochs, or allow"
    ) as error:
        find(town, tmp_path / "work", -100.0)
    assert "\n" not in str(error.value) and "best.places" not in os.listdir(tmp_path / "work")


def test_layers_that_are_left_out_stay(town: PlaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIALS", 1)
    _, found = find(town, tmp_path / "work", 100.0, Recipe(layers="*,!conv1", grid="none"))
    assert "conv1/kernel" not in found.shared and len(found.shared) > 3
    assert isinstance(found, Compressed) and found.provenance["grid"] == "none"


def test_bits_go_where_they_matter() -> None:
    """Two kernels of one size and kind, one a hundred times as sensitive, within the budget of bits."""
    rng = np.random.default_rng(0)
    kernel = module.Kernel("k", None, 1)
    layers = []
    for name, sensitivity in (("robust", 0.01), ("fragile", 1.0)):
        weights = rng.normal(size=(200, 20)).astype(np.float32)
        rates, errors = module._kernel_options(weights, kernel, "int8")
        assert np.all(errors >= 0) and np.all(rates <= [bits for bits, _ in module.OPTIONS])
        layers.append(module._Layer(name, 4000, rates * 4000, errors * sensitivity))
    spent = []
    for rate in (0.9, 1.8, 3.6):
        recipe = module._allocate(layers, Recipe(grid="none"), rate)
        chosen = {n: (recipe.bits_for[n], recipe.sparsity_for.get(n, 0.0)) for n in ("robust", "fragile")}
        rates = {layer.name: layer.rates[module.OPTIONS.index(chosen[layer.name])] for layer in layers}
        assert sum(rates.values()) <= rate * 8000 and rates["robust"] <= 1.05 * rates["fragile"]
        assert recipe.grid == "none" and recipe.sparsity_scope == "layer"
        spent.append(sum(rates.values()))
        if rate == 1.8:
            assert rates["robust"] < 0.7 * rates["fragile"]
    assert spent == sorted(spent) and spent[-1] > 2 * spent[0]
