"""The program behind `evaluation.cost`: opens a model in a process of its own, describes images and times it.

python -m tfplaces.opening.serving '[PATH, [HEIGHT, WIDTH] or null, THREADS]'
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.evaluation import memory
from tfplaces.opening.describers import is_tflite, load_describer


def _serve(path: str, input_size: tuple[int, int] | None, threads: int) -> None:
    """Answers by lines of JSON: what is known after the first call, or the user's mistake; then times as asked for."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print
    if is_tflite(path):
        _bound_memory()
    _import_runtime(path, threads)
    on_linux = sys.platform == "linux"
    if on_linux:
        imported = memory.peak()
        base = memory.reset_peak()
    try:
        describer = load_describer(path, input_size and (input_size[0], input_size[1]), threads)
        # A TFLite model of a fixed batch computes all of it whatever it is given, so it is given as many images.
        batch = getattr(describer, "batch_size", 1) if is_tflite(path) else 1
        images = np.random.default_rng(0).integers(0, 256, (batch, *describer.input_size, 3), np.uint8)
        describer.describe(images)
    except UserError as error:
        print(json.dumps(str(error)), file=answers)
        return
    taken = {}
    if on_linux:
        peak = memory.peak()
        taken = {"peak": max(imported, peak), "above_runtime": peak - base}
    print(json.dumps({"input_size": describer.input_size, "batch": batch, "memory": taken}), file=answers)
    for _ in sys.stdin:
        describer.describe(images)
        start = time.perf_counter()
        describer.describe(images)
        print(json.dumps(1000 * (time.perf_counter() - start)), file=answers)


def _bound_memory() -> None:
    """Lets the process have as much memory as the machine has: a file of few bytes can make LiteRT ask for any amount.

    TensorFlow reserves more than it uses, so it is bounded for LiteRT alone.
    """
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):  # not on Windows and macOS
        import resource

        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY or machine < most:
            resource.setrlimit(resource.RLIMIT_AS, (machine, most))


def _import_runtime(path: str, threads: int) -> None:
    """What `load_describer` would import, and TensorFlow told to compute on the CPU, as LiteRT does."""
    if is_tflite(path):
        import tfplaces.describers.litert

        return
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import tfplaces.describers.keras
    import tfplaces.opening

    if path.lower().endswith(".places"):
        import tfplaces.compression  # noqa: F401


if __name__ == "__main__":
    _serve(*json.loads(sys.argv[1]))
