"""Measures latency, memory and bytes of models side by side."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict

from tfplaces import coding
from tfplaces.common.progress import progress
from tfplaces.evaluation import measure_latency, measure_memory
from tfplaces.opening import try_model


def measure_models(
    paths: Sequence[str], input_size: tuple[int, int] | None = None, threads: Sequence[int] = (1,)
) -> list[dict]:
    """Measures models beside the first of them.

    Args:
        paths: `.keras`, `.places`, `.tflite` and `.tflpack` files.
        input_size: (height, width) in pixels, instead of each model's own.
        threads: numbers of threads to measure latency with; memory is measured with the first.

    Returns:
        a row for each model. It holds `model`, the path from the folder that holds all models; `input_size`; `latency`,
        which holds for each number of `threads` the median `ms` of an image, its `ratio` to the first model's, the
        number of images in a call, `batch`, the median `ms_per_call` and the number of `rounds`; `memory` in bytes, see
        `tfplaces.evaluation.Memory`, None on other systems than Linux; `file_bytes`; and `packed_bytes`, the size that
        a `.tflite` has as a `.tflpack` and that a compressed file has as it is, None for a `.keras`.

    Raises:
        ValueError: a model cannot be opened; known before anything that takes long.
    """
    for path in paths:
        try_model(path, input_size)  # in a moment; to be known before TensorFlow's minutes
    memory = []
    with progress(len(paths), "memory", "model") as bar:
        for path in paths:
            memory.append(measure_memory(path, input_size, threads[0]))
            bar.update()
    packed = {path: _packed_bytes(path) for path in dict.fromkeys(paths)}
    latencies = [measure_latency(paths, input_size, count) for count in threads]
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    rows = []
    for path, taken, *found in zip(paths, memory, *latencies, strict=True):
        rows.append(
            {
                "model": os.path.relpath(path, folder),
                "input_size": found[0].input_size,
                "latency": [
                    {
                        "threads": count,
                        "ms": latency.ms,
                        "batch": latency.batch,
                        "ms_per_call": latency.ms_per_call,
                        "ratio": latency.ratio,
                        "rounds": latency.rounds,
                    }
                    for count, latency in zip(threads, found, strict=True)
                ],
                "memory": asdict(taken) if taken else None,
                "file_bytes": os.path.getsize(path),
                "packed_bytes": packed[path],
            }
        )
    return rows


def _packed_bytes(path: str) -> int | None:
    """The bytes to download: of a `.tflite` when it is packed, of a compressed file as it is; None for a `.keras`."""
    if path.lower().endswith(".keras"):
        return None
    if not path.lower().endswith(".tflite"):
        return os.path.getsize(path)
    with tempfile.TemporaryDirectory() as folder, progress(os.path.getsize(path), "packing", "byte") as bar:

        def report(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        return coding.pack(path, os.path.join(folder, "model.tflpack"), progress=report)
