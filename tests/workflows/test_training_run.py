"""A run of the train tool's stages: stopped anywhere it goes on, without doing a stage again, to the same network."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfplaces import training
from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset, cached, load_dataset
from tfplaces.models import PlaceNet
from tfplaces.opening import load_place_net
from tfplaces.training import Checkpoint, ImageBatches
from tfplaces.workflows import training_run
from tfplaces.workflows.training_recipes import NetVLADRecipe, PlaceBatchesRecipe, TeacherRecipe
from tfplaces.workflows.training_run import TrainingRun

SMALL = {"cut": "fire2", "input_size": (32, 48), "aggregation": "netvlad?clusters=2"}
# What a whole run does: each epoch is kept, and once more the end of the fit.
STAGES = ["assemble", "train", "epoch", "epoch", "epoch", "add_whitening"]


@pytest.fixture(scope="module")
def town() -> PlaceDataset:
    return cached(load_dataset("toytown?places=4&split=train"))


@pytest.fixture(scope="module")
def planned(town: PlaceDataset) -> TrainingRun:
    return TrainingRun(
        backbone="squeezenet", backbone_weights="none", sharpness=None, init_images=[town.database],
        sets=[town, town],
        recipe=PlaceBatchesRecipe(epochs=2, learning_rate=1e-3, places_in_batch=3, images_of_place=2, places="labels"),
        whitening=4, whitening_power=0.25, whitening_images=[town.database], seed=3, **SMALL,
    )  # fmt: skip


class Stop(Exception):
    """Stands for a kill."""


class Watch:
    """Notes what a run does, and stops it where it has done so much."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.done: list[str] = []
        self.limit = len(STAGES)
        for module, name in ((training_run, "assemble"), (training, "train"), (training_run, "add_whitening")):
            monkeypatch.setattr(module, name, self._watched(name, getattr(module, name)))
        monkeypatch.setattr(Checkpoint, "save", self._watched("epoch", Checkpoint.save))

    def _watched(self, name: str, function):
        def call(*arguments, **options):
            if len(self.done) == self.limit:
                raise Stop
            self.done.append(name)
            return function(*arguments, **options)

        return call


