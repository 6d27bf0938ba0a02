"""An interrupted run goes on from its work dir and ends, bit for bit, as one that was not interrupted."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.interruption import Interrupt
from tfplaces.common.errors import UserError
from tfplaces.compression import Compressed, Distillation, Recipe, compress, save_places
from tfplaces.datasets import PlaceDataset, cached, load_dataset
from tfplaces.models import PlaceNet
from tfplaces.training import MinedPairs, TripletTuning, WorkDir, initialize_netvlad, train
from tfplaces.training import checkpoint as checkpoint_module
from tfplaces.training.checkpoint import Checkpoint

SIZE, EPOCHS = (32, 48), 2
RECIPES = {
    "share": Recipe(bits=4, sparsity=0.3, l1=1e-6, refresh=3),
    "threshold": Recipe(bits=4, threshold=0.02, l1_for={"conv1*": 1e-4}, grid="none"),
    "ramp": Recipe(bits=4, sparsity=0.3, schedule="polynomial"),
}


@pytest.fixture(scope="module")
def town() -> PlaceDataset:
    return cached(load_dataset("toytown?places=5"))


def network(town: PlaceDataset) -> PlaceNet:
    keras.utils.set_random_seed(0)
    model = PlaceNet("squeezenet", clusters=2, input_size=SIZE, cut="conv1")
    initialize_netvlad(model, [town.database], sharpness=1.0)
    return model


def tuning(kind: str, model: PlaceNet, town: PlaceDataset):
    options = {"epochs": EPOCHS, "learning_rate": 1e-3, "seed": 3}
    if kind == "triplet":
        return TripletTuning(model, town, town, margin=0.3, pairs=3, **options)
    return Distillation(model, town.database, **options)


class Count(keras.callbacks.Callback):
    """Steps of each epoch."""

    def __init__(self):
        super().__init__()
        self._of_fits: dict[int, int] = {}  # no state that a resumed fit restores

    @property
    def epochs(self) -> list[int]:
        return list(self._of_fits.values())

    def on_epoch_begin(self, epoch, logs=None):
        self._of_fits[len(self._of_fits)] = 0

    def on_train_batch_end(self, batch, logs=None):
        self._of_fits[len(self._of_fits) - 1] += 1


def run(kind: str, recipe: Recipe, town: PlaceDataset, work_dir: Path, callbacks=()) -> Compressed:
    model = network(town)
    return compress(model, recipe, tuning(kind, model, town), work_dir=WorkDir(work_dir), callbacks=callbacks)


def file_bytes(compressed: Compressed, path: Path) -> bytes:
    save_places(path, compressed)
    return path.read_bytes()


SLOW = pytest.mark.slow  # half a minute each


@pytest.mark.parametrize(
    "kind, recipe",
    [
        ("triplet", "threshold"),
        pytest.param("distill", "share", marks=SLOW),
        pytest.param("distill", "ramp", marks=SLOW),
    ],
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(kind: str, recipe: str, town: PlaceDataset, tmp_path: Path):
    """Interrupted in the first and the second epoch of each of the two stages, before and after a checkpoint."""
    count = Count()
    expected = file_bytes(run(kind, RECIPES[recipe], town, tmp_path / "whole", [count]), tmp_path / "whole.places")
    epochs = count.epochs
    assert len(epochs) == 2 * EPOCHS and min(epochs) > 0
    work = tmp_path / "work"
    for step, found in ((1, 0), (epochs[0] + 1, 1), (epochs[1] + 1, 1), (epochs[2] + 1, 2)):
        with pytest.raises(KeyboardInterrupt):
            run(kind, RECIPES[recipe], town, work, [Interrupt(step)])
        assert len(os.listdir(work)) == found, step
    # What is left is the last epoch of the second stage.
    count = Count()
    again = run(kind, RECIPES[recipe], town, work, [count])
    assert count.epochs == epochs[3:]
    assert file_bytes(again, tmp_path / "again.places") == expected
    # And a run that had finished but for its result does not train at all.
    count = Count()
    assert file_bytes(run(kind, RECIPES[recipe], town, work, [count]), tmp_path / "end.places") == expected
    assert not count.epochs


@pytest.mark.slow
def test_training_that_is_interrupted(town: PlaceDataset, tmp_path: Path) -> None:
    """Weights of the best epoch and the history are those of an uninterrupted training."""

    def go(checkpoint: Checkpoint | None, callbacks=()) -> tuple[list[float], list[np.ndarray]]:
        model = network(town)
        batches, options = MinedPairs(model, town, pairs=3, seed=1), {"epochs": 3, "learning_rate": 3e-3}
        history = train(model, batches, town, checkpoint=checkpoint, callbacks=callbacks, **options)
        return history, model.get_weights()

    history, weights = go(None)
    checkpoint = Checkpoint(tmp_path / "train.npz")
    with pytest.raises(KeyboardInterrupt):
        go(checkpoint, [Interrupt(15)])
    assert os.listdir(tmp_path) == ["train.npz"]
    again = go(checkpoint)
    assert again[0] == history and len(history) == 4
    for ours, theirs in zip(again[1], weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def fitted_model(units: int = 3) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    return model


def test_a_checkpoint_holds_the_optimizer_too(tmp_path: Path) -> None:
    model = fitted_model()
    model.fit(np.ones((8, 2)), np.ones((8, 3)), batch_size=2, verbose=0)
    checkpoint = Checkpoint(tmp_path / "a.npz")
    assert checkpoint.restore(model) is None
    checkpoint.save(model, {"epoch": 4}, {"best0": np.arange(3.0)})
    other = fitted_model()
    state = checkpoint.restore(other)
    assert state["epoch"] == 4 and state["best0"].tolist() == [0, 1, 2] and int(other.optimizer.iterations) == 4
    for mine in (model, other):
        mine.fit(np.ones((8, 2)), np.zeros((8, 3)), batch_size=2, verbose=0, shuffle=False)
    for ours, theirs in zip(other.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    checkpoint, model = Checkpoint(path), fitted_model()
    checkpoint.save(fitted_model(units=5), {"epoch": 1})
    before = model.get_weights()
    whole = path.read_bytes()
    for content in (whole, whole[: len(whole) // 2], b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz: not the state of this run .* remove it to start anew"):
            checkpoint.restore(model)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_failure_while_saving_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, model = Checkpoint(tmp_path / "a.npz"), fitted_model()
    checkpoint.save(model, {"epoch": 1})

    def full(*_, **__) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module.np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(model, {"epoch": 2})
    assert checkpoint.restore(model)["epoch"] == 1 and os.listdir(tmp_path) == ["a.npz"]


@pytest.fixture
def make_work_dir(tmp_path: Path) -> Callable[..., WorkDir]:
    (tmp_path / "model").write_bytes(b"weights")
    identity = {"recipe": dataclasses.asdict(RECIPES["share"]), "seed": 0}
    return lambda **changes: WorkDir.of_run(tmp_path / "work", {**identity, **changes}, [tmp_path / "model"])


def test_a_work_dir_is_of_one_run(make_work_dir, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), make_work_dir() as work_dir:
        work_dir.child("trial0")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), make_work_dir() as work_dir:
        assert sorted(os.listdir(work_dir.path)) == ["run.json", "trial0"]
        with pytest.raises(UserError, match=r"work: another run is at work in this folder"):
            make_work_dir()
        raise KeyboardInterrupt
    with pytest.raises(UserError, match=r"work: holds the state of another run, with another seed; remove it"):
        make_work_dir(seed=1)
    (tmp_path / "model").write_bytes(b"other weights")
    with pytest.raises(UserError, match="holds the state of another run, with another sha256"):
        make_work_dir()
    (tmp_path / "model").write_bytes(b"weights")
    with make_work_dir():
        pass
    assert not (tmp_path / "work").exists()
    with pytest.raises(ValueError), make_work_dir():
        raise ValueError("nothing done yet")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_folder_of_something_else_is_no_work_dir(make_work_dir, content: str | None, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ("photo.jpg" if content is None else "run.json")).write_text(content or "")
    with pytest.raises(UserError, match="work: is not the state of a run; remove it"):
        make_work_dir()
    assert len(os.listdir(tmp_path / "work")) == 1


def test_what_a_kill_left_in_the_first_moment_is_no_other_run(make_work_dir, tmp_path: Path) -> None:
    (tmp_path / "work" / ".writing-abc").mkdir(parents=True)
    with make_work_dir() as work_dir:
        assert "run.json" in os.listdir(work_dir.path)
    assert not (tmp_path / "work").exists()
