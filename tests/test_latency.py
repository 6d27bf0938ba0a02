"""Latency: rounds and medians with describers of known speed, and a real model in a process of its own."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tfplaces import describers, latency
from tfplaces.latency import measure_latency


class Sleeper:
    """Takes a few milliseconds for an image; every tenth run is disturbed."""

    input_size = (4, 6)

    def __init__(self, name: str, log: list[str]):
        self.name, self.log, self.runs = name, log, 0

    def describe(self, images: np.ndarray) -> None:
        assert images.shape == (1, 4, 6, 3) and images.dtype == np.uint8
        self.log.append(self.name)
        self.runs += 1
        time.sleep(0.05 if self.runs % 10 == 0 else {"slow": 0.006, "fast": 0.002}[self.name])


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    log: list[str] = []

    def load(path: str, input_size: tuple[int, int] | None, threads: int) -> Sleeper:
        assert (input_size, threads) == ((4, 6), 2)
        return Sleeper(path.partition(".")[0], log)

    monkeypatch.setattr(describers, "load_describer", load)
    return log


def test_runs_are_interleaved_and_medians_withstand_disturbance(log: list[str]) -> None:
    slow, fast = latency._measure(["slow.tflite", "fast.tflite"], (4, 6), 2)
    assert 6 <= slow < 20 and 2 <= fast < slow
    assert log == ["slow", "fast"] * 33


def test_slow_models_are_measured_at_least_five_times(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_BUDGET", 0.0)
    latency._measure(["fast.tflite"], (4, 6), 2)
    assert log == ["fast"] * 8


def test_models_in_a_process_of_their_own(tmp_path: Path) -> None:
    import keras

    from tfplaces.lite import convert
    from tfplaces.models import PlaceNet

    keras.utils.set_random_seed(0)
    paths = []
    for cut in ("fire2", "fire5"):
        model = PlaceNet("squeezenet", clusters=2, input_size=(64, 96), cut=cut)
        convert(model, tmp_path / f"{cut}.tflite", "float32")
        paths.append(tmp_path / f"{cut}.tflite")
    shallow, deep = measure_latency(paths)
    assert 0 < shallow < deep < 1000
    with pytest.raises(
        ValueError, match=r"measuring latency failed: ValueError: .*takes images of 64x96 only"
    ) as error:
        measure_latency(paths, (32, 32))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"none\.tflite: No such file"):
        measure_latency([tmp_path / "none.tflite"])


@pytest.mark.slow
def test_keras_and_places_models(tmp_path: Path) -> None:
    from tfplaces.compression import compress, save_places
    from tfplaces.models import PlaceNet

    model = PlaceNet("squeezenet", clusters=2, input_size=(64, 96), cut="fire2")
    model.save(tmp_path / "m.keras")
    save_places(tmp_path / "m.places", compress(model, bits=4))
    first, second = measure_latency([tmp_path / "m.keras", tmp_path / "m.places"], (48, 64))
    assert 0.2 < first / second < 5  # the same network
