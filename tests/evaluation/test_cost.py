"""Latency: rounds and ratios with models of known speed. Memory and latency of real models in their processes."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest

from tfplaces.evaluation import cost, measure_latency, measure_memory

pytestmark = pytest.mark.usefixtures("converter_here")


class FakeRunner:
    """A model whose warm-up is slow and whose runs take 6 or 2 ms times the number of the round: it gets busier."""

    log: ClassVar[list[str]] = []
    clock = 0.0

    def __init__(self, path: str, input_size: tuple[int, int], threads: int):
        assert (input_size, threads) == ((4, 6), 2)
        self.name, self.input_size, self.runs = path, input_size, 0
        self.batch = 2 if path == "batch of 2" else 1

    def run(self) -> float:
        FakeRunner.log.append(self.name)
        FakeRunner.clock += 4
        self.runs += 1
        if self.runs <= 3:
            return 1000.0
        # Something else disturbs the fast one in every third round.
        return self.runs * {"slow": 6.0, "batch of 2": 6.0, "fast": 2.0 if self.runs % 3 else 50.0}[self.name]

    def __enter__(self) -> FakeRunner:
        return self

    def __exit__(self, *exception: object) -> None:
        FakeRunner.log.append(f"{self.name} ends")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(cost, "running", FakeRunner)
    monkeypatch.setattr(cost, "time", SimpleNamespace(monotonic=lambda: FakeRunner.clock))
    monkeypatch.setattr(cost, "_BUDGET", 1000.0)
    monkeypatch.setattr(FakeRunner, "log", [])
    return FakeRunner.log


def test_runs_are_interleaved_and_ratios_are_those_of_rounds(log: list[str]) -> None:
    slow, fast = measure_latency(["slow", "fast"], (4, 6), 2)
    assert log == ["slow", "fast"] * 33 + ["fast ends", "slow ends"]
    # Rounds 4 to 33 are counted: 6 x 18.5.
    assert (slow.ms, slow.ratio, slow.rounds, slow.input_size) == (111, 1, 30, (4, 6))
    # Of 2 x (4, 5, 7, ..., 32) and ten larger ones, the middle two are 2 x 25 and 2 x 26. Over 111 that were 0.46.
    assert fast.ms == 51 and fast.ratio == pytest.approx(1 / 3)


def test_the_time_of_a_batch_is_shared_among_its_images(log: list[str]) -> None:
    """A call that takes as long as the slow model's describes two images."""
    slow, batch = measure_latency(["slow", "batch of 2"], (4, 6), 2)
    assert (batch.ms, batch.ratio, batch.batch, batch.ms_per_call) == (111 / 2, 0.5, 2, 111)
    assert slow.batch == 1 and slow.ms_per_call == slow.ms


