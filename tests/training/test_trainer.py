"""Training a tiny network on a tiny town."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfplaces.datasets import PlaceDataset, cached, load_dataset
from tfplaces.describers.keras import KerasDescriber
from tfplaces.evaluation import evaluate
from tfplaces.models import PlaceNet
from tfplaces.training import MinedPairs, initialize_netvlad, judging, train

SIZE = (48, 64)


@pytest.fixture(scope="module")
def town() -> PlaceDataset:
    return cached(load_dataset("toytown?places=6"))


def network(town: PlaceDataset) -> PlaceNet:
    keras.utils.set_random_seed(0)
    model = PlaceNet("squeezenet", clusters=4, input_size=SIZE, cut="fire2")
    initialize_netvlad(model, [town.database], sharpness=1.0)
    return model


def test_training_improves_and_the_best_epoch_is_kept(town: PlaceDataset, tmp_path) -> None:
    model = network(town)
    before = evaluate(KerasDescriber(model), town).map
    history = train(model, MinedPairs(model, town, pairs=6), town, epochs=3, learning_rate=3e-3)
    assert len(history) == 4 and history[0] == pytest.approx(before)
    assert max(history) > history[0] + 8  # from about 33 to about 50
    assert evaluate(KerasDescriber(model), town).map == pytest.approx(max(history))
    # Nothing of the training stays with the model.
    assert getattr(model, "optimizer", None) is None
    model.save(tmp_path / "model.keras")
    assert (tmp_path / "model.keras").stat().st_size < 4.4 * model.count_params() + 3e5


@pytest.mark.parametrize("scores, best", [([50, 60, 40], 1), ([50, 20, 10], 0), ([50, 50, 40], 1)])
def test_the_weights_are_those_of_the_best_epoch(
    town: PlaceDataset, monkeypatch: pytest.MonkeyPatch, scores: list[float], best: int
) -> None:
    """The scores are made up; the weights at the time of each are noted."""
    model = network(town)
    seen: list[list[np.ndarray]] = []

    def score(dataset, queries, database):
        seen.append(model.get_weights())
        return type("Evaluation", (), {"map": scores[len(seen) - 1], "recall": {1: 0.0}})

    monkeypatch.setattr(judging, "score", score)
    assert train(model, MinedPairs(model, town), town, epochs=2, learning_rate=1e-3) == scores
    for k, weights in enumerate(seen):
        same = all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
        assert same == (k == best)


def test_training_is_deterministic_by_seed(town: PlaceDataset) -> None:
    ends = []
    for _ in range(2):
        model = network(town)
        train(model, MinedPairs(model, town, seed=5), town, epochs=1, learning_rate=1e-3)
        ends.append(model.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_training_that_diverges_ends_with_an_error_and_the_best_weights(town: PlaceDataset) -> None:
    model = network(town)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"diverged in epoch 1: .* lower the learning rate, which is 1e\+30"):
        train(model, MinedPairs(model, town), town, epochs=3, learning_rate=1e30)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_epochs_change_nothing(town: PlaceDataset) -> None:
    model = network(town)
    before = model.get_weights()
    assert len(train(model, MinedPairs(model, town), town, epochs=0)) == 1
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