def test_a_run_that_is_stopped_goes_on_to_the_same_network(
    planned: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)

    def weights(name: str) -> list[np.ndarray]:
        watch.done = []
        path = tmp_path / f"{name}.keras"
        planned.make(str(path), str(tmp_path / f"{name}.work"))
        assert not (tmp_path / f"{name}.work").exists()
        return load_place_net(path).get_weights()

    expected = weights("a")
    assert watch.done == STAGES
    for done in (STAGES[:1], STAGES[1:5]):
        watch.limit = len(done)
        with pytest.raises(Stop):
            weights("b")
        assert watch.done == done and not (tmp_path / "b.keras").exists()
    watch.limit = len(STAGES)
    for ours, theirs in zip(weights("b"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert watch.done == STAGES[5:]


# What a kill could lose: slots of the optimizer, gradients that are being accumulated, the scale of the loss, the place
# in the schedule, what images were changed into, what batches remember, and how long there was no better epoch.
KILLED = {
    "place_batches": PlaceBatchesRecipe(
        epochs=3, learning_rate=1e-3, optimizer="adamw", weight_decay=0.01, schedule="steps?epochs=1&factor=0.5",
        warm_up=3, augmentation="rand_augment?operations=2&magnitude=10", precision="mixed_float16", accumulate=3,
        patience=2, places_in_batch=2, images_of_place=2, train_from="fire2_expand1x1",
    ),
    "features": PlaceBatchesRecipe(
        epochs=3, learning_rate=1e-3, places_in_batch=2, images_of_place=2, train_from="fire2_expand1x1", versions=2
    ),
    "netvlad": NetVLADRecipe(epochs=3, augmentation="crop_jitter", accumulate=2, patience=1, margin=0.5),
    "teacher": TeacherRecipe(epochs=3, precision="mixed_bfloat16"),
    "teacher of another kind": TeacherRecipe(epochs=3, versions=1, augmentation="none"),
}  # fmt: skip


@pytest.mark.parametrize(
    "method",
    ["place_batches", *(pytest.param(method, marks=pytest.mark.slow) for method in [*KILLED][1:])],
)
def test_a_training_that_is_killed_ends_as_one_that_is_not(
    method: str, planned: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed within the second epoch, and again between the second and the third: all that is kept is the same."""
    recipe = KILLED[method]
    if isinstance(recipe, TeacherRecipe):
        aggregation = {"clusters": 2} if method == "teacher" else {"aggregation": "gem"}
        teacher = PlaceNet("squeezenet", cut="fire3", input_size=(32, 32), whitening=3, **aggregation)
        teacher.save(tmp_path / "t.keras")
        recipe = dataclasses.replace(recipe, teacher=str(tmp_path / "t.keras"))
    run = dataclasses.replace(planned, recipe=recipe, whitening=0)
    kept: list[dict[str, np.ndarray]] = []
    steps: list[int] = []
    kill = ""

    def step_done(self: ImageBatches, step: int) -> None:
        steps.append(step)
        if kill == "in an epoch" and len(kept) == 1:
            raise Stop
        done(self, step)

    def save(self: Checkpoint, *arguments: Any, **options: Any) -> None:
        saved(self, *arguments, **options)
        with np.load(self.path) as state:
            arrays = {name: state[name] for name in state.files}
        without_times = json.loads(str(arrays["state"]))
        for callback in without_times["callbacks"].values():
            callback.pop("_started", None)
        kept.append({**arrays, "state": np.array(json.dumps(without_times))})
        if kill == "after an epoch":
            raise Stop

    def made(name: str) -> list[np.ndarray]:
        run.make(str(tmp_path / f"{name}.keras"), str(tmp_path / f"{name}.work"))
        return load_place_net(tmp_path / f"{name}.keras").get_weights()

    done, saved = ImageBatches.step_done, Checkpoint.save
    monkeypatch.setattr(ImageBatches, "step_done", step_done)
    monkeypatch.setattr(Checkpoint, "save", save)
    expected, whole, of_epoch = made("whole"), [*kept], max(steps) + 1
    assert len(whole) == 4 and len(steps) == 3 * of_epoch
    assert recipe.accumulate == 1 or of_epoch % recipe.accumulate, f"{of_epoch} steps: none is left over"
    kept.clear()
    for kill in ("in an epoch", "after an epoch"):  # noqa: B007
        with pytest.raises(Stop):
            made("again")
    assert len(kept) == 2
    kill = ""
    for ours, theirs in zip(made("again"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(kept, whole, strict=True):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    moved = [name for name in whole[0] if not np.array_equal(whole[0][name], whole[2][name])]
    assert moved


def test_a_folder_of_another_run_is_refused(
    planned: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    watch.limit = 1
    with pytest.raises(Stop):
        planned.make(str(tmp_path / "m.keras"), str(tmp_path / "work"))
    recipe = dataclasses.replace(planned.recipe, schedule="constant")
    other = dataclasses.replace(planned, recipe=recipe, whitening_images=[load_dataset("toytown?places=7").database])
    with pytest.raises(UserError, match="holds the state of another run, with another images and schedule; remove it"):
        other.make(str(tmp_path / "m.keras"), str(tmp_path / "work"))


def test_what_can_be_known_is_found_before_anything_is_computed(planned: TrainingRun) -> None:
    planned.check()
    for change, message in (
        ({"backbone": "resnet"}, "'resnet' is not known"),
        ({"cut": "pool9"}, "no layer 'pool9'"),
        ({"whitening": 4000}, "cannot be fitted on"),
    ):
        with pytest.raises(UserError, match=message):
            dataclasses.replace(planned, **change).check()


@pytest.mark.slow
def test_a_killed_tool_goes_on_to_the_same_network(tmp_path: Path) -> None:
    """SIGKILL after the first epoch, and again when the training is done."""
    command = [
        sys.executable, "-c", "from tfplaces.tools import train; train.run()", "--dataset=toytown?places=6",
        "--val_dataset=toytown?places=6", "--backbone=squeezenet", "--cut=fire2", "--input_size=32x48",
        "--clusters=2", "--whitening=4", "--epochs=3",
    ]  # fmt: skip
    subprocess.run([*command, f"--output={tmp_path}/whole"], check=True, timeout=300, capture_output=True)
    for stage in ("training.npz", "trained.keras"):
        process = subprocess.Popen([*command, f"--output={tmp_path}/run"], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 200
        while not (tmp_path / "run" / "train.work" / stage).exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "run" / "model.keras").exists()
    subprocess.run([*command, f"--output={tmp_path}/run"], check=True, timeout=300, capture_output=True)
    whole, run = (load_place_net(tmp_path / name / "model.keras").get_weights() for name in ("whole", "run"))
    for ours, theirs in zip(run, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert os.listdir(tmp_path / "run") == ["model.keras"]
