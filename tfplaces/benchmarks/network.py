"""Measures time and memory of compressing a network of the paper's size: VGG16 + NetVLAD64 + whitening to 4096."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from tfplaces.benchmarks.coding import entropy
from tfplaces.common.errors import UserError
from tfplaces.evaluation.memory import peak, reset_peak, resident

SPARSITY = 0.5
BITS = (5, 8)


def measure_network(whitening: int = 4096, backbone: str = "vgg16", seed: int = 0) -> list[dict]:
    """Prunes half of a network of random weights, shares the rest, writes the file and reads it again.

    That is done for 5 and for 8 bits, each time in a fresh process.

    Args:
        whitening: the number of dimensions of the whitened descriptor.
        backbone: the backbone of the PlaceNet, whose NetVLAD has 64 clusters.
        seed: gives the weights.

    Returns:
        a row for each number of bits. It holds `bits`, `parameters`, `seconds` of each stage (`prune`, `share`, `write`
        and `read`), `peak` of each stage (the bytes of memory above those of the process with its model), `bytes` (the
        size of the file), `entropy_bytes` (what the zero-order entropy of the indices comes to) and `over_entropy`
        (the file over the sum of that and of what it stores uncoded).
    """
    rows = []
    for bits in BITS:
        command = [sys.executable, "-m", "tfplaces.benchmarks.network", json.dumps([bits, whitening, backbone, seed])]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        lines = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None  # a pipe
            for line in process.stdout:
                lines.append(line)
                if not line.startswith("{"):
                    print(line, end="", file=sys.stderr, flush=True)
        if process.returncode:
            raise UserError(f"compressing {backbone} to {bits} bits failed: exit code {process.returncode}")
        rows.append(json.loads(lines[-1]))
    return rows


def _measure(bits: int, whitening: int, backbone: str, seed: int) -> dict:
    import keras

    from tfplaces.compression import Compressed, load_places, prune_model, save_places, share_model
    from tfplaces.models import PlaceNet

    keras.utils.set_random_seed(seed)
    model = PlaceNet(backbone, clusters=64, whitening=whitening)
    kernel = model.get_layer("whitening").kernel
    kernel.assign(_laplace(kernel.shape, seed))
    base, seconds, peaks = resident(), {}, {}

    @contextlib.contextmanager
    def stage(name: str) -> Iterator[None]:
        print(f"{backbone}, {bits} bits: {name}", flush=True)
        reset_peak()
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started
        peaks[name] = peak() - base

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.places")
        with stage("prune"):
            prune_model(model, sparsity=SPARSITY)
        with stage("share"):
            shared = share_model(model, bits)
        with stage("write"):
            size = save_places(path, Compressed(model, shared, {}))
        with stage("read"):
            again = load_places(path)
    for variable, other in zip(model.weights, again.weights, strict=True):
        if not np.array_equal(variable.numpy(), other.numpy()):
            raise RuntimeError(f"{variable.path} is not what was written")
    coded = sum(s.indices.size for s in shared.values())
    entropy_bytes = sum(entropy(s.indices.reshape(-1)) * s.indices.size / 8 for s in shared.values())
    uncoded = 4 * (model.count_params() - coded) + sum(s.levels.nbytes + s.scales.nbytes for s in shared.values())
    return {"bits": bits, "parameters": model.count_params(), "seconds": seconds, "peak": peaks, "bytes": size,
            "entropy_bytes": entropy_bytes, "over_entropy": size / (entropy_bytes + uncoded)}  # fmt: skip


def _laplace(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Float32 weights of RMS 0.01, drawn row by row, as float64 draws of all would be counted as memory."""
    rng, weights = np.random.default_rng(seed), np.empty(shape, np.float32)
    for row in weights:
        row[:] = rng.laplace(0, 0.01 / np.sqrt(2), row.shape)
    return weights


if __name__ == "__main__":
    print(json.dumps(_measure(*json.loads(sys.argv[1]))))
