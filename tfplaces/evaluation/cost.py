"""What a model costs: latency and memory. Each model runs in a fresh process of its own.

Runtimes and their threads are thus kept apart, and a model's memory is its own. Latencies are measured in rounds in
which every model has its turn, so that a busy moment of the machine hits all alike. A turn is two runs, the second of
which counts: the first wakes the process and brings back what the others' turns put out of the caches.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.progress import progress

# The program that opens a model and answers. It stands above this package, as it knows every kind of file.
_SERVER = "tfplaces.opening.serving"
# Warm-up rounds are not counted.
_WARM_UP, _ROUNDS, _MIN_ROUNDS = 3, 30, 5
# Seconds that the rounds may take, once there are `_MIN_ROUNDS`.
_BUDGET = 60.0


@dataclass(frozen=True)
class Latency:
    """How long describing an image takes; a model of a fixed batch shares a full batch's time among its images.

    Attributes:
        ms: milliseconds an image, the median over the rounds.
        ratio: median of the time an image over the first model's in the same round.
        rounds: how many.
        input_size: (height, width) of an image in pixels.
        batch: images that are described in one call, 1 unless the model's batch is fixed at more.
    """

    ms: float
    ratio: float
    rounds: int
    input_size: tuple[int, int]
    batch: int = 1

    @property
    def ms_per_call(self) -> float:
        """Milliseconds until the descriptors of a batch are there: what a user waits for, also with one image."""
        return self.ms * self.batch


@dataclass(frozen=True)
class Memory:
    """Peak resident memory of opening a model and describing a batch, in bytes; what is mapped from a file counts.

    Attributes:
        peak: the largest memory of the whole process.
        above_runtime: above what the process takes when it has imported TensorFlow or LiteRT and nothing more.
    """

    peak: int
    above_runtime: int


def measure_latency(
    paths: Sequence[str | os.PathLike], input_size: tuple[int, int] | None = None, threads: int = 1
) -> list[Latency]:
    """Latency of each model, per image, with a progress bar.

    A TFLite model of a fixed batch is given full batches, and its time is divided by their images. All others are
    given one image at a time.

    Args:
        paths: `.keras`, `.places`, `.tflite` and `.tflpack` files; Keras models run through a compiled call.
        input_size: (height, width) in pixels, instead of each model's own.
        threads: number of threads of each model's runtime.

    Raises:
        ValueError: a model cannot be opened.
    """
    label = f"latency, {threads} thread{'s' * (threads > 1)}"
    with contextlib.ExitStack() as stack, progress(len(paths) + _WARM_UP + _ROUNDS, label, "step") as bar:
        runners = []
        for path in paths:
            runners.append(stack.enter_context(running(path, input_size, threads)))
            bar.update()
        times: list[list[float]] = []
        rounds = _WARM_UP + _ROUNDS
        while len(times) < rounds:
            start = time.monotonic()
            times.append([runner.run() for runner in runners])
            bar.update()
            if len(times) == _WARM_UP:
                affordable = int(_BUDGET / (time.monotonic() - start))
                rounds = _WARM_UP + min(max(affordable, _MIN_ROUNDS), _ROUNDS)
                bar.total = len(paths) + rounds
    counted = np.array(times[_WARM_UP:]) / [runner.batch for runner in runners]
    medians, ratios = np.median(counted, axis=0), np.median(counted / counted[:, :1], axis=0)
    return [
        Latency(float(ms), float(ratio), len(counted), runner.input_size, runner.batch)
        for ms, ratio, runner in zip(medians, ratios, runners, strict=True)
    ]


def measure_memory(
    path: str | os.PathLike, input_size: tuple[int, int] | None = None, threads: int = 1
) -> Memory | None:
    """Peak memory of a fresh process that opens a model and describes one batch. None elsewhere than on Linux.

    Args:
        path: a `.keras`, `.places`, `.tflite` or `.tflpack` file.
        input_size: (height, width) in pixels, instead of the model's own.
        threads: number of threads of the model's runtime.

    Raises:
        ValueError: the model cannot be opened.
    """
    with running(path, input_size, threads) as runner:
        return runner.memory


class _Runner:
    """A model in a process of its own, which has described a batch of images and does so again when told to."""

    def __init__(self, path: str, process: subprocess.Popen, log: IO[str]):
        assert process.stdin is not None and process.stdout is not None  # both are pipes
        self._path, self._process, self._log = path, process, log
        self._told, self._answers = process.stdin, process.stdout
        opened = self._answer()
        self.input_size: tuple[int, int] = tuple(opened["input_size"])
        self.batch: int = opened["batch"]
        self.memory = Memory(**opened["memory"]) if opened["memory"] else None

    def run(self) -> float:
        """Milliseconds of the second of two calls, each of a batch."""
        with contextlib.suppress(BrokenPipeError):  # there is no answer then
            os.write(self._told.fileno(), b"\n")
        return self._answer()

    def _answer(self) -> Any:
        line = self._answers.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            reason = (self._log.read().strip().splitlines() or [f"exit code {code}"])[-1]
            if code == -9:
                reason = "it was killed, most likely for want of memory"
            elif code < 0:
                reason = f"it ends the process by {_signal(-code)}; it is damaged, or made to do so"
            raise UserError(f"{self._path}: cannot be run: {reason}")
        answer = json.loads(line)
        if isinstance(answer, str):
            raise UserError(answer)
        return answer


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


@contextlib.contextmanager
def running(path: str | os.PathLike, input_size: tuple[int, int] | None, threads: int) -> Iterator[_Runner]:
    """A model in a process of its own, which has described a batch of images.

    Raises:
        UserError: the model cannot be opened or run, or it has crashed the process.
    """
    command = [sys.executable, "-m", _SERVER, json.dumps([os.fspath(path), input_size, threads])]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment) as process,
    ):
        try:
            yield _Runner(os.fspath(path), process, log)
        finally:
            process.kill()