@pytest.mark.parametrize(("budget", "rounds"), [(0.0, 5), (50.0, 12), (1000.0, 30)])
def test_rounds_are_what_the_budget_allows(
    budget: float, rounds: int, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_BUDGET", budget)
    (fast,) = measure_latency(["fast"], (4, 6), 2)
    assert fast.rounds == rounds and log == ["fast"] * (3 + rounds) + ["fast ends"]


SERVE = """
import types
from tfplaces.opening import serving

class Describer:
    input_size, runs = (4, 6), 0
    def describe(self, images):
        assert images.shape == (1, 4, 6, 3) and images.dtype == "uint8"
        print("a library that talks")
        self.runs += 1
        clock[0] += {0: 0.5, 1: 0.002}[self.runs % 2]  # the first run of every turn takes long

def load(path, input_size, threads):
    assert (path, input_size, threads) == ("m.tflite", (4, 6), 2)
    return Describer()

clock = [0.0]
serving.time = types.SimpleNamespace(perf_counter=lambda: clock[0])
serving.load_describer = load
serving._serve("m.tflite", [4, 6], 2)
"""


def test_of_two_runs_the_second_counts_and_no_other_output_disturbs() -> None:
    done = subprocess.run([sys.executable, "-c", SERVE], input="\n" * 3, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    opened, *times = map(json.loads, done.stdout.splitlines())
    assert opened["input_size"] == [4, 6] and times == pytest.approx([2, 2, 2])
    assert done.stderr.count("a library that talks") == 7


PEAKS = """
import numpy as np
from tfplaces.opening import serving

class Describer:
    input_size = (4, 6)
    def describe(self, images):
        np.ones(30_000_000, np.uint8)

def load(path, input_size, threads):
    np.ones(80_000_000, np.uint8)
    return Describer()

serving.load_describer = load
serving._import_runtime = lambda path, threads: np.ones(400_000_000, np.uint8)
serving._serve("m.tflite", None, 1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_a_peak_of_the_import_does_not_hide_the_models() -> None:
    done = subprocess.run([sys.executable, "-c", PEAKS], input="", capture_output=True, text=True, timeout=60)
    memory = json.loads(done.stdout)["memory"]
    assert memory["above_runtime"] == pytest.approx(80e6, abs=10e6)
    assert 400e6 < memory["peak"] < 500e6


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The same small network as every kind of file, and a deeper one."""
    import keras

    from tfplaces import coding
    from tfplaces.compression import Recipe, compress, save_places
    from tfplaces.lite import convert
    from tfplaces.models import PlaceNet

    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    # 10 MB: 8192 x 320 weights of the whitening.
    model = PlaceNet("squeezenet", clusters=64, whitening=320, input_size=(64, 96), cut="fire2")
    model.save(folder / "m.keras")
    convert(model, folder / "m.tflite", "float32")
    coding.pack(folder / "m.tflite", folder / "m.tflpack")
    convert(PlaceNet("squeezenet", clusters=2, input_size=(64, 96), cut="fire5"), folder / "deep.tflite", "float32")
    save_places(folder / "m.places", compress(model, Recipe(bits=4)))
    paths = {path.name.replace(".", "_"): path for path in folder.iterdir()}
    return SimpleNamespace(folder=folder, **paths)


@pytest.mark.slow
def test_latency_of_real_models(models: SimpleNamespace) -> None:
    shallow, again, deep = measure_latency([models.m_tflite, models.m_tflite, models.deep_tflite])
    assert shallow.ratio == 1 and 0.1 < again.ratio < 10 and min(shallow.ms, deep.ms, deep.ratio) > 0
    assert shallow.input_size == deep.input_size == (64, 96)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_memory_is_that_of_one_model_above_its_runtime(models: SimpleNamespace) -> None:
    small, large = measure_memory(models.deep_tflite), measure_memory(models.m_tflite, threads=2)
    packed = measure_memory(models.m_tflpack)
    # The weights are resident: 10 MB of whitening.
    assert 10e6 < large.above_runtime < 60e6
    assert large.above_runtime - small.above_runtime > 5e6
    # Unpacked in memory, instead of mapped from the file.
    assert packed.above_runtime > large.above_runtime
    for memory in (small, large, packed):
        # Python with numpy and LiteRT, no TensorFlow.
        assert 20e6 < memory.peak - memory.above_runtime < 200e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_memory_and_latency_of_keras_models_at_another_size(models: SimpleNamespace) -> None:
    memory = measure_memory(models.m_keras, (48, 64))
    # TensorFlow's import does not hide the model.
    assert 10e6 < memory.above_runtime < 200e6 < memory.peak - memory.above_runtime
    first, second = measure_latency([models.m_keras, models.m_places], (48, 64), threads=2)
    assert 0.1 < second.ratio < 10  # the same network
    assert first.input_size == second.input_size == (48, 64)


def test_memory_is_none_elsewhere(monkeypatch: pytest.MonkeyPatch, models: SimpleNamespace) -> None:
    code = (
        "import sys; sys.platform = 'elsewhere'; from tfplaces.opening.serving import _serve; "
        "_serve(sys.argv[1], None, 1)"
    )
    popen = subprocess.Popen
    monkeypatch.setattr(
        cost.subprocess,
        "Popen",
        lambda command, **kwargs: popen([command[0], "-c", code, json.loads(command[3])[0]], **kwargs),
    )
    assert measure_memory(models.m_tflite) is None
    with pytest.raises(ValueError, match=r"none\.tflite: No such file"):
        measure_memory("none.tflite")


@pytest.mark.parametrize("measure", [measure_memory, lambda path, size=None: measure_latency([path], size)])
def test_a_model_that_cannot_be_opened_is_one_line(measure, models: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"^.*m\.tflite: takes images of 64x96 only.*$"):
        measure(models.m_tflite, (32, 32))
    with pytest.raises(ValueError, match=r"^.*none\.tflite: No such file.*$"):
        measure(models.folder / "none.tflite")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_process_is_left(error: type, monkeypatch: pytest.MonkeyPatch, models: SimpleNamespace) -> None:
    processes = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            if len(processes) == 2:
                raise error
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(cost.subprocess, "Popen", Popen)
    with pytest.raises(error):
        measure_latency([models.m_tflite] * 3)
    assert [process.returncode for process in processes] == [-9, -9]
    processes.clear()
    measure_memory(models.m_tflite)
    assert [process.returncode for process in processes] == [-9]


def test_a_process_that_dies_is_said_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen

    def die(code: str):
        return lambda command, **kwargs: popen([command[0], "-c", code], **kwargs)

    monkeypatch.setattr(cost.subprocess, "Popen", die("import os; os.write(2, b'a log'); os.kill(os.getpid(), 9)"))
    with pytest.raises(ValueError, match=r"m\.tflite: cannot be run: it was killed, most likely for want of memory"):
        measure_memory("m.tflite")
    monkeypatch.setattr(cost.subprocess, "Popen", die("import os; os.kill(os.getpid(), 11)"))
    with pytest.raises(ValueError, match=r"^m\.tflite: cannot be run: it ends the process by SIGSEGV; it is damaged"):
        measure_memory("m.tflite")
    # After it was opened.
    opened = 'print(\'{"input_size": [4, 6], "batch": 1, "memory": null}\', flush=True)'
    monkeypatch.setattr(cost.subprocess, "Popen", die(f"{opened}; input(); raise RuntimeError('out of order')"))
    with pytest.raises(ValueError, match=r"^m\.tflite: cannot be run: RuntimeError: out of order$"):
        measure_latency(["m.tflite"])
