"""Memory that fine-tuning shared weights takes, in fresh processes, of a kernel so large that all else is little."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, threading, time
import keras, numpy as np
from tfplaces.compression import SharedTraining, find_kernels, prune_model, share
import tensorflow as tf

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, resident())
        time.sleep(0.002)

def network(rows, columns):
    zeros = "zeros"  # drawing random numbers takes several times their memory
    layers = [keras.layers.Dense(n, kernel_initializer=zeros) for n in (rows, columns)]
    return keras.Sequential([keras.Input((16,)), *layers])

def run(model, refresh):
    global peak
    for kernel in find_kernels(model):
        kernel.variable.assign(np.random.default_rng(0).standard_normal(kernel.variable.shape, np.float32) / 100)
    x, y = np.ones((4, 16), np.float32), np.ones((4, model.output_shape[1]), np.float32)
    prune_model(model, sparsity=0.5)
    shared = {}
    for kernel in find_kernels(model):
        shared[kernel.name] = share(kernel.variable.numpy(), kernel.channel_axis, 5)
        kernel.variable.assign(shared[kernel.name].weights())
    fitted = SharedTraining(model, shared, refresh)
    fitted.compile(keras.optimizers.Adam(1e-3), "mse")
    peak = resident()
    fitted.fit(x, y, epochs=5, verbose=0)
    fitted.settle()

refresh, rows, columns = int(sys.argv[1]), 16384, 2048
run(network(64, 32), refresh)  # what TensorFlow takes for itself
before = resident()
threading.Thread(target=watch, daemon=True).start()
run(network(rows, columns), refresh)
time.sleep(0.01)
print((peak - before) / (4 * rows * columns))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("refresh, most", [(0, 4), (2, 6.5)])
def test_shared_training_takes_few_times_the_float_weights(refresh: int, most: float) -> None:
    """The peak of fitting and settling over what there was before the network was built: 134 MB of weights.

    Without oneDNN, whose allocator keeps what it once had: with it, building the network shows for ever.
    """
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    command = [sys.executable, "-c", SCRIPT, str(refresh)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr[-2000:]
    assert 2 < float(process.stdout) <= most
