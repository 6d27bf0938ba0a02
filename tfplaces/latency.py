"""Latency of models side by side: runs are interleaved, so that a busy moment of the machine hits all alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

# Rounds in which every model runs once; warm-up rounds are not counted.
_WARM_UP, _ROUNDS = 3, 30
# Seconds after which no further round begins, once there are five.
_BUDGET = 60.0


def measure_latency(
    paths: Sequence[str | os.PathLike], input_size: tuple[int, int] | None = None, threads: int = 1
) -> list[float]:
    """Median milliseconds to describe one image, for each model, in a fresh process.

    Args:
        paths: `.keras`, `.places` and `.tflite` files; Keras models run through a compiled call.
        input_size: (height, width) in pixels, instead of each model's own.
        threads: of each runtime.

    Raises:
        ValueError: a model cannot be opened.
    """
    request = {"paths": [os.fspath(p) for p in paths], "input_size": input_size, "threads": threads}
    process = subprocess.run(
        [sys.executable, "-m", "tfplaces.latency", json.dumps(request)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if process.returncode:
        reason = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        raise ValueError(f"measuring latency failed: {reason[-1]}")
    return json.loads(process.stdout.splitlines()[-1])


def _measure(paths: Sequence[str], input_size: tuple[int, int] | None, threads: int) -> list[float]:
    if not all(path.endswith(".tflite") for path in paths):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    from tfplaces.describers import load_describer

    describers = [load_describer(path, input_size, threads) for path in paths]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (1, *d.input_size, 3), np.uint8) for d in describers]
    times = []
    start = time.monotonic()
    for _ in range(_WARM_UP + _ROUNDS):
        if len(times) >= _WARM_UP + 5 and time.monotonic() - start > _BUDGET:
            break
        times.append([_milliseconds(d, image) for d, image in zip(describers, images, strict=True)])
    return np.median(times[_WARM_UP:], axis=0).tolist()


def _milliseconds(describer, image: np.ndarray) -> float:
    start = time.perf_counter()
    describer.describe(image)
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    print(json.dumps(_measure(**json.loads(sys.argv[1]))))
