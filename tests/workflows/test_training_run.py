"""A run of the train tool's stages: stopped anywhere it goes on, without doing a stage again, to the same network."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset, cached, load_dataset
from tfplaces.opening import load_place_net
from tfplaces.training import Checkpoint
from tfplaces.workflows import training_run
from tfplaces.workflows.training_recipes import PlaceBatchesRecipe
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
        for name in ("assemble", "train", "add_whitening"):
            monkeypatch.setattr(training_run, name, self._watched(name, getattr(training_run, name)))
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
    for limit, rest in ((1, STAGES[1:]), (3, ["train", "epoch", "epoch", "add_whitening"]), (5, STAGES[5:])):
        watch.limit = limit
        with pytest.raises(Stop):
            weights("b")
        assert not (tmp_path / "b.keras").exists()
        watch.limit = len(STAGES)
        for ours, theirs in zip(weights("b"), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert watch.done == rest, limit
        (tmp_path / "b.keras").unlink()


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
